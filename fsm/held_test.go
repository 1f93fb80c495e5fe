package fsm_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/raft"
	"github.com/lookupd/lookupd/fsm"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
)

// newHolder is a machine that commits by itself only what comes first, a topic.
func newHolder(t testing.TB) *machine {
	t.Helper()
	m := newMachine(t)
	fsm.HoldFor(m.FSM, time.Hour)
	m.topics(1)
	return m
}

// shows checks what is visible, without making more so.
func (m *machine) shows(index uint64) {
	m.t.Helper()
	if got, _ := m.Applied(); got != index {
		m.t.Errorf("applied %d, want %d", got, index)
	}
	if got, ok := m.Feed().Since(0); !ok || uint64(len(got)) != index {
		m.t.Errorf("the feed has %d changes, ok %v, want %d", len(got), ok, index)
	}
	if err := m.View(m.isAt(index)); err != nil {
		m.t.Error(err)
	}
}

// isAt checks that a state into which topics alone went is at an index.
func (m *machine) isAt(index uint64) func(*store.View) error {
	return func(v *store.View) error {
		if at, _ := v.Applied(); at != index || uint64(len(v.Topics())) != index {
			return fmt.Errorf("state is at %d with %d topics, want %d", at, len(v.Topics()), index)
		}
		return nil
	}
}

func TestBatchesShareATransaction(t *testing.T) {
	m := newHolder(t)
	m.shows(1) // nothing was shortly before it
	m.topics(20)
	m.shows(1)
	m.flush()
	m.shows(21)
	if got := m.transactions.Load(); got != 2 {
		t.Errorf("%d transactions", got)
	}
	m.topics(1)
	m.shows(21)
}

func TestIsolatedBatchesAreNotHeld(t *testing.T) {
	m := newMachine(t)
	fsm.HoldFor(m.FSM, time.Nanosecond)
	for i := range uint64(5) {
		m.topics(1)
		m.shows(i + 1)
	}
}

func TestTransactionsAreBounded(t *testing.T) {
	m := newHolder(t)
	for range 5 {
		b := batch(nodeA, m.index+1)
		for i := range 1000 {
			b.Commands = append(b.Commands, registry.CreateTopic{Topic: fmt.Sprint("of-", m.index, "-", i)})
		}
		m.apply(b)
	}
	if index, _ := m.Applied(); index != 5 || m.transactions.Load() != 3 {
		t.Errorf("applied %d in %d transactions", index, m.transactions.Load())
	}
}

// Who follows the feed asks for no index; the timer tells it.
func TestTimerCommits(t *testing.T) {
	m := newMachine(t)
	fsm.HoldFor(m.FSM, time.Millisecond)
	for i := range uint64(50) {
		m.topics(1)
		if err := m.Feed().Wait(t.Context(), i); err != nil {
			t.Fatal(err)
		}
		if err := m.WaitApplied(t.Context(), i+1); err != nil {
			t.Fatal(err)
		}
		m.shows(i + 1)
	}
}

