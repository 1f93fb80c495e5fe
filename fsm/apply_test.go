package fsm_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/raft"
	"github.com/lookupd/lookupd/fsm"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
)

func results(r ...registry.Result) []registry.Result { return r }

const (
	changed   = registry.ResultChanged
	unchanged = registry.ResultUnchanged
	foreign   = registry.ResultForeignSession
)

func TestEveryCommandIsApplied(t *testing.T) {
	m := newMachine(t)
	p1 := info("p1").ID()
	got := m.apply(batch(nodeA, 1,
		registry.Noop{},
		open(nodeA, 1, "p1"),
		register(nodeA, 1, "p1", "t", "c"),
		registry.SuspendSession{Session: sid(nodeA, 1), Producer: p1},
		registry.ResumeSession{Session: sid(nodeA, 1), Producer: p1},
		registry.Tombstone{Topic: "t", Node: "p1:4151"},
		registry.EndTombstone{Topic: "t", Producer: p1, SetAt: 1},
		registry.Unregister{Session: sid(nodeA, 1), Producer: p1, Topic: "t", Channel: "c"},
		registry.CreateTopic{Topic: "u"},
		registry.CreateChannel{Topic: "u", Channel: "c"},
		registry.DeleteChannel{Topic: "u", Channel: "c"},
		registry.DeleteChannel{Topic: "u", Channel: "c"},
		registry.DeleteTopic{Topic: "u"},
		registry.CloseSession{Session: sid(nodeA, 1), Producer: p1},
	))
	want := fsm.BatchResult{Index: 1, Results: results(
		unchanged, changed, changed, changed, changed, changed, changed, changed,
		changed, changed, changed, registry.ResultChannelNotFound, changed, changed,
	)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestFence(t *testing.T) {
	m := newMachine(t)
	create := func(epoch, number uint64, topic string) fsm.BatchResult {
		return m.apply(fsm.Batch{Origin: nodeA, Epoch: epoch, Number: number, Commands: []registry.Command{registry.CreateTopic{Topic: topic}}})
	}
	stale := func(index uint64) fsm.BatchResult { return fsm.BatchResult{Index: index, Stale: true} }
	for i, test := range []struct {
		epoch, number uint64
		topic         string
		want          fsm.BatchResult
	}{
		{1, 5, "t", fsm.BatchResult{Index: 1, Results: results(changed)}},
		{1, 5, "t", fsm.BatchResult{Index: 1, Results: results(changed)}}, // again: as stored
		{1, 4, "x", stale(3)},
		{1, 9, "t", fsm.BatchResult{Index: 4, Results: results(unchanged)}},
		{1, 5, "x", stale(5)},
		{2, 1, "u", fsm.BatchResult{Index: 6, Results: results(changed)}},
		{1, 10, "x", stale(7)}, // of an earlier start
		{2, 1, "u", fsm.BatchResult{Index: 6, Results: results(changed)}},
	} {
		if diff := cmp.Diff(test.want, create(test.epoch, test.number, test.topic)); diff != "" {
			t.Errorf("batch %d (-want +got):\n%s", i+1, diff)
		}
	}
	if got := m.apply(batch(nodeB, 1, registry.CreateTopic{Topic: "b"})); got.Stale {
		t.Error("another origin's batch is late")
	}
	m.view(func(v *store.View) error {
		if got := v.Topics(); !slices.Equal(got, []string{"b", "t", "u"}) {
			t.Errorf("topics %v", got)
		}
		return nil
	})
}

func TestBatchOfNoOpsNeedsNoOrigin(t *testing.T) {
	m := newMachine(t)
	for range 2 {
		if got := m.apply(fsm.Batch{Commands: []registry.Command{registry.Noop{}}}); got.Stale || got.Index != m.index {
			t.Errorf("got %+v", got)
		}
	}
	if m.hash() != 0 {
		t.Error("a no-op changed the state")
	}
}

func TestForeignSessions(t *testing.T) {
	m := newMachine(t)
	p1 := info("p1").ID()
	m.apply(batch(nodeA, 1, open(nodeA, 1, "p1"), register(nodeA, 1, "p1", "t", "")))
	got := m.apply(batch(nodeB, 1,
		open(nodeA, 2, "p1"),
		register(nodeA, 1, "p1", "u", ""),
		registry.Unregister{Session: sid(nodeA, 1), Producer: p1, Topic: "t"},
		registry.ResumeSession{Session: sid(nodeA, 1), Producer: p1},
		registry.SuspendSession{Session: sid(nodeA, 1), Producer: p1},
		registry.Tombstone{Topic: "t", Node: "p1:4151"},
		registry.EndTombstone{Topic: "t", Producer: p1, SetAt: 2},
		registry.CloseSession{Session: sid(nodeA, 1), Producer: p1},
	))
	want := results(foreign, foreign, foreign, foreign, foreign, changed, changed, foreign)
	if diff := cmp.Diff(want, got.Results); diff != "" {
		t.Error(diff)
	}
}

// A leader ends another peer's session in the term in which it decided to, and
// in no later one.
func TestEndOrphan(t *testing.T) {
	m := newMachine(t)
	p1 := info("p1").ID()
	m.apply(batch(nodeA, 1, open(nodeA, 1, "p1"), register(nodeA, 1, "p1", "t", "")))
	_, term := m.Applied()
	end := func(term uint64) registry.EndOrphan {
		return registry.EndOrphan{Session: sid(nodeA, 1), Producer: p1, Term: term}
	}
	got := m.apply(batch(nodeB, 1, end(term-1), end(term+1), end(term), end(term)))
	want := results(registry.ResultTermEnded, registry.ResultTermEnded, changed, registry.ResultUnchanged)
	if diff := cmp.Diff(want, got.Results); diff != "" {
		t.Error(diff)
	}
}

func TestEntriesTheStateHasAreSkipped(t *testing.T) {
	m := newMachine(t)
	first := entryOf(t, 5, batch(nodeA, 1, registry.CreateTopic{Topic: "t"}))
	late := entryOf(t, 4, batch(nodeB, 1, registry.CreateTopic{Topic: "x"}))
	m.ApplyBatch([]*raft.Log{first})
	got := m.ApplyBatch([]*raft.Log{late, {Index: 5, Term: 1, Type: raft.LogConfiguration}})
	if diff := cmp.Diff([]any{fsm.BatchResult{Index: 4, Stale: true}, nil}, got); diff != "" {
		t.Error(diff)
	}
	m.flush()
	if index, _ := m.Applied(); index != 5 || m.ConfigurationIndex() != 0 {
		t.Errorf("applied %d, configuration %d", index, m.ConfigurationIndex())
	}
}

func TestConfigurationsCount(t *testing.T) {
	m := newMachine(t)
	m.ApplyBatch([]*raft.Log{
		{Index: 1, Term: 1, Type: raft.LogConfiguration},
		entryOf(t, 3, batch(nodeA, 1, registry.CreateTopic{Topic: "t"})),
		{Index: 4, Term: 2, Type: raft.LogConfiguration},
	})
	if index, term := m.Applied(); index != 4 || term != 2 || m.ConfigurationIndex() != 4 {
		t.Errorf("applied %d of term %d, configuration %d", index, term, m.ConfigurationIndex())
	}
}

func TestWhatCannotBeUnderstoodIsFatal(t *testing.T) {
	kind15 := []byte{0x0a, 1, 'a', 0x22, 2, 0x7a, 0} // origin "a", a command of kind 15
	for name, test := range map[string]struct {
		data []byte
		want error
		text string
	}{
		"R9 newer kind":  {kind15, fsm.ErrUnknownCommand, "kind or field 15, this binary knows command kinds up to"},
		"R9 newer field": {[]byte{0x0a, 1, 'a', 0x28, 1}, fsm.ErrUnknownCommand, "5"},
		"garbage":        {[]byte("garbage"), fsm.ErrBadBatch, ""},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			good := entryOf(t, 1, batch(nodeA, 1, registry.CreateTopic{Topic: "t"}))
			got := m.ApplyBatch([]*raft.Log{good, {Index: 2, Term: 1, Data: test.data}})
			if len(m.fatal) != 1 || !errors.Is(m.fatal[0], test.want) || !strings.Contains(m.fatal[0].Error(), "entry 2") ||
				!strings.Contains(m.fatal[0].Error(), test.text) {
				t.Errorf("fatal: %v", m.fatal)
			}
			if len(got) != 2 || got[1] != any(m.fatal[0]) {
				t.Errorf("responses %v", got)
			}
			before := m.hash()
			if got := m.Apply(entryOf(t, 3, batch(nodeA, 2, registry.CreateTopic{Topic: "u"}))); got != any(m.fatal[0]) {
				t.Errorf("response %v", got)
			}
			if m.hash() != before || len(m.fatal) != 1 {
				t.Error("it goes on")
			}
		})
	}
}

