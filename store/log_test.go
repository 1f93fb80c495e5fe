package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"

	"github.com/lookupd/lookupd/store"
)

func openDir(t testing.TB, path string) *store.Dir {
	t.Helper()
	d, err := store.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// openLog opens the log of d, for a new peer if there is none, and fails the
// test if the log reports anything.
func openLog(t *testing.T, d *store.Dir) *store.Log {
	t.Helper()
	l, err := d.OpenLog(store.LogConfig{OnFatal: func(err error) { t.Errorf("fatal: %v", err) }})
	must(t, err)
	t.Cleanup(func() { l.Close() })
	if _, found, err := d.LoadIdentity(); err != nil || !found {
		id, newErr := store.NewIdentity("a")
		must(t, errors.Join(err, newErr))
		_, err = d.NextEpoch(id, l)
		must(t, err)
	}
	return l
}

// start does what the daemon does before it starts raft.
func start(d *store.Dir, cfg store.LogConfig) (id store.Identity, l *store.Log, setAside []string, err error) {
	id, found, err := d.LoadIdentity()
	if err == nil && !found {
		id, err = store.NewIdentity("a")
	}
	if err != nil {
		return id, nil, nil, err
	}
	if l, err = d.OpenLog(cfg); err != nil {
		return id, nil, nil, err
	}
	if _, err = d.OpenSnapshots(hclog.NewNullLogger()); err == nil {
		setAside, err = d.Verify(id, l, hclog.NewNullLogger(), nil)
	}
	if err == nil {
		id, err = d.NextEpoch(id, l)
	}
	if err != nil {
		return id, nil, nil, errors.Join(err, l.Close())
	}
	return id, l, setAside, nil
}

func mustStart(t testing.TB, d *store.Dir) (store.Identity, *store.Log) {
	t.Helper()
	id, l, _, err := start(d, store.LogConfig{OnFatal: func(err error) { t.Errorf("fatal: %v", err) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return id, l
}

func command(index, term uint64, data string) *raft.Log {
	return &raft.Log{Index: index, Term: term, Type: raft.LogCommand, Data: []byte(data)}
}

// fill appends entries first to last of the term, with data of growing length,
// and stores the term as the current one.
func fill(t testing.TB, l *store.Log, term, first, last uint64) {
	t.Helper()
	must(t, l.SetUint64([]byte("CurrentTerm"), term))
	var entries []*raft.Log
	for i := first; i <= last; i++ {
		entries = append(entries, command(i, term, fmt.Sprintf("%0*d", 1+i%300, i)))
	}
	must(t, l.StoreLogs(entries))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestLogKeepsEntriesAndValues(t *testing.T) {
	path := t.TempDir() + "/data"
	d := openDir(t, path)
	l := openLog(t, d)
	fill(t, l, 3, 1, 500)
	must(t, l.Set([]byte("key"), []byte("value")))
	must(t, l.DeleteRange(1, 100))
	must(t, l.DeleteRange(450, 500))
	for range 2 {
		first, err := l.FirstIndex()
		must(t, err)
		last, err := l.LastIndex()
		must(t, err)
		if first != 101 || last != 449 {
			t.Fatalf("log holds %d to %d", first, last)
		}
		term, index, err := l.LastTermIndex()
		if err != nil || term != 3 || index != 449 {
			t.Fatalf("last entry %d of term %d, %v", index, term, err)
		}
		var entry raft.Log
		must(t, l.GetLog(200, &entry))
		if want := fmt.Sprintf("%0*d", 201, 200); entry.Index != 200 || string(entry.Data) != want {
			t.Fatalf("entry %d: %q", entry.Index, entry.Data)
		}
		current, err := l.GetUint64([]byte("CurrentTerm"))
		if err != nil || current != 3 {
			t.Fatalf("current term %d, %v", current, err)
		}
		value, err := l.Get([]byte("key"))
		if err != nil || string(value) != "value" {
			t.Fatalf("value %q, %v", value, err)
		}
		must(t, l.Close())
		must(t, l.Close())
		l = openLog(t, d)
	}
}

func TestLogErrorsPassUnchanged(t *testing.T) {
	l := openLog(t, openDir(t, t.TempDir()))
	if err := l.GetLog(7, &raft.Log{}); err != raft.ErrLogNotFound { //nolint:errorlint // raft compares so
		t.Errorf("absent entry: %v", err)
	}
	for _, key := range []string{"CurrentTerm", "LastVoteTerm"} {
		if _, err := l.GetUint64([]byte(key)); err != raftboltdb.ErrKeyNotFound { //nolint:errorlint // raft compares the text
			t.Errorf("absent %s: %v", key, err)
		}
	}
	for _, key := range []string{"LastVoteCand", "other"} {
		if _, err := l.Get([]byte(key)); err != raftboltdb.ErrKeyNotFound { //nolint:errorlint // raft compares the text
			t.Errorf("absent %s: %v", key, err)
		}
	}
	if term, index, err := l.LastTermIndex(); term != 0 || index != 0 || err != nil {
		t.Errorf("empty log: %d, %d, %v", term, index, err)
	}
	if _, ok := any(l).(raft.MonotonicLogStore); ok {
		t.Error("the log must not be monotonic")
	}
	must(t, l.Close())
	if err := l.StoreLog(command(1, 1, "x")); !errors.Is(err, store.ErrLogClosed) {
		t.Errorf("after Close: %v", err)
	}
	if err := l.GetLog(1, &raft.Log{}); !errors.Is(err, store.ErrLogClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestLogChecksumTravelsWithTheEntry(t *testing.T) {
	leader, follower := openLog(t, openDir(t, t.TempDir())), openLog(t, openDir(t, t.TempDir()))
	entries := []*raft.Log{command(1, 1, "one"), command(2, 1, ""), {Index: 3, Term: 1, Type: raft.LogNoop}}
	must(t, leader.StoreLogs(entries))
	for _, entry := range entries {
		if len(entry.Extensions) == 0 {
			t.Fatalf("entry %d got no checksum", entry.Index)
		}
	}
	must(t, follower.StoreLogs(entries))
	var got raft.Log
	must(t, follower.GetLog(2, &got))
	if !bytes.Equal(got.Extensions, entries[1].Extensions) {
		t.Errorf("checksum %x became %x", entries[1].Extensions, got.Extensions)
	}
}

func TestLogRefusesWhatArrivesDamaged(t *testing.T) {
	damage := map[string]func(*raft.Log){
		"data":       func(e *raft.Log) { e.Data[0] ^= 1 },
		"index":      func(e *raft.Log) { e.Index++ },
		"term":       func(e *raft.Log) { e.Term++ },
		"type":       func(e *raft.Log) { e.Type = raft.LogNoop },
		"checksum":   func(e *raft.Log) { e.Extensions[4] ^= 1 },
		"cut":        func(e *raft.Log) { e.Extensions = e.Extensions[:3] },
		"new format": func(e *raft.Log) { e.Extensions[0] = 9 },
	}
	for name, change := range damage {
		t.Run(name, func(t *testing.T) {
			leader, follower := openLog(t, openDir(t, t.TempDir())), openLog(t, openDir(t, t.TempDir()))
			entries := []*raft.Log{command(1, 1, "one"), command(2, 1, "two")}
			must(t, leader.StoreLogs(entries))
			change(entries[1])
			if err := follower.StoreLogs(entries); !errors.Is(err, store.ErrChecksum) {
				t.Fatalf("stored: %v", err)
			}
			if last, err := follower.LastIndex(); last != 0 || err != nil {
				t.Errorf("last index %d, %v: something was stored", last, err)
			}
			must(t, follower.StoreLog(command(1, 1, "one")))
		})
	}
}

func TestVoteIsOneValue(t *testing.T) {
	term, candidate := []byte("LastVoteTerm"), []byte("LastVoteCand")
	d := openDir(t, t.TempDir())
	l := openLog(t, d)
	vote := func(l *store.Log) string {
		t.Helper()
		n, err := l.GetUint64(term)
		must(t, err)
		c, err := l.Get(candidate)
		must(t, err)
		return fmt.Sprintf("%d %s", n, c)
	}
	if err := l.Set(candidate, []byte("a")); err == nil {
		t.Error("a candidate without a term was stored")
	}
	must(t, l.SetUint64(term, 4))
	must(t, l.Set(candidate, []byte("a")))
	must(t, l.SetUint64(term, 5))
	if got := vote(l); got != "4 a" {
		t.Errorf("between the two writes: %s", got)
	}
	must(t, l.Close()) // a crash between the two

	l = openLog(t, d)
	if got := vote(l); got != "4 a" {
		t.Errorf("after a crash between the two writes: %s", got)
	}
	must(t, l.SetUint64(term, 6))
	must(t, l.Set(candidate, []byte("b")))
	must(t, l.Close())
	if got := vote(openLog(t, d)); got != "6 b" {
		t.Errorf("after both: %s", got)
	}
}

func TestLogFilesArePrivate(t *testing.T) {
	d := openDir(t, t.TempDir())
	mustStart(t, d)
	must(t, fs.WalkDir(os.DirFS(d.Path()), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == "." || path == "raft/snapshots" {
			return err
		}
		info, err := entry.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %o", path, info.Mode().Perm())
		}
		return err
	}))
}

func TestLogTellsHowLongItTook(t *testing.T) {
	d := openDir(t, t.TempDir())
	var took []time.Duration
	l, err := d.OpenLog(store.LogConfig{
		OnFatal: func(err error) { t.Errorf("fatal: %v", err) },
		Stored:  func(d time.Duration) { took = append(took, d) },
	})
	must(t, err)
	t.Cleanup(func() { l.Close() })
	before, err := l.Size()
	must(t, err)
	must(t, l.StoreLogs([]*raft.Log{{Index: 1, Term: 1, Data: make([]byte, 1<<20)}, {Index: 2, Term: 1}}))
	if err := l.StoreLog(&raft.Log{Index: 3, Term: 1, Extensions: []byte("wrong")}); !errors.Is(err, store.ErrChecksum) {
		t.Error(err)
	}
	if len(took) != 1 || took[0] <= 0 {
		t.Errorf("told %v", took)
	}
	if after, err := l.Size(); err != nil || after < before+1<<20 {
		t.Errorf("%d bytes, then %d: %v", before, after, err)
	}
}