func TestWaitAppliedCommitsWhatIsHeld(t *testing.T) {
	m := newHolder(t)
	m.topics(5)
	m.shows(1)
	if err := m.WaitApplied(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	m.shows(6)
	synctest.Test(t, func(t *testing.T) { // so that the waiter waits before there is anything
		waited := make(chan error)
		go func() { waited <- m.WaitApplied(t.Context(), 8) }()
		synctest.Wait()
		m.topics(1)
		m.shows(6) // this is not what is waited for
		m.topics(1)
		if err := <-waited; err != nil {
			t.Error(err)
		}
		m.shows(8)
	})
}

// TestReadersWhileTransactionsAreHeld: waiters, views and followers of the feed see
// states that are whole and go forward, and each event once.
func TestReadersWhileTransactionsAreHeld(t *testing.T) {
	for _, hold := range []time.Duration{time.Millisecond, time.Hour} {
		t.Run(hold.String(), func(t *testing.T) { readWhileHeld(t, hold) })
	}
}

func readWhileHeld(t *testing.T, hold time.Duration) {
	const entries, readers = 400, 8
	m := newMachine(t)
	fsm.HoldFor(m.FSM, hold)
	var all sync.WaitGroup
	for r := range uint64(readers) {
		all.Go(func() { // waits for some
			for index := 1 + r; index <= entries; index += readers {
				if err := m.WaitApplied(t.Context(), index); err != nil {
					t.Error(err)
					return
				}
				changes, ok := m.Feed().Since(index - 1)
				if !ok || len(changes) == 0 || changes[0].Index != index {
					t.Errorf("index %d: the feed has not got it", index)
				}
				if err := m.View(m.isWholeFrom(index)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Go(func() { // looks
		for seen := uint64(0); seen < entries; {
			seen, _ = m.Applied()
			if err := m.View(m.isWholeFrom(seen)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	all.Go(func() { // follows
		for seen := uint64(0); seen < entries; {
			if err := m.Feed().Wait(t.Context(), seen); err != nil {
				t.Error(err)
				return
			}
			changes, _ := m.Feed().Since(seen)
			for _, c := range changes {
				if seen++; c.Index != seen || len(c.Events) != 1 {
					t.Errorf("change of %d with %d events, want one of %d", c.Index, len(c.Events), seen)
					return
				}
			}
		}
	})
	m.topics(entries)
	all.Wait()
	m.flush()
	m.shows(entries)
}

// isWholeFrom checks that a state into which topics alone went has all up to its
// index, which is not below from.
func (m *machine) isWholeFrom(from uint64) func(*store.View) error {
	return func(v *store.View) error {
		at, _ := v.Applied()
		if at < from {
			return fmt.Errorf("state is at %d after %d", at, from)
		}
		return m.isAt(at)(v)
	}
}

func TestSnapshotsHaveWhatIsHeld(t *testing.T) {
	m, other := newHolder(t), newMachine(t)
	m.topics(3)
	if err := other.restore(m.snapshot()); err != nil {
		t.Fatal(err)
	}
	if err := other.View(other.isAt(4)); err != nil {
		t.Error(err)
	}
	m.topics(1)
	saved, err := m.Save()
	if err != nil {
		t.Fatal(err)
	}
	defer saved.Release()
	if got := saved.Info().Index; got != 5 {
		t.Errorf("saved at %d", got)
	}
}

func TestRestoreWhileATransactionIsHeld(t *testing.T) {
	source := newHolder(t)
	source.topics(3)
	snapshot := source.snapshot()
	m := newHolder(t)
	m.topics(2)
	if err := m.restore(snapshot[:len(snapshot)-1]); !errors.Is(err, fsm.ErrBadSnapshot) {
		t.Fatalf("error %v", err)
	}
	m.shows(3) // what was held is not lost
	m.apply(batch(nodeB, 1, registry.CreateTopic{Topic: "replaced"}))
	if err := m.restore(snapshot); err != nil {
		t.Fatal(err)
	}
	if err := m.View(m.isAt(4)); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(source.rows(), m.rows()); diff != "" {
		t.Error(diff)
	}
	m.index = 4
	m.topics(2)
	if err := m.WaitApplied(t.Context(), 6); err != nil {
		t.Fatal(err)
	}
	if err := m.View(m.isAt(6)); err != nil {
		t.Error(err)
	}
}

// TestCloseWhileATransactionIsHeld would hang: bbolt waits for it.
func TestCloseWhileATransactionIsHeld(t *testing.T) {
	f, err := fsm.New(fsm.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	fsm.HoldFor(f, time.Hour)
	for i := range uint64(3) {
		f.Apply(entryOf(t, i+1, batch(nodeA, i+1, registry.CreateTopic{Topic: fmt.Sprint("t", i)})))
	}
	if err := errors.Join(f.Close(), fsm.Flush(f), f.Close()); err != nil {
		t.Error(err)
	}
	if index, _ := f.Applied(); index != 1 {
		t.Errorf("applied %d", index)
	}
}

// TestConfigurationsAreNotHeld: the next change of the members names it.
func TestConfigurationsAreNotHeld(t *testing.T) {
	m := newHolder(t)
	m.topics(1)
	m.ApplyBatch([]*raft.Log{{Index: 3, Term: 1, Type: raft.LogConfiguration}})
	if got := m.ConfigurationIndex(); got != 3 {
		t.Errorf("configuration %d", got)
	}
}

// TestFailureWhileATransactionIsHeld: what was not committed never is, whoever asks.
func TestFailureWhileATransactionIsHeld(t *testing.T) {
	m := newHolder(t)
	m.topics(2)
	good := entryOf(t, 4, batch(nodeA, 4, registry.CreateTopic{Topic: "t3"}))
	got := m.ApplyBatch([]*raft.Log{good, {Index: 5, Term: 1, Data: []byte("garbage")}})
	if len(m.fatal) != 1 || len(got) != 2 || got[0] != any(m.fatal[0]) || got[1] != any(m.fatal[0]) {
		t.Fatalf("fatal %v, responses %v", m.fatal, got)
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.WaitApplied(canceled, 2); !errors.Is(err, context.Canceled) {
		t.Errorf("wait: %v", err)
	}
	_, snapshotErr := m.Snapshot()
	_, saveErr := m.Save()
	for what, err := range map[string]error{
		"flush": fsm.Flush(m.FSM), "snapshot": snapshotErr, "save": saveErr, "restore": m.restore(nil),
	} {
		if !errors.Is(err, m.fatal[0]) {
			t.Errorf("%s: %v", what, err)
		}
	}
	m.shows(1)
	if len(m.fatal) != 1 || fsm.Holds(m.FSM) {
		t.Errorf("fatal: %v, a transaction is open: %v", m.fatal, fsm.Holds(m.FSM))
	}
}
