package store_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
	"go.etcd.io/bbolt"
)

// written returns the path of a file with the state.
func written(t *testing.T, s *store.State) string {
	t.Helper()
	snapshot, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = snapshot.Close() }()
	var file bytes.Buffer
	n, err := snapshot.WriteTo(&file)
	if err != nil || n != snapshot.Size() || n != int64(file.Len()) {
		t.Fatalf("wrote %d bytes, size %d, error %v", n, snapshot.Size(), err)
	}
	path := filepath.Join(t.TempDir(), "copy.db")
	if err := os.WriteFile(path, file.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSnapshotIsExact(t *testing.T) {
	w := offering(t)
	w.do(func(c *store.Change) registry.Result {
		c.SetConfiguration()
		c.SetOrigin(nodeA, 1, 2, []registry.Result{changed})
		return changed
	})
	restored, err := store.OpenSnapshotState(written(t, w.state))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = restored.Close() }()
	compareSets(t, "rows", rows(t, restored), rows(t, w.state))
	twin := &world{t: t, state: restored, index: w.index}
	if twin.dump() != w.dump() {
		t.Error("restored state answers differently")
	}
	w.view(func(a *store.View) error {
		return restored.View(func(b *store.View) error {
			indexA, termA := a.Applied()
			indexB, termB := b.Applied()
			if a.Hash() != b.Hash() || indexA != indexB || termA != termB ||
				a.Counts() != b.Counts() || a.ConfigurationIndex() != b.ConfigurationIndex() {
				t.Error("meta differs")
			}
			return b.Check()
		})
	})
	// The restored state goes on as the other does.
	for _, each := range []*world{w, twin} {
		each.must(register(nodeC, 1, "p3", "t", "z"), open("z-0000000f", 1, "p3"))
	}
	compareSets(t, "rows after more commands", rows(t, restored), rows(t, w.state))
}

func TestSnapshotStaysAsItWas(t *testing.T) {
	w := offering(t)
	before := w.dump()
	snapshot, err := w.state.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		w.must(createTopic("later"), deleteTopic("later"), createChannel("later", "c"), deleteTopic("later"))
	}
	if got := dump(snapshot.View); got != before {
		t.Errorf("snapshot changed:\n%s", got)
	}
	if _, err := snapshot.WriteTo(io.Discard); err != nil {
		t.Error(err)
	}
	if err := snapshot.Close(); err != nil {
		t.Error(err)
	}
}

