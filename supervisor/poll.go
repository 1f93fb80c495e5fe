package supervisor

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	pollInterval = 20 * time.Millisecond
	probeTimeout = 2 * time.Second
	maxAnswer    = 64 << 20
)

// Poll calls check until it returns nil or ctx ends; then it returns an error
// with the last one of check.
func Poll(ctx context.Context, check func(context.Context) error) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	var last error
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		if last == nil || ctx.Err() == nil { // an error of the ended ctx itself says nothing
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; last: %w", context.Cause(ctx), last)
		case <-ticker.C:
		}
	}
}

// Get fetches a URL and returns status and body.
func Get(ctx context.Context, url string) (status int, body []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, nil, err
	}
	request.Close = true // a connection kept to a killed daemon would fail the next call
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	body, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	return response.StatusCode, body, err
}

// WantOK returns nil when the URL answers 200.
func WantOK(ctx context.Context, url string) error {
	status, body, err := Get(ctx, url)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("GET %s: status %d: %.200s", url, status, body)
	}
	return nil
}