// TestGroupingDoesNotMatter applies one random log in several groupings, and
// holds transactions for longer or shorter.
func TestGroupingDoesNotMatter(t *testing.T) {
	const entries = 400
	random := rand.New(rand.NewPCG(1, 2))
	var logs []*raft.Log
	for i := range uint64(entries) {
		if i%50 == 7 {
			logs = append(logs, &raft.Log{Index: i + 1, Term: 1, Type: raft.LogConfiguration})
			continue
		}
		logs = append(logs, entryOf(t, i+1, randomBatch(random, i+1)))
	}
	reference, referenceResponses := newMachine(t), []any{}
	fsm.HoldFor(reference.FSM, 0)
	for _, log := range logs {
		referenceResponses = append(referenceResponses, reference.Apply(log))
	}
	referenceChanges, _ := reference.changes(0)
	for _, size := range []int{1, 2, 7, 64, entries, 0} {
		for _, hold := range []time.Duration{0, time.Millisecond, time.Hour} {
			t.Run(fmt.Sprintf("groups of %d held for %v", size, hold), func(t *testing.T) {
				m, responses := newMachine(t), []any{}
				fsm.HoldFor(m.FSM, hold)
				for rest := logs; len(rest) > 0; {
					n := size
					if n == 0 {
						n = 1 + random.IntN(40)
					}
					n = min(n, len(rest))
					responses = append(responses, m.ApplyBatch(rest[:n])...)
					if random.IntN(4) == 0 { // a reader comes by
						if err := m.WaitApplied(t.Context(), rest[random.IntN(n)].Index); err != nil {
							t.Fatal(err)
						}
					}
					rest = rest[n:]
				}
				if m.hash() != reference.hash() {
					t.Error("hashes differ")
				}
				changes, _ := m.changes(0)
				for what, diff := range map[string]string{
					"rows":      cmp.Diff(reference.rows(), m.rows()),
					"responses": cmp.Diff(referenceResponses, responses),
					"changes":   cmp.Diff(referenceChanges, changes),
				} {
					if diff != "" {
						t.Errorf("%s differ:\n%s", what, diff)
					}
				}
			})
		}
	}
}

