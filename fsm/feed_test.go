package fsm_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/lookupd/lookupd/fsm"
	"github.com/lookupd/lookupd/registry"
)

// topics applies n entries that create a topic each.
func (m *machine) topics(n int) {
	m.t.Helper()
	for range n {
		m.apply(batch(nodeA, m.index+1, registry.CreateTopic{Topic: fmt.Sprint("t", m.index)}))
	}
}

func TestFeed(t *testing.T) {
	m := newMachine(t)
	m.apply(batch(nodeA, 1, open(nodeA, 1, "p1"), register(nodeA, 1, "p1", "t", "")))
	m.apply(fsm.Batch{Commands: []registry.Command{registry.Noop{}}})
	m.apply(batch(nodeB, 1, registry.DeleteTopic{Topic: "t"}))
	want := []registry.Change{
		{Index: 1, Events: []registry.Event{
			{Kind: registry.SessionOpened, Producer: "p1:4150", Session: sid(nodeA, 1), Origin: nodeA},
			{Kind: registry.TopicCreated, Topic: "t", Origin: nodeA},
			{Kind: registry.ProducerAdded, Topic: "t", Producer: "p1:4150", Origin: nodeA},
		}},
		{Index: 3, Events: []registry.Event{{Kind: registry.TopicDeleted, Topic: "t", Origin: nodeB}}},
	}
	for index, from := range map[uint64]int{0: 0, 1: 1, 2: 1, 3: 2, 99: 2} {
		got, ok := m.changes(index)
		if diff := cmp.Diff(want[from:], got); diff != "" || !ok {
			t.Errorf("since %d: ok %v\n%s", index, ok, diff)
		}
	}
}

func TestFeedWait(t *testing.T) {
	m := newMachine(t)
	m.topics(2)
	if err := m.Feed().Wait(t.Context(), 1); err != nil {
		t.Error(err)
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Feed().Wait(canceled, 2); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	woken := make(chan error, 2)
	for range 2 {
		go func() { woken <- m.Feed().Wait(t.Context(), 2) }()
	}
	m.topics(1)
	for range 2 {
		if err := <-woken; err != nil {
			t.Error(err)
		}
	}
}

func TestFeedForgets(t *testing.T) {
	m := newMachine(t)
	const more = 10
	for range fsm.FeedLength / 100 {
		b := batch(nodeA, m.index+1)
		b.Commands = []registry.Command{registry.CreateTopic{Topic: "t"}, registry.DeleteTopic{Topic: "t"}}
		m.apply(b)
	}
	if _, ok := m.changes(0); !ok {
		t.Error("forgot before it was full")
	}
	for m.index < fsm.FeedLength+more {
		b := batch(nodeA, m.index+1)
		b.Commands = []registry.Command{registry.CreateTopic{Topic: "t"}, registry.DeleteTopic{Topic: "t"}}
		m.apply(b)
	}
	if _, ok := m.changes(more - 1); ok {
		t.Error("has what it should have forgotten")
	}
	for _, index := range []uint64{more, more + 1, fsm.FeedLength, fsm.FeedLength + more} {
		got, ok := m.changes(index)
		if !ok || len(got) != int(fsm.FeedLength+more-index) {
			t.Fatalf("since %d: %d changes, ok %v", index, len(got), ok)
		}
		for i, change := range got {
			if change.Index != index+uint64(i)+1 {
				t.Fatalf("since %d: change %d is of %d", index, i, change.Index)
			}
		}
	}
}

func TestFeedStartsAnewAfterRestore(t *testing.T) {
	m, source := newMachine(t), newMachine(t)
	m.topics(3)
	source.topics(8)
	woken := make(chan error, 1)
	go func() { woken <- m.Feed().Wait(t.Context(), 3) }()
	if err := m.restore(source.snapshot()); err != nil {
		t.Fatal(err)
	}
	if err := <-woken; err != nil {
		t.Error(err)
	}
	for _, index := range []uint64{0, 3, 7} {
		if _, ok := m.changes(index); ok {
			t.Errorf("knows what changed since %d", index)
		}
	}
	m.index = 8
	m.topics(1)
	if got, ok := m.changes(8); !ok || len(got) != 1 || got[0].Index != 9 {
		t.Errorf("since 8: %v, %v", got, ok)
	}
}

// A few reconnects of producers with many registrations must not fill the memory.
func TestFeedIsBoundedInEvents(t *testing.T) {
	m := newMachine(t)
	m.apply(batch(nodeA, 1, open(nodeA, 1, "p1")))
	number := uint64(1)
	for entry := range 14 {
		var commands []registry.Command
		for i := range 2000 {
			commands = append(commands, register(nodeA, 1, "p1", fmt.Sprintf("t%d-%d", entry, i), "c"))
		}
		number++
		m.apply(batch(nodeA, number, commands...))
	}
	m.flush()
	last, _ := m.Applied()
	if _, ok := m.changes(0); ok {
		t.Error("112,000 events are kept")
	}
	floor := last
	for {
		if _, ok := m.changes(floor - 1); !ok {
			break
		}
		floor--
	}
	changes, ok := m.changes(floor)
	events := 0
	for _, c := range changes {
		events += len(c.Events)
	}
	if !ok || events > fsm.FeedEvents || events < fsm.FeedEvents/2 {
		t.Errorf("%d events kept in %d changes, ok %v", events, len(changes), ok)
	}
}
