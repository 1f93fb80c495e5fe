package httpapi

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Ping asks GET /ping of a peer, or of an nsqd, at host:port, and returns what
// keeps it from answering in time.
func Ping(ctx context.Context, address string, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/ping", nil)
	if err != nil {
		return err
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", response.StatusCode)
	}
	_, err = io.CopyN(io.Discard, response.Body, int64(len("OK")))
	return err
}
