package store_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
)

// offering is a state with three producers: p1 on two peers, p2 suspended on its only one, p3 idle.
func offering(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.must(
		open(nodeB, 1, "p1"),
		open(nodeA, 1, "p1"),
		open(nodeA, 2, "p2"),
		open(nodeC, 1, "p3"),
		register(nodeA, 1, "p1", "t", "d"),
		register(nodeB, 1, "p1", "t", "c"),
		register(nodeA, 1, "p1", "s", ""),
		register(nodeA, 2, "p2", "t", "c"),
		suspend(nodeA, 2, "p2"),
		tombstone("s", "p1:4151"),
		createTopic("empty"),
	)
	return w
}

func TestEmptyViewHasNoNil(t *testing.T) {
	newWorld(t).view(func(v *store.View) error {
		topic, found := v.Topic("t")
		_, sessions, known := v.Producer(id("p1"))
		if found || known || len(sessions) != 0 {
			t.Error("found something in nothing")
		}
		for name, list := range map[string]bool{
			"Topics": v.Topics() != nil, "Channels": v.Channels("t") != nil, "Nodes": v.Nodes() != nil,
			"Topic.Channels": topic.Channels != nil, "Topic.Producers": topic.Producers != nil,
			"Registrations": v.Registrations() != nil, "Producers": v.Producers() != nil,
			"Held": v.Held(nodeA, id("p1")) != nil, "Sessions": v.Sessions() != nil,
			"Tombstones": v.Tombstones() != nil,
		} {
			if !list {
				t.Errorf("%s is nil", name)
			}
		}
		if diff := cmp.Diff(registry.Counts{}, v.Counts()); diff != "" || v.Hash() != 0 {
			t.Errorf("counts %s, hash %x", diff, v.Hash())
		}
		return nil
	})
}

func TestView(t *testing.T) {
	w := offering(t)
	state := func(node registry.NodeID, seq uint64, suspended bool) registry.SessionState {
		return registry.SessionState{ID: sid(node, seq), Suspended: suspended}
	}
	w.view(func(v *store.View) error {
		topic, _ := v.Topic("t")
		p1, p1Sessions, _ := v.Producer(id("p1"))
		for _, test := range []struct {
			name      string
			got, want any
		}{
			{"Topics", v.Topics(), []string{"empty", "s", "t"}},
			{"Channels", v.Channels("t"), []string{"c", "d"}},
			{"Channels of an invalid topic", v.Channels("t\x00p"), []string{}},
			{"Topic", topic, registry.Topic{Channels: []string{"c", "d"}, Producers: []registry.ProducerInfo{info("p1")}}},
			{"Nodes", v.Nodes(), []registry.Node{
				{ProducerInfo: info("p1"), Topics: []string{"s", "t"}, Tombstones: []bool{true, false}},
				{ProducerInfo: info("p3"), Topics: []string{}, Tombstones: []bool{}},
			}},
			{"Producers", v.Producers(), []registry.ProducerInfo{info("p1"), info("p2"), info("p3")}},
			{"Producer", p1, info("p1")},
			{"Producer's sessions", p1Sessions, []registry.SessionState{state(nodeA, 1, false), state(nodeB, 1, false)}},
			{"Sessions", v.Sessions(), []store.ProducerSession{
				{SessionState: state(nodeA, 1, false), Producer: id("p1")},
				{SessionState: state(nodeB, 1, false), Producer: id("p1")},
				{SessionState: state(nodeA, 2, true), Producer: id("p2")},
				{SessionState: state(nodeC, 1, false), Producer: id("p3")},
			}},
			{"Held", v.Held(nodeA, id("p1")), []store.Name{{Topic: "t", Channel: "d"}, {Topic: "s"}, {Topic: "t"}}},
			{"Held by another", v.Held(nodeB, id("p1")), []store.Name{{Topic: "t", Channel: "c"}, {Topic: "t"}}},
			{"Held by a stranger", v.Held("x-00000009", id("p1")), []store.Name{}},
			{"Tombstones", v.Tombstones(), []store.TopicTombstone{{Topic: "s", Producer: id("p1"), SetAt: 10}}},
			{"Counts", v.Counts(), registry.Counts{Topics: 3, Channels: 2, Producers: 3, Sessions: 4, Registrations: 6}},
			{"first registration", v.Registrations()[0], registry.Registration{
				Topic: "s", Producer: info("p1"), Holders: []registry.NodeID{nodeA}, Tombstoned: true, TombstoneSetAt: 10,
			}},
			{"last registration", v.Registrations()[5], registry.Registration{
				Topic: "t", Channel: "d", Producer: info("p1"), Holders: []registry.NodeID{nodeA},
			}},
		} {
			if diff := cmp.Diff(test.want, test.got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", test.name, diff)
			}
		}
		return nil
	})
}

