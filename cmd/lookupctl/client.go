package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// maxDocument bounds an answer: /lookup and /v1/status stay far below.
const maxDocument = 64 << 20

// answer is what a peer said.
type answer struct {
	address string
	status  int
	header  http.Header
	body    []byte
}

// get asks the addresses in order until one answers something other than an
// error of its own: what 200 and 404 say is final, a peer without a quorum may
// have a neighbour with one.
func (o *options) get(ctx context.Context, path string) (answer, error) {
	deadline := time.Now().Add(o.timeout)
	var last answer
	var errs []error
	for i, address := range o.addresses {
		share := time.Until(deadline) / time.Duration(len(o.addresses)-i)
		a, err := getFrom(ctx, address, path, share)
		switch {
		case err != nil:
			errs = append(errs, err)
		case a.status >= http.StatusInternalServerError:
			last = a
		default:
			return a, nil
		}
	}
	if last.status != 0 {
		return last, nil
	}
	return answer{}, fmt.Errorf("no peer answers: %w; is lookupd running there? -a names other addresses", errors.Join(errs...))
}

func getFrom(ctx context.Context, address, path string, timeout time.Duration) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(address, "/")+path, nil)
	if err != nil {
		return answer{}, usageError{err}
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxDocument))
	if err != nil {
		return answer{}, fmt.Errorf("%s: %w", address, err)
	}
	return answer{address: address, status: response.StatusCode, header: response.Header, body: body}, nil
}

// failure turns an answer that is not 200 into an error with the exit code that
// it deserves.
func (a answer) failure() error {
	var document struct{ Message string }
	_ = json.Unmarshal(a.body, &document) // an answer without a message is shown by its status
	switch document.Message {
	case "NO_QUORUM":
		return exitError{exitNoQuorum, a.address + " has no quorum, so it cannot vouch for an answer; --stale shows what it has"}
	case "NOT_READY":
		return exitError{exitFailed, a.address + " is starting and has not caught up yet; ask again, or another peer with -a"}
	case "":
		return fmt.Errorf("%s answered %d", a.address, a.status)
	}
	return fmt.Errorf("%s answered %d %s", a.address, a.status, document.Message)
}
