package main

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
)

func newDebug(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "debug [FILE]",
		Short: "Saves what somebody needs who is to find out what ails a peer",
		Long: "Saves what somebody needs who is to find out what ails a peer, as a tar.gz that only you may read: its view\n" +
			"of the cluster, check, settings, metrics, goroutines, heap profile and the latest log lines. It holds no\n" +
			"secret, but names of topics and hosts. -a says which peer; FILE is made in this directory if it is not given.",
		Args: atMost("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := "lookupd-debug-" + time.Now().UTC().Format("20060102T150405Z") + ".tar.gz"
			if len(args) > 0 {
				path = args[0]
			}
			return o.debug(cmd.Context(), path)
		},
	}
}

func (o *options) debug(ctx context.Context, path string) error {
	o.timeout = max(o.timeout, operateTimeout) // it asks the other peers too
	size, err := o.saveFile(path, func(w io.Writer) error {
		response, err := o.openStream(ctx, "/v1/bundle")
		if err != nil {
			return err
		}
		defer response.Body.Close()
		body := o.counting("Received", response.Body, response.ContentLength)
		defer body.done()
		unzipped, err := gzip.NewReader(io.TeeReader(body, w))
		if err != nil {
			return fmt.Errorf("what came is no bundle: %w", err)
		}
		_, err = io.Copy(io.Discard, unzipped) // its checksum says whether all came
		return err
	})
	if err == nil {
		fmt.Fprintf(o.err, "Saved %s, %d bytes. Look into it before you hand it on.\n", path, size)
	}
	return err
}
