package store_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
)

const (
	changed   = registry.ResultChanged
	unchanged = registry.ResultUnchanged
	notOpen   = registry.ResultSessionNotOpen
	notFound  = registry.ResultChannelNotFound

	none = "none" // events
)

// step is an op, what it must answer and, unless it is "", the events it must tell .
type step struct {
	op     op
	result registry.Result
	events string
}

// TestCommands holds the table of commands of the design. Steps are log entries 1, 2, ...
func TestCommands(t *testing.T) {
	for _, test := range []struct {
		name  string
		steps []step
		want  string
	}{{
		name: "register brings topic and channel",
		steps: []step{
			{open(nodeA, 1, "p1"), changed, "+session p1 a/1"},
			{register(nodeA, 1, "p1", "t", "c"), changed, "+topic t, +producer t p1, +channel t/c, +producer t/c p1"},
			{register(nodeA, 1, "p1", "t", "c"), unchanged, none},
			{register(nodeA, 1, "p1", "t", ""), unchanged, none},
			{register(nodeA, 1, "p1", "u", ""), changed, "+topic u, +producer u p1"},
		},
		want: `
			t [c] shows [p1]
			u [] shows [p1]
			t p1 by a
			t/c p1 by a
			u p1 by a
			session p1 a/1`,
	}, {
		name: "R12 register needs the open session",
		steps: []step{
			{register(nodeA, 1, "p1", "t", ""), notOpen, none},
			{open(nodeA, 1, "p1"), changed, ""},
			{register(nodeA, 2, "p1", "t", ""), notOpen, none},
			{register(nodeB, 1, "p1", "t", ""), notOpen, none},
			{register(nodeA, 1, "p2", "t", ""), notOpen, none},
			{unregister(nodeA, 2, "p1", "t", ""), notOpen, none},
			{closing(nodeA, 1, "p1"), changed, "-session p1 a/1"},
			{register(nodeA, 1, "p1", "t", ""), notOpen, none},
		},
	}, {
		name: "a producer is the union of its peers",
		steps: []step{
			{open(nodeB, 1, "p1"), changed, ""},
			{open(nodeA, 1, "p1"), changed, ""},
			{register(nodeA, 1, "p1", "t", "c"), changed, ""},
			{register(nodeB, 1, "p1", "t", "d"), changed, "+channel t/d, +producer t/d p1"},
			{register(nodeB, 1, "p1", "t", "c"), changed, none},
			{unregister(nodeA, 1, "p1", "t", "c"), changed, none},
		},
		want: `
			t [c d] shows [p1]
			t p1 by a b
			t/c p1 by b
			t/d p1 by b
			session p1 a/1
			session p1 b/1`,
	}, {
		name: "the end of a session takes its peer off everything",
		steps: []step{
			{open(nodeA, 1, "p1"), changed, ""},
			{open(nodeB, 1, "p1"), changed, ""},
			{register(nodeA, 1, "p1", "t", "c"), changed, ""},
			{register(nodeB, 1, "p1", "t", ""), changed, ""},
			{closing(nodeA, 1, "p1"), changed, "-producer t/c p1, -session p1 a/1"},
			{closing(nodeA, 1, "p1"), unchanged, none},
		},
		want: `
			t [c] shows [p1]
			t p1 by b
			session p1 b/1`,
	}, {
		name: "the last session takes the producer along",
		steps: []step{
			{open(nodeA, 1, "p1"), changed, ""},
			{register(nodeA, 1, "p1", "t", "c"), changed, ""},
			{closing(nodeA, 1, "p1"), changed, "-producer t/c p1, -producer t p1, -session p1 a/1"},
		},
		want: `t [c] shows []`,
	}, {
		name: "a newer session replaces, what is held stays",
		steps: []step{
			{open(nodeA, 1, "p1"), changed, ""},
			{register(nodeA, 1, "p1", "t", ""), changed, ""},
			{open(nodeA, 2, "p1"), changed, "-session p1 a/1, +session p1 a/2"},
			{register(nodeA, 1, "p1", "u", ""), notOpen, none},
			{closing(nodeA, 1, "p1"), unchanged, none},
			{open(nodeA, 1, "p1"), notOpen, none},
			{register(nodeA, 2, "p1", "t", "c"), changed, ""},
		},
		want: `
			t [c] shows [p1]
			t p1 by a
			t/c p1 by a
			session p1 a/2`,
	}, {
		name: "closing a session that never opened ends the one before",
		steps: []step{
			{open(nodeA, 1, "p1"), changed, ""},
			{register(nodeA, 1, "p1", "t", ""), changed, ""},
			{closing(nodeA, 2, "p1"), changed, "-producer t p1, -session p1 a/1"},
		},
		want: `t [] shows []`,
	}, {
		name: "opening again changes the info alone",
		steps: []step{
			{open(nodeA, 1, "p1"), changed, ""},
			{open(nodeA, 1, "p1"), unchanged, none},
			{func(c *store.Change) registry.Result {
				other := info("p1")
				other.Version = "1.4.0"
				return c.OpenSession(sid(nodeA, 1), other)
			}, changed, ""},
		},
		want: `session p1 a/1`,
	}, {
		name: "suspended sessions hide what they alone hold",
		steps: []step{
			{open(nodeA, 1, "p1"), changed, ""},
			{open(nodeB, 1, "p1"), changed, ""},
			{register(nodeA, 1, "p1", "t", ""), changed, ""},
			{register(nodeA, 1, "p1", "u", ""), changed, ""},
			{suspend(nodeA, 1, "p1"), changed, "suspended p1 a/1"},
			{suspend(nodeA, 1, "p1"), unchanged, none},
			{suspend(nodeA, 2, "p1"), notOpen, none},
			{register(nodeB, 1, "p1", "t", ""), changed, "+producer t p1"},
		},
		want: `
			t [] shows [p1]
			u [] shows []
			t p1 by a b
			u p1 by a
			session p1 a/1 suspended
			session p1 b/1`,
	}, {
		name: "a suspended session resumes",
		steps: []step{
			{open(nodeA, 1, "p1"), changed, ""},
			{register(nodeA, 1, "p1", "t", ""), changed, ""},
			{suspend(nodeA, 1, "p1"), changed, ""},
			{resume(nodeA, 1, "p1"), changed, "resumed p1 a/1"},
			{resume(nodeA, 1, "p1"), unchanged, none},
			{resume(nodeB, 1, "p1"), notOpen, none},
		},
		want: `
			t [] shows [p1]
			t p1 by a
			session p1 a/1`,
	}, {
		name: "what shows by one peer is told when that one lets go",
		steps: []step{
			{open(nodeA, 1, "p1"), changed, ""},
			{open(nodeB, 1, "p1"), changed, ""},
			{register(nodeA, 1, "p1", "t", ""), changed, ""},
			{register(nodeB, 1, "p1", "t", ""), changed, ""},
			{suspend(nodeA, 1, "p1"), changed, ""},
			{unregister(nodeB, 1, "p1", "t", ""), changed, "-producer t p1"},
		},
		want: `
			t [] shows []
			t p1 by a
			session p1 a/1 suspended
			session p1 b/1`,
	}, {
		name: "unregister of a channel keeps topic and name",
		steps: []step{
			{open(nodeA, 1, "p1"), changed, ""},
			{register(nodeA, 1, "p1", "t", "c"), changed, ""},
			{unregister(nodeA, 1, "p1", "t", "c"), changed, "-producer t/c p1"},
			{unregister(nodeA, 1, "p1", "t", "c"), unchanged, none},
			{unregister(nodeA, 1, "p1", "x", "c"), unchanged, none},
			{unregister(nodeA, 1, "p1", "x", ""), unchanged, none},
		},
		want: `
			t [c] shows [p1]
			t p1 by a
			session p1 a/1`,
	}, {
		name: "unregister of a topic lets go of its channels, no others",
		steps: []step{
			{open(nodeA, 1, "p1"), changed, ""},
			{open(nodeB, 1, "p1"), changed, ""},
			{register(nodeA, 1, "p1", "t", "c"), changed, ""},
			{register(nodeA, 1, "p1", "t", "d"), changed, ""},
			{register(nodeA, 1, "p1", "t.", "c"), changed, ""},
			{register(nodeB, 1, "p1", "t", "d"), changed, ""},
			{unregister(nodeA, 1, "p1", "t", ""), changed, "-producer t/c p1"},
		},
		want: `
			t [c d] shows [p1]
			t. [c] shows [p1]
			t p1 by b
			t/d p1 by b
			t. p1 by a
			t./c p1 by a
			session p1 a/1
			session p1 b/1`,
	}, {
		name: "an ephemeral channel goes with its last holder",
		steps: []step{
			{open(nodeA, 1, "p1"), changed, ""},
			{open(nodeA, 2, "p2"), changed, ""},
			{register(nodeA, 1, "p1", "t", "c#ephemeral"), changed, ""},
			{register(nodeA, 2, "p2", "t", "c#ephemeral"), changed, ""},
			{unregister(nodeA, 1, "p1", "t", "c#ephemeral"), changed, "-producer t/c#ephemeral p1"},
			{closing(nodeA, 2, "p2"), changed, "-producer t/c#ephemeral p2, ~channel t/c#ephemeral, -producer t p2, -session p2 a/2"},
		},
		want: `
			t [] shows [p1]
			t p1 by a
			session p1 a/1`,
	}, {
		name: "an ephemeral channel goes with an unregistered topic",
		steps: []step{
			{open(nodeA, 1, "p1"), changed, ""},
			{register(nodeA, 1, "p1", "t", "c#ephemeral"), changed, ""},
			{register(nodeA, 1, "p1", "t", "d"), changed, ""},
			{unregister(nodeA, 1, "p1", "t", ""), changed, "-producer t/c#ephemeral p1, ~channel t/c#ephemeral, -producer t/d p1, -producer t p1"},
		},
		want: `
			t [d] shows []
			session p1 a/1`,
	}, {
		name: "an ephemeral topic takes its channels along",
		steps: []step{
			{open(nodeA, 1, "p1"), changed, ""},
			{register(nodeA, 1, "p1", "t#ephemeral", "c"), changed, ""},
			{createChannel("t#ephemeral", "d"), changed, ""},
			{unregister(nodeA, 1, "p1", "t#ephemeral", "c"), changed, ""},
			{closing(nodeA, 1, "p1"), changed, "-producer t#ephemeral p1, ~topic t#ephemeral, -session p1 a/1"},
		},
	}, {
		name: "an ephemeral topic that another holds stays",
		steps: []step{
			{open(nodeA, 1, "p1"), changed, ""},
			{open(nodeB, 1, "p1"), changed, ""},
			{register(nodeA, 1, "p1", "t#ephemeral", ""), changed, ""},
			{register(nodeB, 1, "p1", "t#ephemeral", ""), changed, ""},
			{unregister(nodeA, 1, "p1", "t#ephemeral", ""), changed, none},
		},
		want: `
			t#ephemeral [] shows [p1]
			t#ephemeral p1 by b
			session p1 a/1
			session p1 b/1`,
	}, {
		name: "ephemeral names made by HTTP stay until named or left",
		steps: []step{
			{createChannel("t#ephemeral", "c#ephemeral"), changed, "+topic t#ephemeral, +channel t#ephemeral/c#ephemeral"},
			{createChannel("u", "c#ephemeral"), changed, ""},
			{createChannel("u", "d#ephemeral"), changed, ""},
			{open(nodeA, 1, "p1"), changed, ""},
			{register(nodeA, 1, "p1", "u", ""), changed, ""},
			{unregister(nodeA, 1, "p1", "u", ""), changed, ""},
			{unregister(nodeA, 1, "p1", "u", "d#ephemeral"), changed, "~channel u/d#ephemeral"},
		},
		want: `
			t#ephemeral [c#ephemeral] shows []
			u [c#ephemeral] shows []
			session p1 a/1`,
	}, {
		name: "create and delete by HTTP",
		steps: []step{
			{createTopic("t"), changed, "+topic t"},
			{createTopic("t"), unchanged, none},
			{createChannel("t", "c"), changed, "+channel t/c"},
			{createChannel("t", "c"), unchanged, none},
			{createChannel("u", "c"), changed, "+topic u, +channel u/c"},
			{deleteChannel("t", "x"), notFound, none},
			{deleteChannel("x", "c"), notFound, none},
			{deleteChannel("t", "*"), notFound, none},
			{deleteTopic("x"), unchanged, none},
			{deleteTopic("*"), unchanged, none},
			{deleteChannel("t", "c"), changed, "-channel t/c"},
			{deleteTopic("u"), changed, "-topic u"},
		},
		want: `t [] shows []`,
	}, {
		name: "deletes take registrations along, those of other names stay",
		steps: []step{
			{open(nodeA, 1, "p1"), changed, ""},
			{register(nodeA, 1, "p1", "t", "c"), changed, ""},
			{register(nodeA, 1, "p1", "t", "cc"), changed, ""},
			{register(nodeA, 1, "p1", "tt", "c"), changed, ""},
			{register(nodeA, 1, "p1", "u", "c"), changed, ""},
			{tombstone("t", "p1:4151"), changed, ""},
			{deleteTopic("t"), changed, "-topic t"},
			{deleteChannel("u", "c"), changed, "-channel u/c"},
			{register(nodeA, 1, "p1", "u", "c"), changed, "+channel u/c, +producer u/c p1"},
			{deleteChannel("u", "c"), changed, ""},
		},
		want: `
			tt [c] shows [p1]
			u [] shows [p1]
			tt p1 by a
			tt/c p1 by a
			u p1 by a
			session p1 a/1`,
	}, {
		name: "a tombstone hides one producer from one topic",
		steps: []step{
			{open(nodeA, 1, "p1"), changed, ""},
			{open(nodeA, 2, "p2"), changed, ""},
			{register(nodeA, 1, "p1", "t", "c"), changed, ""},
			{register(nodeA, 2, "p2", "t", ""), changed, ""},
			{register(nodeA, 1, "p1", "u", ""), changed, ""},
			{tombstone("t", "p1:4151"), changed, "+tombstone t p1"},
			{tombstone("t", "p1:4150"), unchanged, none},
			{tombstone("x", "p1:4151"), unchanged, none},
			{tombstone("*", "p1:4151"), unchanged, none},
			{register(nodeA, 1, "p1", "t", ""), unchanged, none},
		},
		want: `
			t [c] shows [p2]
			u [] shows [p1]
			t p1 by a tombstone 6
			t p2 by a
			t/c p1 by a
			u p1 by a
			session p1 a/1
			session p2 a/2`,
	}, {
		name: "a tombstone ends by the index that set it",
		steps: []step{
			{open(nodeA, 1, "p1"), changed, ""},
			{register(nodeA, 1, "p1", "t", ""), changed, ""},
			{endTombstone("t", "p1", 0), unchanged, none},
			{tombstone("t", "p1:4151"), changed, ""},
			{tombstone("t", "p1:4151"), changed, "+tombstone t p1"},
			{endTombstone("t", "p1", 4), unchanged, none},
			{endTombstone("t", "p1", 5), changed, "-tombstone t p1"},
			{endTombstone("t", "p1", 5), unchanged, none},
		},
		want: `
			t [] shows [p1]
			t p1 by a
			session p1 a/1`,
	}, {
		name: "a tombstone goes with the last holder, not before",
		steps: []step{
			{open(nodeA, 1, "p1"), changed, ""},
			{open(nodeB, 1, "p1"), changed, ""},
			{register(nodeA, 1, "p1", "t", ""), changed, ""},
			{register(nodeB, 1, "p1", "t", ""), changed, ""},
			{register(nodeA, 1, "p1", "u", ""), changed, ""},
			{tombstone("t", "p1:4151"), changed, ""},
			{tombstone("u", "p1:4151"), changed, ""},
			{unregister(nodeA, 1, "p1", "t", ""), changed, ""},
			{unregister(nodeA, 1, "p1", "u", ""), changed, ""},
			{register(nodeA, 1, "p1", "u", ""), changed, ""},
		},
		want: `
			t [] shows []
			u [] shows [p1]
			t p1 by b tombstone 6
			u p1 by a
			session p1 a/1
			session p1 b/1`,
	}} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			for i, s := range test.steps {
				result, events := w.do(s.op)
				if result != s.result {
					t.Errorf("step %d: result %d, want %d", i+1, result, s.result)
				}
				if got := eventText(events); s.events != "" && got != s.events {
					t.Errorf("step %d: events %q, want %q", i+1, got, s.events)
				}
			}
			if got, want := w.dump(), unindent(test.want); got != want {
				t.Errorf("state:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func unindent(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return strings.Join(lines, "\n")
}

func TestCommandThatNoKeyCanHold(t *testing.T) {
	bad := info("p1")
	bad.BroadcastAddress = "p\x00"
	for name, o := range map[string]op{
		"topic":   createTopic("a/b"),
		"channel": createChannel("t", ""),
		"producer": func(c *store.Change) registry.Result {
			return c.OpenSession(sid(nodeA, 2), bad)
		},
		"register": register(nodeA, 1, "p1", "t\x00c", ""),
		"node": func(c *store.Change) registry.Result {
			return c.OpenSession(registry.SessionID{Seq: 1}, info("p1"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.must(open(nodeA, 1, "p1"))
			before := rows(t, w.state)
			err := w.state.Update(func(c *store.Change) error {
				c.Entry(2, 1, nodeA)
				c.CreateTopic("good")
				o(c)
				return nil
			})
			if !errors.Is(err, store.ErrBadCommand) {
				t.Errorf("error %v", err)
			}
			compareSets(t, "rows", rows(t, w.state), before)
			w.view(func(v *store.View) error {
				if index, _ := v.Applied(); index != 1 {
					t.Errorf("applied index %d", index)
				}
				return nil
			})
		})
	}
}
