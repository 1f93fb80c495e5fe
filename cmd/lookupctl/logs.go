package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

func newLogs(o *options) *cobra.Command {
	var follow bool
	var lines int
	cmd := &cobra.Command{
		Use:   "logs",
		Short: "Shows the latest lines of a peer's log",
		Long: "Shows the latest lines of a peer's log, from its memory: it keeps some thousand. Who reads too slowly\n" +
			"misses lines, and is told how many. -a says which peer.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.logs(cmd.Context(), lines, follow) },
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what is logged from now on")
	cmd.Flags().IntVarP(&lines, "lines", "n", 100, "number of lines to begin with")
	return cmd
}

func (o *options) logs(ctx context.Context, lines int, follow bool) error {
	values := url.Values{"lines": {strconv.Itoa(lines)}}
	if follow {
		values.Set("follow", "")
	}
	response, err := o.openStream(ctx, "/v1/logs?"+values.Encode())
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, err = io.Copy(o.out, response.Body)
	switch {
	case ctx.Err() != nil:
		return nil // that is how one stops to follow
	case err != nil:
		return err
	case follow:
		return fmt.Errorf("%s has ended the log: it stops", response.Request.URL.Host)
	}
	return nil
}

// openStream asks the addresses in order, as get does, each for --timeout; the
// answer may then take as long as it takes.
func (o *options) openStream(ctx context.Context, path string) (*http.Response, error) {
	var errs []error
	for _, address := range o.addresses {
		response, final, err := o.openStreamAt(ctx, address, path)
		if err == nil {
			return response, nil
		}
		errs = append(errs, err)
		if final {
			break
		}
	}
	return nil, errors.Join(errs...)
}

// openStreamAt also reports whether an error is what every peer would say.
func (o *options) openStreamAt(ctx context.Context, address, path string) (r *http.Response, final bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	late := time.AfterFunc(o.timeout, cancel)
	response, err := o.open(ctx, http.MethodGet, address, path, nil)
	late.Stop()
	if err != nil {
		cancel()
		return nil, false, err
	}
	if response.StatusCode == http.StatusOK {
		response.Body = cancelling{response.Body, cancel}
		return response, false, nil
	}
	defer cancel()
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxDocument))
	if err != nil {
		return nil, false, err
	}
	final = response.StatusCode < http.StatusInternalServerError
	return nil, final, answer{address: address, status: response.StatusCode, body: body}.failure()
}

// cancelling ends the request when its answer is closed.
type cancelling struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (c cancelling) Close() error {
	c.cancel()
	return c.ReadCloser.Close()
}
