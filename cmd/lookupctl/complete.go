package main

import (
	"context"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// completeWithin bounds a completion: somebody waits with a finger on the key.
const completeWithin = 300 * time.Millisecond

type completion func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective)

// live completes the first argument with what list finds now.
func (o *options) live(list func(context.Context, *options, string) []string) completion {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		quick := *o
		if err := quick.complete(os.Getenv); err != nil { // cobra runs no hooks here
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		quick.timeout, quick.stale, quick.err = completeWithin, true, io.Discard
		ctx, cancel := context.WithTimeout(cmd.Context(), completeWithin)
		defer cancel()
		var fit []string
		for _, name := range list(ctx, &quick, typed) {
			if strings.HasPrefix(name, typed) {
				fit = append(fit, name)
			}
		}
		return fit, cobra.ShellCompDirectiveNoFileComp
	}
}

// Without an answer in time nothing is offered; the command itself will say why.

func (o *options) completePeers(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	return o.live(func(ctx context.Context, o *options, _ string) (names []string) {
		_, s, _ := o.statusDocument(ctx)
		for _, p := range s.Peers {
			names = append(names, peerName(p, s.Peers))
		}
		return names
	})(cmd, args, typed)
}

func (o *options) completeTopics(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	return o.live(func(ctx context.Context, o *options, _ string) []string {
		var d struct{ Topics []string }
		_, _ = o.document(ctx, o.read("/topics", nil), "a list", &d)
		return d.Topics
	})(cmd, args, typed)
}

func (o *options) completeProducers(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	return o.live(func(ctx context.Context, o *options, typed string) (ids []string) {
		d, _ := o.allProducers(ctx, typed, "")
		for _, p := range d.Producers {
			ids = append(ids, p.ID)
		}
		return ids
	})(cmd, args, typed)
}
