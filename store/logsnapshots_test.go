package store_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/lookupd/lookupd/store"
)

// addSnapshot writes a snapshot and returns its name.
func addSnapshot(t *testing.T, d *store.Dir, term, index uint64) string {
	t.Helper()
	snapshots, err := d.OpenSnapshots(hclog.NewNullLogger())
	must(t, err)
	_, transport := raft.NewInmemTransport("")
	voters := raft.Configuration{Servers: []raft.Server{{ID: "voter", Address: "voter"}}}
	sink, err := snapshots.Create(raft.SnapshotVersionMax, index, term, voters, 1, transport)
	must(t, err)
	_, err = fmt.Fprintf(sink, "state at %d", index)
	must(t, err)
	must(t, sink.Close())
	return sink.ID()
}

// snapshotDir returns a data directory with entries first to 100 of term 1, and
// snapshots at the given indexes, with their names.
func snapshotDir(t *testing.T, first uint64, indexes ...uint64) (*store.Dir, []string) {
	t.Helper()
	d := openDir(t, t.TempDir())
	_, l := mustStart(t, d)
	fill(t, l, 1, first, 100)
	must(t, l.Close())
	var names []string
	for _, index := range indexes {
		names = append(names, addSnapshot(t, d, 1, index))
	}
	return d, names
}

func halfWrittenSnapshots(t *testing.T) {
	d, names := snapshotDir(t, 1, 50)
	must(t, os.Mkdir(d.Path("raft", "snapshots", "1-70-1.tmp"), 0o700))
	must(t, os.WriteFile(d.Path("raft", "snapshots", "1-70-1.tmp", "state.bin"), []byte("half"), 0o600))
	snapshots, err := d.OpenSnapshots(hclog.NewNullLogger())
	must(t, err)
	if got := listDir(t, d, "snapshots"); !reflect.DeepEqual(got, names) {
		t.Errorf("left: %v", got)
	}
	if list, err := snapshots.List(); err != nil || len(list) != 1 || list[0].Index != 50 {
		t.Errorf("list: %v, %v", list, err)
	}
}

