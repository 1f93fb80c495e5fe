package fsm_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/raft"
	"github.com/lookupd/lookupd/fsm"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
)

// filled is a machine with a bit of everything.
func filled(t testing.TB) *machine {
	t.Helper()
	m := newMachine(t)
	m.apply(batch(nodeA, 1,
		open(nodeA, 1, "p1"),
		register(nodeA, 1, "p1", "t", "c"),
		register(nodeA, 1, "p1", "u#ephemeral", "d#ephemeral"),
		registry.CreateChannel{Topic: "empty", Channel: "c"},
		registry.Tombstone{Topic: "t", Node: "p1:4151"},
	))
	m.apply(batch(nodeB, 1, open(nodeB, 1, "p1"), register(nodeB, 1, "p1", "t", "")))
	m.apply(batch(nodeB, 2, registry.SuspendSession{Session: sid(nodeB, 1), Producer: info("p1").ID()}))
	m.index++
	m.Apply(&raft.Log{Index: m.index, Term: 1, Type: raft.LogConfiguration})
	return m
}

func TestRestoreIsExact(t *testing.T) {
	original := filled(t)
	restored := newMachine(t)
	restored.apply(batch(nodeA, 1, registry.CreateTopic{Topic: "replaced"}))
	if err := restored.restore(original.snapshot()); err != nil {
		t.Fatal(err)
	}
	restored.index = original.index
	// And again after both have gone on.
	for round := range 2 {
		if diff := cmp.Diff(original.rows(), restored.rows()); diff != "" || original.hash() != restored.hash() {
			t.Errorf("round %d: rows differ:\n%s", round, diff)
		}
		index, term := original.Applied()
		if i, n := restored.Applied(); i != index || n != term || restored.ConfigurationIndex() != original.ConfigurationIndex() {
			t.Errorf("round %d: applied %d of term %d", round, i, n)
		}
		for _, m := range []*machine{original, restored} {
			m.apply(batch(nodeA, 2, register(nodeA, 1, "p1", "t", "later"))) // round 1 repeats it: the fence was restored
			m.apply(batch(nodeB, 2, registry.DeleteTopic{Topic: "t"}))
		}
	}
}

func TestPersistRunsBesideApply(t *testing.T) {
	m := filled(t)
	before := m.rows()
	s, err := m.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(50) {
		m.apply(batch(nodeA, i+2, registry.CreateTopic{Topic: fmt.Sprint("t", i)}))
	}
	var written sink
	if err := s.Persist(&written); err != nil {
		t.Fatal(err)
	}
	s.Release()
	other := newMachine(t)
	if err := other.restore(written.Bytes()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, other.rows()); diff != "" {
		t.Error(diff)
	}
}

// The sync of a large snapshot takes long: what is applied meanwhile must not
// make the state's file grow.
func TestPagesAreUsedAgainDuringTheSync(t *testing.T) {
	m := filled(t)
	s, err := m.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release()
	size := func() (bytes int64) {
		_ = m.View(func(v *store.View) error {
			bytes = v.Size()
			return nil
		})
		return bytes
	}
	before, after := int64(0), int64(0)
	err = s.Persist(&sink{onClose: func() {
		before = size()
		for i := range uint64(100) {
			m.apply(batch(nodeA, i+2, registry.CreateTopic{Topic: fmt.Sprint("t", i)}))
		}
		after = size()
	}})
	if err != nil || after-before >= int64(100*os.Getpagesize()) {
		t.Errorf("error %v; the file grew from %d to %d bytes in 100 entries", err, before, after)
	}
}

func TestFailedPersistCancelsAndTells(t *testing.T) {
	m := filled(t)
	for _, limit := range []int{1, 100, 10_000} {
		s, err := m.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		full := sink{limit: limit}
		if err := s.Persist(&full); err == nil || !full.canceled || full.closed {
			t.Errorf("limit %d: error %v, canceled %v, closed %v", limit, err, full.canceled, full.closed)
		}
		s.Release()
	}
	s, err := m.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release()
	if err := s.Persist(&sink{closeError: errSink}); !errors.Is(err, errSink) {
		t.Errorf("failed close: %v", err)
	}
}

// TestUnsaved counts what a restart would apply again.
func TestUnsaved(t *testing.T) {
	m := filled(t)
	const commands = 8
	want := func(when string, n int) {
		t.Helper()
		m.flush()
		if got := m.Unsaved(); got != n {
			t.Errorf("%s: %d, want %d", when, got, n)
		}
	}
	want("before a snapshot", commands)
	failing, err := m.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	want("while one is written", 0)
	m.apply(batch(nodeB, 3, registry.DeleteTopic{Topic: "t"}))
	if err := failing.Persist(&sink{closeError: errSink}); err == nil {
		t.Fatal("no error")
	}
	failing.Release()
	want("after it failed", commands+1)
	never, err := m.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	never.Release()
	want("after one that nobody wrote", commands+1)
	data := m.snapshot()
	want("after a good one", 0)
	m.apply(batch(nodeB, 4, registry.DeleteTopic{Topic: "t"}))
	if err := m.restore(data); err != nil {
		t.Fatal(err)
	}
	want("after a restore", 0)
}