// randomBatch draws a batch, now and then one that comes twice or late.
func randomBatch(random *rand.Rand, number uint64) fsm.Batch {
	node := []registry.NodeID{nodeA, nodeB}[random.IntN(2)]
	if random.IntN(10) == 0 && number > 3 {
		number -= uint64(random.IntN(3))
	}
	b := batch(node, number)
	for range random.IntN(30) {
		b.Commands = append(b.Commands, randomCommand(random, node))
	}
	return b
}

func randomCommand(random *rand.Rand, node registry.NodeID) registry.Command {
	pick := func(of ...string) string { return of[random.IntN(len(of))] }
	host, topic, channel := pick("p1", "p2", "p3"), pick("t", "u", "v#ephemeral"), pick("", "c", "d#ephemeral")
	seq := uint64(random.IntN(2) + 1)
	switch random.IntN(16) {
	case 0, 1, 2:
		return open(node, seq, host)
	case 3:
		return registry.CloseSession{Session: sid(node, seq), Producer: info(host).ID()}
	case 4:
		return registry.SuspendSession{Session: sid(node, seq), Producer: info(host).ID()}
	case 5:
		return registry.DeleteTopic{Topic: topic}
	case 6:
		return registry.DeleteChannel{Topic: topic, Channel: "c"}
	case 7:
		return registry.Tombstone{Topic: topic, Node: host + ":4151"}
	case 8, 9:
		return registry.Unregister{Session: sid(node, seq), Producer: info(host).ID(), Topic: topic, Channel: channel}
	case 10:
		return registry.CreateChannel{Topic: topic, Channel: "e#ephemeral"}
	default:
		return register(node, seq, host, topic, channel)
	}
}

// TestManyCommandsAtOnce: a replay hands over entries with more commands than one transaction takes.
func TestManyCommandsAtOnce(t *testing.T) {
	m := newMachine(t)
	logs := []*raft.Log{entryOf(t, 1, batch(nodeA, 1, open(nodeA, 1, "p1")))}
	for i := range uint64(10) {
		b := batch(nodeA, i+2)
		for j := range 1000 {
			b.Commands = append(b.Commands, register(nodeA, 1, "p1", fmt.Sprintf("t%d.%d", i, j), ""))
		}
		logs = append(logs, entryOf(t, i+2, b))
	}
	for i, response := range m.ApplyBatch(logs) {
		if got := response.(fsm.BatchResult); got.Index != uint64(i+1) || got.Stale {
			t.Errorf("response %d: index %d, stale %v", i, got.Index, got.Stale)
		}
	}
	m.view(func(v *store.View) error {
		if got := v.Counts().Topics; got != 10_000 {
			t.Errorf("%d topics", got)
		}
		return nil
	})
}

// TestHashMarks: each 1,024th entry leaves the hash that the state had right then, the last 32 are kept.
func TestHashMarks(t *testing.T) {
	const every, entries, kept = 1024, 40 * 1024, 32
	grouped, single := newMachine(t), newMachine(t)
	want := map[uint64]uint64{}
	var logs []*raft.Log
	for i := range uint64(entries) {
		log := &raft.Log{Index: i + 1, Term: 1, Type: raft.LogConfiguration}
		if i%100 == 0 || (i+1)%every == 0 {
			log = entryOf(t, i+1, batch(nodeA, i+1, registry.CreateTopic{Topic: fmt.Sprint("t", i)}))
			single.Apply(log)
			want[log.Index] = single.hash()
		}
		logs = append(logs, log)
	}
	for chunk := range slices.Chunk(logs, 700) {
		grouped.ApplyBatch(chunk)
	}
	grouped.ApplyBatch(logs[:every+1]) // skipped: leaves none
	grouped.flush()
	marks := grouped.HashMarks()
	if len(marks) != kept || marks[kept-1].Index != entries {
		t.Fatalf("%d marks: %v", len(marks), marks)
	}
	for i, mark := range marks {
		if mark.Index != uint64(entries-(kept-1-i)*every) || mark.Hash != want[mark.Index] {
			t.Errorf("mark %d: %+v, hash should be %x", i, mark, want[mark.Index])
		}
	}
}
