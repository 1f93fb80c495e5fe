package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"github.com/spf13/cobra"
)

func newTopics(o *options) *cobra.Command {
	return o.watchable(&cobra.Command{
		Use: "topics", Short: "Lists the topics", Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.names(cmd.Context(), "/topics", "TOPIC", nil) },
	})
}

func newChannels(o *options) *cobra.Command {
	return o.watchable(&cobra.Command{
		Use: "channels TOPIC", Short: "Lists the channels of a topic", Args: exactly("TOPIC"), ValidArgsFunction: o.live(findTopics),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.names(cmd.Context(), "/channels", "CHANNEL", url.Values{"topic": args})
		},
	})
}

// names lists what /topics or /channels answers.
func (o *options) names(ctx context.Context, path, title string, values url.Values) error {
	var d struct{ Topics, Channels []string }
	a, err := o.document(ctx, o.read(path, values), "a list", &d)
	if err != nil {
		return err
	}
	o.printAge(a)
	if o.output == formatJSON {
		o.printJSON(a)
		return nil
	}
	l := listing{columns: columns(title)}
	for _, name := range append(d.Topics, d.Channels...) {
		l.add(name)
	}
	o.print(l)
	return nil
}

// read adds the wanted consistency to a path.
func (o *options) read(path string, values url.Values) string {
	if values == nil {
		values = url.Values{}
	}
	if o.stale {
		values.Set("consistency", "stale")
	}
	if len(values) == 0 {
		return path
	}
	return path + "?" + values.Encode()
}

func newTopic(o *options) *cobra.Command {
	cmd := group("topic", "Shows or changes a topic")
	show := newLookup(o)
	show.Use = "show TOPIC"
	cmd.AddCommand(show,
		o.newWrite("create TOPIC", "Creates a topic, before any nsqd declares it", "/topic/create", "topic"),
		o.newWrite("delete TOPIC", "Deletes a topic with its channels; an nsqd that has it declares it again", "/topic/delete", "topic"),
		o.newWrite("tombstone TOPIC NODE", "Hides a producer (its broadcast address and HTTP port) from a topic for a while", "/topic/tombstone", "topic", "node"),
	)
	return cmd
}

func newChannel(o *options) *cobra.Command {
	cmd := group("channel", "Creates or deletes a channel")
	cmd.AddCommand(
		o.newWrite("create TOPIC CHANNEL", "Creates a channel, and its topic", "/channel/create", "topic", "channel"),
		o.newWrite("delete TOPIC CHANNEL", "Deletes a channel; an nsqd that has it declares it again", "/channel/delete", "topic", "channel"),
	)
	return cmd
}

// newWrite returns one of NSQ's writes; its arguments are those parameters.
func (o *options) newWrite(use, short, path string, parameters ...string) *cobra.Command {
	var dryRun bool
	finders := map[string]finder{"topic": findTopics, "channel": findChannels, "node": findNodes}
	var find []finder
	for _, name := range parameters {
		find = append(find, finders[name])
	}
	cmd := &cobra.Command{
		Use: use, Short: short, Args: exactly(wordsAfterFirst(use)...), ValidArgsFunction: o.live(find...),
		RunE: func(cmd *cobra.Command, args []string) error {
			values := url.Values{}
			for i, name := range parameters {
				values.Set(name, args[i])
			}
			return o.write(cmd.Context(), cmd.Name(), path, values, dryRun)
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would be")
	return cmd
}

func (o *options) write(ctx context.Context, verb, path string, values url.Values, dryRun bool) error {
	what := "topic " + values.Get("topic")
	if channel := values.Get("channel"); channel != "" {
		what = fmt.Sprintf("channel %s of %s", channel, what)
	}
	if node := values.Get("node"); node != "" {
		what = fmt.Sprintf("%s in %s", node, what)
	}
	if verb != "create" {
		consequence, err := o.consequence(ctx, verb, what, values)
		if err != nil {
			return err
		}
		if dryRun {
			fmt.Fprintln(o.out, consequence)
			return nil
		}
		fmt.Fprintln(o.err, consequence)
		if err := o.confirmed(ctx, fmt.Sprintf("Really %s %s?", verb, what)); err != nil {
			return err
		}
	} else if dryRun {
		fmt.Fprintf(o.out, "Would create %s.\n", what)
		return nil
	}
	a, err := o.change(ctx, http.MethodPost, path+"?"+values.Encode(), nil)
	if err != nil {
		return err
	}
	if a.status != http.StatusOK {
		return a.failure()
	}
	done := map[string]string{"create": "Created", "delete": "Deleted", "tombstone": "Tombstoned"}[verb]
	fmt.Fprintf(o.out, "%s %s (index %s).\n", done, what, a.header.Get("X-Lookupd-Index"))
	return nil
}

// consequence says what goes with a topic, a channel or a producer.
func (o *options) consequence(ctx context.Context, verb, what string, values url.Values) (string, error) {
	var d lookupDocument
	a, err := o.get(ctx, "/lookup?topic="+url.QueryEscape(values.Get("topic")))
	if err != nil {
		return "", err
	}
	if a.status == http.StatusNotFound {
		return "", fmt.Errorf("topic %q is not known", values.Get("topic"))
	}
	if a.status != http.StatusOK {
		return "", a.failure()
	}
	if err := a.decode("a lookup", &d); err != nil {
		return "", err
	}
	producers := plural(len(d.Producers), "producer")
	channel, node := values.Get("channel"), values.Get("node")
	switch {
	case verb == "tombstone" && !d.offeredBy(node):
		return fmt.Sprintf("%s: no producer that consumers find has that broadcast address and HTTP port; nothing changes for them.", what), nil
	case verb == "tombstone":
		return fmt.Sprintf("%s: consumers of %s (%s now) do not find it until the tombstone ends.", what, values.Get("topic"), producers), nil
	case channel != "" && !slices.Contains(d.Channels, channel):
		return "", fmt.Errorf("topic %q has no channel %q", values.Get("topic"), channel)
	case channel != "":
		return fmt.Sprintf("%s: %s of the topic; one that has the channel declares it again.", what, producers), nil
	}
	return fmt.Sprintf("%s: %s and %s go; a producer that has it declares it again.", what, producers, plural(len(d.Channels), "channel")), nil
}