func TestHolds(t *testing.T) {
	offering(t).view(func(v *store.View) error {
		for _, test := range []struct {
			node           registry.NodeID
			host           string
			topic, channel string
			want           bool
		}{
			{nodeA, "p1", "t", "", true},
			{nodeA, "p1", "t", "d", true},
			{nodeA, "p1", "t", "c", false},
			{nodeB, "p1", "t", "c", true},
			{nodeC, "p1", "t", "", false},
			{"x-00000009", "p1", "t", "", false},
			{nodeA, "p3", "t", "", false},
			{nodeA, "p1", "x", "", false},
		} {
			if got := v.Holds(test.node, id(test.host), test.topic, test.channel); got != test.want {
				t.Errorf("%+v: got %v", test, got)
			}
		}
		return nil
	})
}

func TestOrigin(t *testing.T) {
	w := newWorld(t)
	results := []registry.Result{changed, unchanged, notOpen}
	for number := uint64(1); number < 3; number++ {
		w.do(func(c *store.Change) registry.Result {
			c.SetOrigin(nodeB, 7, number, results)
			return changed
		})
	}
	w.view(func(v *store.View) error {
		epoch, number, got, index, found := v.Origin(nodeB)
		if !found || epoch != 7 || number != 2 || index != 2 {
			t.Errorf("got epoch %d, number %d, index %d, found %v", epoch, number, index, found)
		}
		compareSets(t, "results", got, results)
		if _, _, _, _, found := v.Origin(nodeA); found {
			t.Error("found an origin that never sent a batch")
		}
		return nil
	})
}

func TestUpdateIsAllOrNothing(t *testing.T) {
	w := offering(t)
	before, failure := rows(t, w.state), errors.New("failure")
	err := w.state.Update(func(c *store.Change) error {
		c.Entry(99, 1, nodeA)
		c.DeleteTopic("t")
		return failure
	})
	if !errors.Is(err, failure) {
		t.Errorf("error %v", err)
	}
	compareSets(t, "rows", rows(t, w.state), before)
}

func TestHashTellsStatesApart(t *testing.T) {
	seen := map[uint64]string{}
	for name, o := range map[string]op{
		"topic u":        createTopic("u"),
		"channel t/u":    createChannel("t", "u"),
		"tombstone":      tombstone("t", "p1:4151"),
		"suspended":      suspend(nodeA, 1, "p1"),
		"second session": open(nodeB, 1, "p3"),
		"same":           createTopic("t"),
	} {
		w := offering(t)
		w.do(o)
		w.view(func(v *store.View) error {
			if other, twice := seen[v.Hash()]; twice {
				t.Errorf("%s and %s have one hash", name, other)
			}
			seen[v.Hash()] = name
			return nil
		})
	}
}

func TestManyPeersKeepTheirNumbers(t *testing.T) {
	w := newWorld(t)
	for i := range 300 { // above one byte
		node := registry.NodeID(fmt.Sprintf("n%d-00000000", i))
		w.must(open(node, 1, "p1"), register(node, 1, "p1", "t", ""))
	}
	w.view(func(v *store.View) error {
		sessions := v.Sessions()
		for i := range 300 {
			node := registry.NodeID(fmt.Sprintf("n%d-00000000", i))
			if !v.Holds(node, id("p1"), "t", "") ||
				!slices.ContainsFunc(sessions, func(s store.ProducerSession) bool { return s.ID.Node == node }) {
				t.Fatalf("%s holds nothing", node)
			}
		}
		return nil
	})
}

func TestCountsThatAreNotKept(t *testing.T) {
	w := offering(t)
	counts := func() (active, tombstones int) {
		w.view(func(v *store.View) error {
			active, tombstones = v.ActiveProducers(), v.TombstoneCount()
			return nil
		})
		return active, tombstones
	}
	if active, tombstones := counts(); active != 2 || tombstones != 1 {
		t.Error(active, tombstones)
	}
	w.must(resume(nodeA, 2, "p2"), suspend(nodeA, 1, "p1"), suspend(nodeB, 1, "p1"), suspend(nodeC, 1, "p3"))
	if active, _ := counts(); active != 1 {
		t.Error(active)
	}
}
