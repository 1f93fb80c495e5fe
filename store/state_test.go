package store_test

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
)

const (
	nodeA = registry.NodeID("a-00000001")
	nodeB = registry.NodeID("b-00000002")
	nodeC = registry.NodeID("c-00000003")
)

// world is a state under test; its invariants are checked when the test ends.
type world struct {
	t     testing.TB
	state *store.State
	index uint64
}

func newWorld(t testing.TB) *world {
	t.Helper()
	state, err := store.CreateState(filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, state: state}
	t.Cleanup(func() {
		w.view((*store.View).Check)
		if err := state.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// op is one command.
type op func(*store.Change) registry.Result

// do applies one op as a log entry of its own.
func (w *world) do(o op) (registry.Result, []registry.Event) {
	w.t.Helper()
	var result registry.Result
	var events []registry.Event
	w.index++
	err := w.state.Update(func(c *store.Change) error {
		c.Entry(w.index, 1, nodeA)
		result = o(c)
		events = c.TakeEvents()
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return result, events
}

// must applies ops that change something.
func (w *world) must(ops ...op) {
	w.t.Helper()
	for i, o := range ops {
		if result, _ := w.do(o); result != registry.ResultChanged {
			w.t.Fatalf("op %d: result %d", i+1, result)
		}
	}
}

func (w *world) view(fn func(*store.View) error) {
	w.t.Helper()
	if err := w.state.View(fn); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) dump() string {
	w.t.Helper()
	var text string
	w.view(func(v *store.View) error {
		text = dump(v)
		return nil
	})
	return text
}

// dump writes all that the state holds, for comparison.
func dump(v *store.View) string {
	var lines []string
	for _, topic := range v.Topics() {
		t, ok := v.Topic(topic)
		if !ok || !slices.Equal(t.Channels, v.Channels(topic)) {
			lines = append(lines, "Topics, Topic and Channels disagree on "+topic)
		}
		shown := []string{}
		for _, p := range t.Producers {
			shown = append(shown, short(p.ID()))
		}
		lines = append(lines, fmt.Sprintf("%s %v shows %v", topic, t.Channels, shown))
	}
	for _, r := range v.Registrations() {
		line := fmt.Sprintf("%s %s by", path(r.Topic, r.Channel), short(r.Producer.ID()))
		for _, node := range r.Holders {
			line += " " + node.Name()
		}
		if r.Tombstoned {
			line += fmt.Sprintf(" tombstone %d", r.TombstoneSetAt)
		}
		lines = append(lines, line)
	}
	for _, s := range v.Sessions() {
		line := fmt.Sprintf("session %s %s/%d", short(s.Producer), s.ID.Node.Name(), s.ID.Seq)
		if s.Suspended {
			line += " suspended"
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

func path(topic, channel string) string {
	if channel == "" {
		return topic
	}
	return topic + "/" + channel
}

// short turns "p1:4150" into "p1".
func short(p registry.ProducerID) string {
	host, _, _ := strings.Cut(string(p), ":")
	return host
}

func eventText(events []registry.Event) string {
	names := map[registry.EventKind]string{
		registry.TopicCreated: "+topic", registry.TopicDeleted: "-topic",
		registry.ChannelCreated: "+channel", registry.ChannelDeleted: "-channel",
		registry.ProducerAdded: "+producer", registry.ProducerRemoved: "-producer",
		registry.TombstoneSet: "+tombstone", registry.TombstoneEnded: "-tombstone",
		registry.SessionOpened: "+session", registry.SessionClosed: "-session",
		registry.SessionSuspended: "suspended", registry.SessionResumed: "resumed",
		registry.TopicExpired: "~topic", registry.ChannelExpired: "~channel",
	}
	if len(events) == 0 {
		return none
	}
	var texts []string
	for _, e := range events {
		text := names[e.Kind]
		if e.Topic != "" {
			text += " " + path(e.Topic, e.Channel)
		}
		if e.Producer != "" {
			text += " " + short(e.Producer)
		}
		if e.Session.Node != "" {
			text += fmt.Sprintf(" %s/%d", e.Session.Node.Name(), e.Session.Seq)
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, ", ")
}

// info is the nsqd at host, TCP port 4150, HTTP port 4151.
func info(host string) registry.ProducerInfo {
	return registry.ProducerInfo{
		RemoteAddress: host + ":50000", Hostname: "host-" + host, BroadcastAddress: host,
		TCPPort: 4150, HTTPPort: 4151, Version: "1.3.0",
	}
}

func id(host string) registry.ProducerID { return info(host).ID() }

func sid(node registry.NodeID, seq uint64) registry.SessionID {
	return registry.SessionID{Node: node, Epoch: 1, Seq: seq}
}

func open(node registry.NodeID, seq uint64, host string) op {
	return func(c *store.Change) registry.Result { return c.OpenSession(sid(node, seq), info(host)) }
}

func closing(node registry.NodeID, seq uint64, host string) op {
	return func(c *store.Change) registry.Result { return c.CloseSession(sid(node, seq), id(host)) }
}

func suspend(node registry.NodeID, seq uint64, host string) op {
	return func(c *store.Change) registry.Result { return c.SuspendSession(sid(node, seq), id(host)) }
}

func resume(node registry.NodeID, seq uint64, host string) op {
	return func(c *store.Change) registry.Result { return c.ResumeSession(sid(node, seq), id(host)) }
}

func register(node registry.NodeID, seq uint64, host, topic, channel string) op {
	return func(c *store.Change) registry.Result { return c.Register(sid(node, seq), id(host), topic, channel) }
}

func unregister(node registry.NodeID, seq uint64, host, topic, channel string) op {
	return func(c *store.Change) registry.Result { return c.Unregister(sid(node, seq), id(host), topic, channel) }
}

func createTopic(topic string) op {
	return func(c *store.Change) registry.Result { return c.CreateTopic(topic) }
}

func deleteTopic(topic string) op {
	return func(c *store.Change) registry.Result { return c.DeleteTopic(topic) }
}

func createChannel(topic, channel string) op {
	return func(c *store.Change) registry.Result { return c.CreateChannel(topic, channel) }
}

func deleteChannel(topic, channel string) op {
	return func(c *store.Change) registry.Result { return c.DeleteChannel(topic, channel) }
}

func tombstone(topic, node string) op {
	return func(c *store.Change) registry.Result { return c.Tombstone(topic, node) }
}

func endTombstone(topic, host string, setAt uint64) op {
	return func(c *store.Change) registry.Result { return c.EndTombstone(topic, id(host), setAt) }
}

// rows returns every row of the state as text.
func rows(t testing.TB, s *store.State) []string {
	t.Helper()
	var all []string
	err := s.View(func(v *store.View) error {
		v.Rows(func(table string, key, value []byte) {
			all = append(all, fmt.Sprintf("%s %q %x", table, key, value))
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func compareSets[T cmp.Ordered](t testing.TB, what string, got, want []T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}