func TestBadSnapshotChangesNothing(t *testing.T) {
	good := filled(t).snapshot()
	edited := func(at int, with byte) []byte {
		b := bytes.Clone(good)
		b[at] ^= with
		return b
	}
	lying := bytes.Clone(good) // a size that nobody should allocate
	binary.BigEndian.PutUint64(lying[14+len("cluster-1")+3*8:], 1<<62)
	for name, test := range map[string]struct {
		snapshot []byte
		want     error
	}{
		"empty":            {nil, fsm.ErrBadSnapshot},
		"other magic":      {edited(0, 1), fsm.ErrBadSnapshot},
		"D14 other format": {edited(11, 2), fsm.ErrBadSnapshot},
		"long cluster id":  {edited(12, 0xff), fsm.ErrBadSnapshot},
		"B3 other cluster": {edited(14, 1), fsm.ErrForeignSnapshot},
		"index":            {edited(14+9+7, 1), fsm.ErrBadSnapshot},
		"huge size":        {lying, fsm.ErrBadSnapshot},
		"cut in header":    {good[:20], fsm.ErrBadSnapshot},
		"cut in state":     {good[:len(good)/2], fsm.ErrBadSnapshot},
		"cut in checksum":  {good[:len(good)-1], fsm.ErrBadSnapshot},
		"bit in state":     {edited(len(good)/2, 4), fsm.ErrBadSnapshot},
		"bit in checksum":  {edited(len(good)-1, 1), fsm.ErrBadSnapshot},
		"goes on":          {append(bytes.Clone(good), 0), fsm.ErrBadSnapshot},
		"state is garbage": {sealed([]byte("this is no bbolt file")), fsm.ErrBadSnapshot},
		"state is empty":   {sealed(nil), fsm.ErrBadSnapshot},
	} {
		t.Run(name, func(t *testing.T) {
			m := filled(t)
			before, files := m.rows(), stateFiles(t, m)
			if err := m.restore(test.snapshot); !errors.Is(err, test.want) {
				t.Errorf("error %v", err)
			}
			if diff := cmp.Diff(before, m.rows()); diff != "" {
				t.Errorf("state changed:\n%s", diff)
			}
			if got := stateFiles(t, m); len(got) != len(files) {
				t.Errorf("files %v", got)
			}
			if got := m.apply(batch(nodeA, 9, registry.CreateTopic{Topic: "on"})); got.Results[0] != changed {
				t.Errorf("it does not go on: %+v", got)
			}
		})
	}
}

// sealed wraps a state file in a good header and checksum.
func sealed(state []byte) []byte {
	snapshot := []byte("lookupd\n\x00\x00\x00\x01\x00\x09cluster-1")
	for _, n := range []int{1, 1, 0, len(state)} { // index, term, hash, size
		snapshot = binary.BigEndian.AppendUint64(snapshot, uint64(n))
	}
	snapshot = append(snapshot, state...)
	sum := sha256.Sum256(snapshot)
	return append(snapshot, sum[:]...)
}

func stateFiles(t *testing.T, m *machine) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(m.dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestInspect(t *testing.T) {
	m := filled(t)
	snapshot := m.snapshot()
	got, err := fsm.Inspect(bytes.NewReader(snapshot))
	want := fsm.SnapshotInfo{ClusterID: "cluster-1", Index: 4, Term: 1, Hash: m.hash(), Size: int64(len(snapshot) - 46 - 9 - 32)}
	if err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if _, err := fsm.Inspect(bytes.NewReader(snapshot[:len(snapshot)-1])); !errors.Is(err, fsm.ErrBadSnapshot) {
		t.Errorf("cut: %v", err)
	}
}

func TestNewForgetsOldStates(t *testing.T) {
	dir := t.TempDir()
	other := filepath.Join(dir, "node.json")
	for _, path := range []string{filepath.Join(dir, "state-1.db"), filepath.Join(dir, "state-7.db"), other} {
		if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, err := fsm.New(fsm.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	left, _ := filepath.Glob(filepath.Join(dir, "*"))
	if len(left) != 2 || left[0] != other {
		t.Errorf("left: %v", left)
	}
}

// TestReadersDuringRestore: a view is whole, old or new, whatever is restored meanwhile.
func TestReadersDuringRestore(t *testing.T) {
	m, snapshots := newMachine(t), [][]byte{}
	source := newMachine(t)
	for i := range uint64(4) {
		source.apply(batch(nodeA, i+1, registry.CreateTopic{Topic: fmt.Sprint("t", i)}))
		snapshots = append(snapshots, source.snapshot())
	}
	ctx, stop := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for ctx.Err() == nil {
				err := m.View(func(v *store.View) error {
					index, _ := v.Applied()
					if topics := v.Topics(); uint64(len(topics)) != index {
						return fmt.Errorf("%d topics at index %d", len(topics), index)
					}
					return v.Check()
				})
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range 12 {
		if err := m.restore(snapshots[i%len(snapshots)]); err != nil {
			t.Error(err)
		}
	}
	stop()
	readers.Wait()
}