func TestVerify(t *testing.T) {
	state := func(d *store.Dir, name string) string { return d.Path("raft", "snapshots", name, "state.bin") }
	meta := func(d *store.Dir, name string) string { return d.Path("raft", "snapshots", name, "meta.json") }
	for _, c := range []struct {
		name    string
		first   uint64
		indexes []uint64
		damage  func(t *testing.T, d *store.Dir, names []string)
		aside   []int
		want    error
	}{
		{name: "log alone", first: 1},
		{name: "log alone, first part gone", first: 2, want: store.ErrDamaged},
		{name: "all good", first: 20, indexes: []uint64{30, 60}},
		{name: "log follows", first: 31, indexes: []uint64{30}},
		{name: "gap", first: 32, indexes: []uint64{30}, want: store.ErrDamaged},
		{name: "ahead of the log", first: 1, indexes: []uint64{200}},
		{name: "D8 newest flipped", first: 20, indexes: []uint64{30, 60}, aside: []int{1}, damage: func(t *testing.T, d *store.Dir, names []string) {
			flip(t, state(d, names[1]), "state")
		}},
		{name: "D8 newest short", first: 20, indexes: []uint64{30, 60}, aside: []int{1}, damage: func(t *testing.T, d *store.Dir, names []string) {
			must(t, os.Truncate(state(d, names[1]), 3))
		}},
		{name: "D8 newest without content", first: 20, indexes: []uint64{30, 60}, aside: []int{1}, damage: func(t *testing.T, d *store.Dir, names []string) {
			must(t, os.Remove(state(d, names[1])))
		}},
		{name: "D8 newest with bad meta", first: 20, indexes: []uint64{30, 60}, aside: []int{1}, damage: func(t *testing.T, d *store.Dir, names []string) {
			must(t, os.WriteFile(meta(d, names[1]), []byte("{"), 0o600))
		}},
		{name: "meta of the previous one", first: 20, indexes: []uint64{30, 60}, aside: []int{1}, damage: func(t *testing.T, d *store.Dir, names []string) {
			copyFile(t, meta(d, names[0]), meta(d, names[1]))
		}},
		{name: "meta of a snapshot that is not here", first: 20, indexes: []uint64{30, 60}, aside: []int{1}, damage: func(t *testing.T, d *store.Dir, names []string) {
			replace(t, meta(d, names[1]), `"ID":"`+names[1], `"ID":"1-61-1`)
		}},
		{name: "meta with another index", first: 20, indexes: []uint64{30, 60}, aside: []int{1}, damage: func(t *testing.T, d *store.Dir, names []string) {
			replace(t, meta(d, names[1]), `"Index":60`, `"Index":70`)
		}},
		{name: "meta with another voter", first: 20, indexes: []uint64{30, 60}, aside: []int{1}, damage: func(t *testing.T, d *store.Dir, names []string) {
			replace(t, meta(d, names[1]), `"ID":"voter"`, `"ID":"voteR"`)
		}},
		{name: "meta with another size", first: 20, indexes: []uint64{30, 60}, aside: []int{1}, damage: func(t *testing.T, d *store.Dir, names []string) {
			replace(t, meta(d, names[1]), `"Size":11`, `"Size":10`)
		}},
		{name: "seal damaged", first: 20, indexes: []uint64{30, 60}, aside: []int{1}, damage: func(t *testing.T, d *store.Dir, names []string) {
			must(t, os.Truncate(d.Path("raft", "snapshots", names[1], "seal"), 5))
		}},
		{name: "no seal, from an earlier version", first: 20, indexes: []uint64{60}, damage: func(t *testing.T, d *store.Dir, names []string) {
			must(t, os.Remove(d.Path("raft", "snapshots", names[0], "seal")))
		}},
		{name: "D8 newest not usable", first: 20, indexes: []uint64{30, 66}, aside: []int{1}},
		{name: "D8 previous bad", first: 20, indexes: []uint64{30, 60}, damage: func(t *testing.T, d *store.Dir, names []string) {
			flip(t, state(d, names[0]), "state")
		}},
		{name: "D8 newest bad, log does not reach back", first: 32, indexes: []uint64{30, 60}, want: store.ErrDamaged, damage: func(t *testing.T, d *store.Dir, names []string) {
			flip(t, state(d, names[1]), "state")
		}},
		{name: "D9 all bad, log whole", first: 1, indexes: []uint64{30, 60}, aside: []int{1, 0}, damage: func(t *testing.T, d *store.Dir, names []string) {
			flip(t, state(d, names[0]), "state")
			flip(t, state(d, names[1]), "state")
		}},
		{name: "D9 all bad", first: 2, indexes: []uint64{30, 60}, want: store.ErrDamaged, damage: func(t *testing.T, d *store.Dir, names []string) {
			flip(t, state(d, names[0]), "state")
			must(t, os.Remove(meta(d, names[1])))
		}},
		{name: "bad one knew more than the log", first: 1, indexes: []uint64{30, 200}, want: store.ErrDamaged, damage: func(t *testing.T, d *store.Dir, names []string) {
			must(t, os.Remove(meta(d, names[1])))
		}},
		{name: "all gone", first: 20, indexes: []uint64{30}, want: store.ErrDamaged, damage: func(t *testing.T, d *store.Dir, names []string) {
			must(t, os.RemoveAll(d.Path("raft", "snapshots")))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, names := snapshotDir(t, c.first, c.indexes...)
			if c.damage != nil {
				c.damage(t, d, names)
			}
			if len(c.indexes) > 0 { // a crash while writing another one
				must(t, os.MkdirAll(d.Path("raft", "snapshots", "1-999-1.tmp"), 0o700))
			}
			before := listDir(t, d, "snapshots")
			l := openLog(t, d)
			id, _, err := d.LoadIdentity()
			must(t, err)
			aside, err := d.Verify(id, l, hclog.NewNullLogger(), func(r io.Reader) error {
				content, err := io.ReadAll(r)
				if strings.HasSuffix(string(content), "66") {
					panic("a state that bbolt cannot open")
				}
				return err
			})
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if err != nil {
				if got := listDir(t, d, "snapshots"); !reflect.DeepEqual(got, before) {
					t.Errorf("refused, but %v became %v", before, got)
				}
				return
			}
			var want []string
			for _, i := range c.aside {
				want = append(want, names[i])
			}
			if !reflect.DeepEqual(aside, want) || len(listDir(t, d, "unusable")) != len(want) {
				t.Errorf("set aside %v, want %v", aside, want)
			}
			if again, err := d.Verify(id, l, hclog.NewNullLogger(), nil); err != nil || len(again) != 0 {
				t.Errorf("second time: %v, %v", again, err)
			}
		})
	}
}

