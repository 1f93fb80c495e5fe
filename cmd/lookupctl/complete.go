package main

import (
	"context"
	"io"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// completeWithin bounds a completion: somebody waits with a finger on the key.
const completeWithin = 300 * time.Millisecond

type completion func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective)

// finder finds, at a peer, what can stand after args; typed is how it begins.
type finder func(ctx context.Context, o *options, args []string, typed string) []string

// live completes each argument with what its finder finds now.
func (o *options) live(finders ...finder) completion {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) >= len(finders) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		find := finders[len(args)]
		quick := *o
		if err := quick.complete(os.Getenv); err != nil { // cobra runs no hooks here
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		quick.timeout, quick.stale, quick.err = completeWithin, true, io.Discard
		ctx, cancel := context.WithTimeout(cmd.Context(), completeWithin)
		defer cancel()
		var fit []string
		for _, name := range find(ctx, &quick, args, typed) {
			if strings.HasPrefix(name, typed) {
				fit = append(fit, name)
			}
		}
		return fit, cobra.ShellCompDirectiveNoFileComp
	}
}

// Without an answer in time nothing is offered; the command itself will say why.

func findPeers(ctx context.Context, o *options, _ []string, _ string) (names []string) {
	_, s, _ := o.statusDocument(ctx)
	for _, p := range s.Peers {
		names = append(names, peerName(p, s.Peers))
	}
	return names
}

func findTopics(ctx context.Context, o *options, _ []string, _ string) []string {
	var d struct{ Topics []string }
	_, _ = o.document(ctx, o.read("/topics", nil), "a list", &d)
	return d.Topics
}

// findChannels finds those of the topic in args.
func findChannels(ctx context.Context, o *options, args []string, _ string) []string {
	var d struct{ Channels []string }
	_, _ = o.document(ctx, o.read("/channels", url.Values{"topic": args}), "a list", &d)
	return d.Channels
}

// findNodes finds the broadcast addresses and HTTP ports of the topic in args.
func findNodes(ctx context.Context, o *options, args []string, _ string) (nodes []string) {
	var d lookupDocument
	_, _ = o.document(ctx, o.read("/lookup", url.Values{"topic": args}), "a lookup", &d)
	for _, p := range d.Producers {
		nodes = append(nodes, p.httpAddress())
	}
	return nodes
}

func findProducers(ctx context.Context, o *options, _ []string, typed string) (ids []string) {
	d, _ := o.allProducers(ctx, typed, "")
	for _, p := range d.Producers {
		ids = append(ids, p.ID)
	}
	return ids
}
