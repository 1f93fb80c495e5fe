package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/fsm"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
)

const (
	snapshotPath = "/v1/snapshot"
	importPath   = "/v1/import"
	// namedChanges is how many names a plan shows.
	namedChanges = 20
)

func newSnapshot(o *options) *cobra.Command {
	cmd := group("snapshot", "Saves, inspects and restores the registry")
	cmd.AddCommand(
		&cobra.Command{
			Use: "save FILE", Short: "Saves the registry of this moment, from any peer; - is stdout", Args: exactly("FILE"),
			RunE: func(cmd *cobra.Command, args []string) error { return o.saveSnapshot(cmd.Context(), args[0]) },
		},
		newInspect(o, "inspect FILE"), newRestore(o), hidden(newInspect(o, "status FILE")),
	)
	return cmd
}

// saveSnapshot verifies what it saves: FILE is the whole snapshot or is not
// touched.
func (o *options) saveSnapshot(ctx context.Context, path string) error {
	if path == "-" {
		_, err := o.fetchSnapshot(ctx, o.out)
		return err
	}
	var info fsm.SnapshotInfo
	_, err := o.saveFile(path, func(w io.Writer) (err error) {
		info, err = o.fetchSnapshot(ctx, w)
		return err
	})
	if err == nil {
		fmt.Fprintf(o.err, "Saved index %d of cluster %s to %s, %d bytes. Verified.\n", info.Index, info.ClusterID, path, info.Size)
	}
	return err
}

// fetchSnapshot writes a snapshot to w, from the first address that has one,
// and verifies what it wrote. What has begun is not begun again elsewhere: w has
// a part of it.
func (o *options) fetchSnapshot(ctx context.Context, w io.Writer) (info fsm.SnapshotInfo, err error) {
	response, err := o.openStream(ctx, o.read(snapshotPath, nil))
	if err != nil {
		return info, err
	}
	defer response.Body.Close()
	if age := response.Header.Get("X-Lookupd-Stale-Ms"); age != "" {
		fmt.Fprintf(o.err, "Stale: at most %s ms old.\n", age)
	}
	body := o.counting("Received", response.Body, response.ContentLength)
	defer body.done()
	return fsm.Inspect(io.TeeReader(body, w))
}

// names is what a snapshot restores: topics with their channels, sorted.
type names map[string][]string

// contents is what can be told of a snapshot.
type contents struct {
	info   fsm.SnapshotInfo
	counts registry.Counts
	names  names
}

// readSnapshot reads all of a snapshot, verifies it, and refuses names that no
// registry can hold.
func readSnapshot(r io.Reader) (c contents, err error) {
	dir, err := os.MkdirTemp("", "lookupctl-")
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	err = fsm.ReadSnapshot(r, dir, func(info fsm.SnapshotInfo, v *store.View) error {
		c = contents{info: info, counts: v.Counts(), names: names{}}
		channels := 0
		for _, topic := range v.Topics() {
			c.names[topic] = v.Channels(topic)
			channels += len(c.names[topic])
			for _, name := range append([]string{topic}, c.names[topic]...) {
				if !registry.ValidName(name) {
					return fmt.Errorf("%w: it holds the name %.80q", fsm.ErrBadSnapshot, name)
				}
			}
		}
		if len(c.names) != c.counts.Topics || channels != c.counts.Channels {
			return fmt.Errorf("%w: it counts %d topics and %d channels, and holds %d and %d", fsm.ErrBadSnapshot,
				c.counts.Topics, c.counts.Channels, len(c.names), channels)
		}
		return nil
	})
	return c, err
}

