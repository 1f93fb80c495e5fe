package fsm_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/lookupd/lookupd/fsm"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
)

const (
	nodeA = registry.NodeID("a-00000001")
	nodeB = registry.NodeID("b-00000002")
)

// machine is an FSM under test; its invariants are checked when the test ends.
type machine struct {
	*fsm.FSM
	t     testing.TB
	dir   string
	fatal []error
	index uint64

	transactions atomic.Int64 // committed
}

func newMachine(t testing.TB) *machine { return newMachineOf(t, "cluster-1") }

func newMachineOf(t testing.TB, clusterID string) *machine {
	t.Helper()
	m := &machine{t: t, dir: t.TempDir()}
	f, err := fsm.New(fsm.Config{
		Dir:       m.dir,
		ClusterID: func() string { return clusterID },
		Logger:    slog.New(slog.DiscardHandler),
		OnFatal:   func(err error) { m.fatal = append(m.fatal, err) },
		Took:      func(time.Duration) { m.transactions.Add(1) },
	})
	if err != nil {
		t.Fatal(err)
	}
	m.FSM = f
	t.Cleanup(func() {
		if err := f.View((*store.View).Check); err != nil {
			t.Error(err)
		}
		if err := errors.Join(f.Close(), f.Close()); err != nil {
			t.Error(err)
		}
	})
	return m
}

// entryOf returns a log entry.
func entryOf(t testing.TB, index uint64, b fsm.Batch) *raft.Log {
	t.Helper()
	data, err := fsm.EncodeBatch(b)
	if err != nil {
		t.Fatal(err)
	}
	return &raft.Log{Index: index, Term: 1, Type: raft.LogCommand, Data: data}
}

// apply applies b as the next entry.
func (m *machine) apply(b fsm.Batch) fsm.BatchResult {
	m.t.Helper()
	m.index++
	response := m.Apply(entryOf(m.t, m.index, b))
	result, ok := response.(fsm.BatchResult)
	if !ok {
		m.t.Fatalf("response %v", response)
	}
	return result
}

// flush makes visible what is applied; after a failure nothing is any more.
func (m *machine) flush() {
	m.t.Helper()
	if err := fsm.Flush(m.FSM); err != nil && len(m.fatal) == 0 {
		m.t.Fatal(err)
	}
}

// changes returns what the feed has after an index, once all that is applied is in it.
func (m *machine) changes(after uint64) ([]registry.Change, bool) {
	m.t.Helper()
	m.flush()
	return m.Feed().Since(after)
}

// view shows all that is applied.
func (m *machine) view(fn func(*store.View) error) {
	m.t.Helper()
	m.flush()
	if err := m.View(fn); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) hash() (hash uint64) {
	m.t.Helper()
	m.view(func(v *store.View) error {
		hash = v.Hash()
		return nil
	})
	return hash
}

// rows returns every row of the state as text.
func (m *machine) rows() (rows []string) {
	m.t.Helper()
	m.view(func(v *store.View) error {
		v.Rows(func(table string, key, value []byte) {
			rows = append(rows, fmt.Sprintf("%s %q %x", table, key, value))
		})
		return nil
	})
	return rows
}

// snapshot returns the bytes of a snapshot.
func (m *machine) snapshot() []byte {
	m.t.Helper()
	s, err := m.Snapshot()
	if err != nil {
		m.t.Fatal(err)
	}
	defer s.Release()
	var sink sink
	if err := s.Persist(&sink); err != nil {
		m.t.Fatal(err)
	}
	if !sink.closed || sink.canceled {
		m.t.Fatal("sink was not closed")
	}
	return sink.Bytes()
}

func (m *machine) restore(snapshot []byte) error {
	return m.Restore(io.NopCloser(bytes.NewReader(snapshot)))
}

// sink is a raft.SnapshotSink; it fails after limit bytes unless that is 0.
type sink struct {
	bytes.Buffer
	limit            int
	closed, canceled bool
	closeError       error
	onClose          func() // nil for nothing
}

var errSink = errors.New("sink is full")

func (s *sink) Write(p []byte) (int, error) {
	if s.limit > 0 && s.Len()+len(p) > s.limit {
		return 0, errSink
	}
	return s.Buffer.Write(p)
}

func (s *sink) ID() string { return "test" }

func (s *sink) Close() error {
	s.closed = true
	if s.onClose != nil {
		s.onClose()
	}
	return s.closeError
}

func (s *sink) Cancel() error {
	s.canceled = true
	return nil
}

func info(host string) registry.ProducerInfo {
	return registry.ProducerInfo{
		RemoteAddress: host + ":50000", Hostname: "host-" + host, BroadcastAddress: host,
		TCPPort: 4150, HTTPPort: 4151, Version: "1.3.0",
	}
}

func sid(node registry.NodeID, seq uint64) registry.SessionID {
	return registry.SessionID{Node: node, Epoch: 1, Seq: seq}
}

func open(node registry.NodeID, seq uint64, host string) registry.Command {
	return registry.OpenSession{Session: sid(node, seq), Producer: info(host)}
}

func register(node registry.NodeID, seq uint64, host, topic, channel string) registry.Command {
	return registry.Register{Session: sid(node, seq), Producer: info(host).ID(), Topic: topic, Channel: channel}
}

func batch(origin registry.NodeID, number uint64, commands ...registry.Command) fsm.Batch {
	return fsm.Batch{Origin: origin, Epoch: 1, Number: number, Commands: commands}
}