func TestDamagedStateIsRefused(t *testing.T) {
	for name, damage := range map[string]func(*testing.T, string){
		"empty": func(t *testing.T, path string) { rewrite(t, path, func([]byte) []byte { return nil }) },
		"text": func(t *testing.T, path string) {
			rewrite(t, path, func([]byte) []byte { return []byte("not a state") })
		},
		"no meta pages": func(t *testing.T, path string) {
			rewrite(t, path, func(b []byte) []byte { return append(make([]byte, 2*os.Getpagesize()), b[2*os.Getpagesize():]...) })
		},
		"row changed": func(t *testing.T, path string) {
			edit(t, path, func(tx *bbolt.Tx) error { return tx.Bucket([]byte("topics")).Put([]byte("s\x00"), []byte{7}) })
		},
		"row missing": func(t *testing.T, path string) {
			edit(t, path, func(tx *bbolt.Tx) error { return tx.Bucket([]byte("topics")).Delete([]byte("s\x00")) })
		},
		"bucket missing": func(t *testing.T, path string) {
			edit(t, path, func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte("tombstones")) })
		},
		"other format": func(t *testing.T, path string) {
			edit(t, path, func(tx *bbolt.Tx) error { return tx.Bucket([]byte("meta")).Put([]byte("format"), []byte{0, 0, 0, 9}) })
		},
		"short meta": func(t *testing.T, path string) {
			edit(t, path, func(tx *bbolt.Tx) error { return tx.Bucket([]byte("meta")).Put([]byte("state"), []byte{1}) })
		},
		"other counts":            func(t *testing.T, path string) { addToMeta(t, path, 8) },
		"a configuration to come": func(t *testing.T, path string) { addToMeta(t, path, 2) },
		"sessions cut": func(t *testing.T, path string) {
			edit(t, path, func(tx *bbolt.Tx) error {
				b := tx.Bucket([]byte("producers"))
				key, _ := b.Cursor().First()
				return b.Put(key, []byte{0xff})
			})
			fixHash(t, path)
		},
		"no meta": func(t *testing.T, path string) {
			edit(t, path, func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte("meta")) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := written(t, offering(t).state)
			damage(t, path)
			if _, err := store.OpenSnapshotState(path); !errors.Is(err, store.ErrStateDamaged) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func rewrite(t *testing.T, path string, with func([]byte) []byte) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, with(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func edit(t *testing.T, path string, with func(*bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(with), db.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestRottenRow: a row that cannot be read fails the view instead of answering wrongly.
func TestRottenRow(t *testing.T) {
	w := newWorld(t)
	w.must(open(nodeA, 1, "p1"), register(nodeA, 1, "p1", "t", "c"))
	for name, rot := range map[string]struct {
		table, key string
		value      []byte
		read       func(*store.View)
	}{
		"holding":   {"topics", "t\x00pp1:4150", []byte{0}, func(v *store.View) { v.Topic("t") }},
		"mirror":    {"byproducer", "p1:4150\x00tt", []byte{0x80}, func(v *store.View) { v.Nodes() }},
		"peer":      {"peers", "n\x00\x00\x00\x01", nil, func(v *store.View) { v.Sessions() }},
		"long text": {"producers", "p1:4150", []byte{1, 1, 1, 1, 0, 0x7f}, func(v *store.View) { v.Producer(id("p1")) }},
	} {
		t.Run(name, func(t *testing.T) {
			path := written(t, w.state)
			edit(t, path, func(tx *bbolt.Tx) error {
				b := tx.Bucket([]byte(rot.table))
				if b.Get([]byte(rot.key)) == nil {
					t.Errorf("no row %q", rot.key)
				}
				if rot.value == nil {
					return b.Delete([]byte(rot.key))
				}
				return b.Put([]byte(rot.key), rot.value)
			})
			fixHash(t, path)
			state, err := store.OpenSnapshotState(path)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = state.Close() }()
			err = state.View(func(v *store.View) error {
				rot.read(v)
				return nil
			})
			if !errors.Is(err, store.ErrStateDamaged) {
				t.Errorf("error %v", err)
			}
			if err := state.View((*store.View).Check); !errors.Is(err, store.ErrStateDamaged) {
				t.Errorf("check: %v", err)
			}
		})
	}
}

// fixHash makes the stated hash fit the rows, so that only the rows are wrong.
// addToMeta makes a number of the row of counts far too large.
func addToMeta(t *testing.T, path string, field int) {
	t.Helper()
	edit(t, path, func(tx *bbolt.Tx) error {
		meta := tx.Bucket([]byte("meta"))
		state := slices.Clone(meta.Get([]byte("state")))
		state[field*8+4]++
		return meta.Put([]byte("state"), state)
	})
}

func fixHash(t *testing.T, path string) {
	t.Helper()
	edit(t, path, func(tx *bbolt.Tx) error {
		var sum uint64
		for i, table := range []string{"peers", "producers", "topics", "byproducer", "tombstones"} {
			err := tx.Bucket([]byte(table)).ForEach(func(key, value []byte) error {
				row := binary.AppendUvarint([]byte{byte(i + 1)}, uint64(len(key)))
				sum += xxhash.Sum64(slices.Concat(row, key, value))
				return nil
			})
			if err != nil {
				return err
			}
		}
		meta := tx.Bucket([]byte("meta"))
		state := slices.Clone(meta.Get([]byte("state")))
		binary.BigEndian.PutUint64(state[3*8:], sum)
		return meta.Put([]byte("state"), state)
	})
}

func TestClosedState(t *testing.T) {
	state, err := store.CreateState(filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(state.Close(), state.Close()); err != nil {
		t.Fatal(err)
	}
	if err := state.View(func(*store.View) error { return nil }); !errors.Is(err, store.ErrStateClosed) {
		t.Errorf("view: %v", err)
	}
	if err := state.Update(func(*store.Change) error { return nil }); !errors.Is(err, store.ErrStateClosed) {
		t.Errorf("update: %v", err)
	}
	if _, err := state.Snapshot(); !errors.Is(err, store.ErrStateClosed) {
		t.Errorf("snapshot: %v", err)
	}
}

func TestCreateStateForgetsTheOld(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	for range 2 {
		state, err := store.CreateState(path)
		if err != nil {
			t.Fatal(err)
		}
		w := &world{t: t, state: state}
		w.must(createTopic("t"))
		if err := state.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := store.CreateState(filepath.Join(path, "below a file")); err == nil {
		t.Error("created a state below a file")
	}
}