func readSnapshotFile(path string) (contents, error) {
	file, err := os.Open(path)
	if err != nil {
		return contents{}, err
	}
	defer file.Close()
	c, err := readSnapshot(file)
	if err != nil {
		return c, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

func newInspect(o *options, use string) *cobra.Command {
	var old string
	cmd := &cobra.Command{
		Use: use, Short: "Verifies a snapshot and says what is in it, without a peer", Args: exactly("FILE"),
		RunE: func(_ *cobra.Command, args []string) error { return o.inspect(args[0], old) },
	}
	cmd.Flags().StringVar(&old, "diff", "", "an older snapshot: also what was created and deleted since")
	return cmd
}

func (o *options) inspect(path, old string) error {
	c, err := readSnapshotFile(path)
	if err != nil {
		return err
	}
	var changes []change
	if old != "" {
		before, err := readSnapshotFile(old)
		if err != nil {
			return err
		}
		changes = difference(before.names, c.names, true)
	}
	if o.output == formatJSON {
		document := map[string]any{
			"sound": true, "format": 1, "cluster_id": c.info.ClusterID, "index": c.info.Index, "term": c.info.Term,
			"state_hash": fmt.Sprintf("%016x", c.info.Hash), "size": c.info.Size, "counts": c.counts,
		}
		if old != "" {
			document["created"], document["deleted"] = named(changes, false), named(changes, true)
		}
		return o.printAsJSON(document)
	}
	o.sentence("Sound.")
	l := listing{columns: columns("WHAT", "VALUE")}
	l.add("cluster", c.info.ClusterID)
	l.add("index", c.info.Index)
	l.add("term", c.info.Term)
	l.add("state hash", fmt.Sprintf("%016x", c.info.Hash))
	l.add("bytes", c.info.Size)
	l.add("topics", c.counts.Topics)
	l.add("channels", c.counts.Channels)
	l.add("producers", c.counts.Producers)
	l.add("sessions", c.counts.Sessions)
	o.print(l)
	if old != "" {
		o.printChanges(changes)
	}
	return nil
}

func newRestore(o *options) *cobra.Command {
	var dryRun, replace bool
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Creates the topics and channels of a snapshot, in a running cluster",
		Long: "Creates the topics and channels of a snapshot that the cluster lacks, with ordinary changes. Producers,\n" +
			"sessions and tombstones stay out: they belong to connections, and nsqds come back within 30 s. Ephemeral\n" +
			"names stay out too: they go with their last producer. A damaged file is refused before anything changes.",
		Args: exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.restore(cmd.Context(), args[0], dryRun, replace)
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would be created and deleted")
	cmd.Flags().BoolVar(&replace, "replace", false, "also delete what the file lacks")
	return cmd
}

func (o *options) restore(ctx context.Context, path string, dryRun, replace bool) error {
	wanted, err := readSnapshotFile(path)
	if err != nil {
		return err
	}
	present, err := o.presentContents(ctx)
	if err != nil {
		return err
	}
	if wanted.info.ClusterID != present.info.ClusterID {
		fmt.Fprintf(o.err, "The file is of cluster %s, this is %s: only names are taken from it.\n", wanted.info.ClusterID, present.info.ClusterID)
	}
	changes := difference(present.names, wanted.names.lasting(), replace)
	if dryRun || !o.yes || len(changes) == 0 {
		o.printChanges(changes)
	}
	if dryRun || len(changes) == 0 {
		return nil
	}
	if err := o.confirmed(ctx, fmt.Sprintf("Make these %s?", plural(len(changes), "change"))); err != nil {
		return err
	}
	done, err := o.importChanges(ctx, changes)
	if err != nil {
		return fmt.Errorf("%d of %d changes are made; once more makes the rest: %w", done, len(changes), err)
	}
	fmt.Fprintf(o.out, "Restored: %s made.\n", plural(done, "change"))
	return nil
}

// presentContents is the cluster's state, as it would be saved now.
func (o *options) presentContents(ctx context.Context) (c contents, err error) {
	reader, writer := io.Pipe()
	go func() {
		_, err := o.fetchSnapshot(ctx, writer)
		_ = writer.CloseWithError(err) // never fails
	}()
	defer func() { err = errors.Join(err, reader.Close()) }()
	if c, err = readSnapshot(reader); err != nil {
		return c, fmt.Errorf("the cluster's present state: %w", err)
	}
	return c, nil
}

// lasting leaves out what goes with its last producer.
func (n names) lasting() names {
	kept := names{}
	for topic, channels := range n {
		if !registry.IsEphemeral(topic) {
			kept[topic] = slices.DeleteFunc(slices.Clone(channels), registry.IsEphemeral)
		}
	}
	return kept
}

// change is a topic, or a channel of it, that is to be created or deleted.
type change struct {
	topic, channel string
	gone           bool
}

func (c change) String() string {
	sign := "+ "
	if c.gone {
		sign = "- "
	}
	if c.channel == "" {
		return sign + c.topic
	}
	return sign + c.topic + " / " + c.channel
}

// nameJSON is a topic, or a channel of it.
type nameJSON struct {
	Topic   string `json:"topic"`
	Channel string `json:"channel,omitempty"`
}

// named returns the names that changes create, or delete.
func named(changes []change, gone bool) []nameJSON {
	list := []nameJSON{}
	for _, c := range changes {
		if c.gone == gone {
			list = append(list, nameJSON{c.topic, c.channel})
		}
	}
	return list
}

// difference is what makes one set of names another: what is to be created,
// then, if wanted, what is to be deleted. Ephemeral names are never deleted.
func difference(from, to names, deletions bool) (changes []change) {
	for _, topic := range sortedTopics(to) {
		channels, there := from[topic]
		if !there {
			changes = append(changes, change{topic: topic})
		}
		for _, channel := range to[topic] {
			if !slices.Contains(channels, channel) {
				changes = append(changes, change{topic: topic, channel: channel})
			}
		}
	}
	if !deletions {
		return changes
	}
	from = from.lasting()
	for _, topic := range sortedTopics(from) {
		channels, stays := to[topic]
		if !stays {
			changes = append(changes, change{topic: topic, gone: true})
			continue
		}
		for _, channel := range from[topic] {
			if !slices.Contains(channels, channel) {
				changes = append(changes, change{topic: topic, channel: channel, gone: true})
			}
		}
	}
	return changes
}

func sortedTopics(n names) []string {
	topics := make([]string, 0, len(n))
	for topic := range n {
		topics = append(topics, topic)
	}
	slices.Sort(topics)
	return topics
}

func (o *options) printChanges(changes []change) {
	if len(changes) == 0 {
		fmt.Fprintln(o.out, "Nothing differs.")
	}
	for i, c := range changes {
		if i == namedChanges && o.output == formatTable {
			fmt.Fprintf(o.out, "and %d more; -o wide shows all\n", len(changes)-i)
			return
		}
		fmt.Fprintln(o.out, c)
	}
}

// importBody is the body of POST /v1/import.
type importBody struct {
	Create []importTopic `json:"create"`
	Delete []importTopic `json:"delete"`
}

type importTopic struct {
	Topic    string   `json:"topic"`
	Channels []string `json:"channels"`
}

// importChanges sends the changes, as many at once as a peer takes, and returns
// how many are made. A peer takes cluster.MaxProposalCommands, which are far less
// than the 64 KiB of a body: names have at most 64 bytes.
func (o *options) importChanges(ctx context.Context, changes []change) (done int, err error) {
	all := len(changes)
	defer o.counted("Restored", 0, 0)
	for len(changes) > 0 {
		o.counted("Restored", done, all)
		var body importBody
		n := 0
		for commands := 0; n < len(changes) && commands+costOfChange <= cluster.MaxProposalCommands; n++ {
			commands += body.add(changes[n])
		}
		text, err := json.Marshal(body)
		if err != nil {
			return done, err
		}
		a, err := o.change(ctx, http.MethodPost, importPath, text)
		if err != nil {
			return done, err
		}
		if a.status != http.StatusOK {
			return done, a.failure()
		}
		done += n
		changes = changes[n:]
	}
	return done, nil
}

// costOfChange is the most commands that a peer makes of one change.
const costOfChange = 2

// add returns how many commands a peer makes of the change: a channel that is to
// be created brings its topic once.
func (b *importBody) add(c change) (commands int) {
	list := &b.Create
	if c.gone {
		list = &b.Delete
	}
	var channels []string
	if c.channel != "" {
		channels = []string{c.channel}
	}
	if last := len(*list) - 1; c.channel != "" && last >= 0 && (*list)[last].Topic == c.topic {
		(*list)[last].Channels = append((*list)[last].Channels, c.channel)
		return 1
	}
	*list = append(*list, importTopic{Topic: c.topic, Channels: channels})
	if c.gone || c.channel == "" {
		return 1
	}
	return costOfChange
}