func foreignSnapshot(t *testing.T) {
	d, names := snapshotDir(t, 1, 50)
	l := openLog(t, d)
	id, _, err := d.LoadIdentity()
	must(t, err)
	aside, err := d.Verify(id, l, hclog.NewNullLogger(), func(io.Reader) error {
		return fmt.Errorf("%w: another cluster's", store.ErrRefused)
	})
	if !errors.Is(err, store.ErrRefused) || len(aside) != 0 || !strings.Contains(err.Error(), names[0]) {
		t.Errorf("got %v, set aside %v", err, aside)
	}
}

func TestVerifySnapshotWithoutIdentity(t *testing.T) {
	d := openDir(t, t.TempDir())
	addSnapshot(t, d, 1, 10)
	if _, _, _, err := start(d, store.LogConfig{}); !errors.Is(err, store.ErrIdentityMissing) {
		t.Errorf("got %v", err)
	}
}

func listDir(t *testing.T, d *store.Dir, name string) []string {
	t.Helper()
	entries, err := os.ReadDir(d.Path("raft", name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

// replace changes a text that a file has.
func replace(t *testing.T, path, was, is string) {
	t.Helper()
	content, err := os.ReadFile(path)
	must(t, err)
	if !strings.Contains(string(content), was) {
		t.Fatalf("%s lacks %q: %s", path, was, content)
	}
	must(t, os.WriteFile(path, []byte(strings.Replace(string(content), was, is, 1)), 0o600))
}

func TestVerifyNamesTheFile(t *testing.T) {
	for _, c := range []struct {
		name, file string
		id         func(*store.Identity)
	}{
		{"log of another peer", "raft.db", func(id *store.Identity) { id.NodeID = "b-00000002" }},
		{"older log", "raft.db", func(id *store.Identity) { id.Epoch += 2 }},
		{"older identity", "node.json", func(id *store.Identity) { id.Epoch -= 2 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, _ := snapshotDir(t, 1)
			id, _, err := d.LoadIdentity()
			must(t, err)
			l := openLog(t, d)
			for range 3 {
				id, err = d.NextEpoch(id, l)
				must(t, err)
			}
			must(t, l.Close())
			l = openLog(t, d)
			c.id(&id)
			if _, err := d.Verify(id, l, hclog.NewNullLogger(), nil); err == nil || !strings.Contains(err.Error(), d.Path()) || !strings.Contains(err.Error(), c.file) {
				t.Errorf("got %v, want it to name %s", err, c.file)
			}
		})
	}
}

func TestLastSnapshot(t *testing.T) {
	d, _ := snapshotDir(t, 1)
	addSnapshot(t, d, 1, 50)
	must(t, os.Mkdir(d.Path("raft", "snapshots", "1-60-99999999999999.tmp"), 0o700)) // half-written
	const day = 24 * time.Hour
	if last, err := d.LastSnapshot(); err != nil || time.Since(last).Abs() > day {
		t.Error(last, err)
	}
	must(t, os.RemoveAll(d.Path("raft", "snapshots")))
	must(t, os.Mkdir(d.Path("raft", "snapshots"), 0o700))
	if last, err := d.LastSnapshot(); err != nil || !last.IsZero() {
		t.Error(last, err)
	}
}
