package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

// lookupDocument is the answer to GET /lookup.
type lookupDocument struct {
	Channels  []string           `json:"channels"`
	Producers []producerDocument `json:"producers"` // without sessions
}

// offeredBy reports whether a producer has that broadcast address and HTTP port.
func (d lookupDocument) offeredBy(node string) bool {
	for _, p := range d.Producers {
		if p.httpAddress() == node || fmt.Sprintf("%s:%d", p.BroadcastAddress, p.HTTPPort) == node {
			return true
		}
	}
	return false
}

func newLookup(o *options) *cobra.Command {
	return o.watchable(&cobra.Command{
		Use:   "lookup TOPIC",
		Short: "Shows a topic's producers and channels, as consumers get them",
		Args:  exactly("TOPIC"), ValidArgsFunction: o.live(findTopics),
		RunE: func(cmd *cobra.Command, args []string) error { return o.lookup(cmd.Context(), args[0]) },
	})
}

func (o *options) lookup(ctx context.Context, topic string) error {
	path := "/lookup?topic=" + url.QueryEscape(topic)
	if o.stale {
		path += "&consistency=stale"
	}
	a, err := o.get(ctx, path)
	if err != nil {
		return err
	}
	if a.status == http.StatusNotFound && bytes.Contains(a.body, []byte("TOPIC_NOT_FOUND")) {
		return fmt.Errorf("topic %q is not known: no nsqd has registered it and nobody created it", topic)
	}
	if a.status != http.StatusOK {
		return a.failure()
	}
	o.printAge(a)
	if o.output == formatJSON {
		o.printJSON(a)
		return nil
	}
	var document lookupDocument
	if err := a.decode("a lookup", &document); err != nil {
		return err
	}
	o.printLookup(topic, document)
	return nil
}

func (o *options) printLookup(topic string, d lookupDocument) {
	line := fmt.Sprintf("%s: %s, %s", topic, plural(len(d.Producers), "producer"), plural(len(d.Channels), "channel"))
	if len(d.Channels) > 0 {
		line += ": " + strings.Join(d.Channels, " ")
	}
	o.sentence("%s", line)
	l := listing{columns: columns("PRODUCER", "HTTP PORT", "HOST NAME", "VERSION")}
	for _, p := range d.Producers {
		l.add(net.JoinHostPort(p.BroadcastAddress, strconv.Itoa(p.TCPPort)), p.HTTPPort, p.Hostname, p.Version)
	}
	o.print(l)
}
