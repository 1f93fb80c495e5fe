package store_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"

	"github.com/lookupd/lookupd/store"
)

const pageSize = 4096

// usedDir returns a data directory with a log that was used in two terms
// whose second is 5.
func usedDir(t testing.TB) (*store.Dir, store.Identity) {
	t.Helper()
	d := openDir(t, t.TempDir())
	id, l := mustStart(t, d)
	fill(t, l, 4, 1, 600)
	must(t, l.StoreLog(command(601, 4, strings.Repeat("long ", 5000))))
	fill(t, l, 5, 602, 1500)
	must(t, l.SetUint64([]byte("LastVoteTerm"), 5))
	must(t, l.Set([]byte("LastVoteCand"), []byte("b-00000002")))
	must(t, l.Close())
	return d, id
}

// reopen opens the log as a start does, up to the decision whether to go on.
func reopen(t testing.TB, d *store.Dir) (map[string]string, error) {
	t.Helper()
	id, _, err := d.LoadIdentity()
	if err != nil {
		return nil, err
	}
	l, err := d.OpenLog(store.LogConfig{OnFatal: func(err error) { t.Errorf("fatal: %v", err) }})
	if err != nil {
		return nil, err
	}
	defer l.Close()
	if err := l.CheckAgainst(id, store.Position{}); err != nil {
		return nil, err
	}
	return content(t, l), nil
}

// content returns all that a log holds.
func content(t testing.TB, l *store.Log) map[string]string {
	t.Helper()
	all := map[string]string{}
	first, err := l.FirstIndex()
	must(t, err)
	last, err := l.LastIndex()
	must(t, err)
	for i := first; i <= last && i > 0; i++ {
		var entry raft.Log
		must(t, l.GetLog(i, &entry))
		all[fmt.Sprint(i)] = fmt.Sprint(entry.Term, entry.Type, entry.Data)
	}
	for _, key := range []string{"CurrentTerm", "LastVoteTerm"} {
		value, err := l.GetUint64([]byte(key))
		all[key] = fmt.Sprint(value, err)
	}
	value, err := l.Get([]byte("LastVoteCand"))
	all["LastVoteCand"] = fmt.Sprint(value, err)
	return all
}

func refused(err error) bool {
	return errors.Is(err, store.ErrDamaged) || errors.Is(err, store.ErrRefused)
}

// Whatever happens to the file, a start finds it or it does not matter; above
// all bbolt, which would panic where nobody can recover, never sees it.
func TestAnyDamageIsFoundOrHarmless(t *testing.T) {
	d, _ := usedDir(t)
	path := d.Path("raft", "raft.db")
	want, err := reopen(t, d)
	must(t, err)
	good, err := os.ReadFile(path)
	must(t, err)
	pages := len(good) / pageSize
	damages := []struct {
		name   string
		damage func(b []byte, r *rand.Rand) []byte
	}{
		{"flipped bit", func(b []byte, r *rand.Rand) []byte {
			b[r.IntN(len(b))] ^= 1 << r.IntN(8)
			return b
		}},
		{"flipped bit in a page's head", func(b []byte, r *rand.Rand) []byte {
			b[r.IntN(pages)*pageSize+r.IntN(80)] ^= 1 << r.IntN(8)
			return b
		}},
		{"zero page", func(b []byte, r *rand.Rand) []byte {
			clear(page(b, r.IntN(pages)))
			return b
		}},
		{"random page", func(b []byte, r *rand.Rand) []byte {
			p := page(b, r.IntN(pages))
			for i := range p {
				p[i] = byte(r.Uint32())
			}
			return b
		}},
		{"random page behind a good head", func(b []byte, r *rand.Rand) []byte {
			p := page(b, r.IntN(pages))[16:]
			for i := range p {
				p[i] = byte(r.Uint32())
			}
			return b
		}},
		{"page of another place", func(b []byte, r *rand.Rand) []byte {
			copy(page(b, r.IntN(pages)), page(b, r.IntN(pages)))
			return b
		}},
		{"cut", func(b []byte, r *rand.Rand) []byte { return b[:r.IntN(len(b))] }},
		{"appended", func(b []byte, r *rand.Rand) []byte { return append(b, make([]byte, r.IntN(3*pageSize))...) }},
	}
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	found := 0
	const trials = 96
	for i := range trials {
		kind := damages[i%len(damages)]
		bad := kind.damage(append([]byte(nil), good...), r)
		must(t, os.WriteFile(path, bad, 0o600))
		got, err := reopen(t, d)
		switch {
		case err == nil && !reflect.DeepEqual(got, want):
			t.Fatalf("seed %d, trial %d: %s was not found", seed, i, kind.name)
		case err == nil:
		case !refused(err):
			t.Fatalf("seed %d, trial %d: %s: %v", seed, i, kind.name, err)
		default:
			found++
		}
	}
	if found < trials/4 {
		t.Errorf("of %d damages only %d were found", trials, found)
	}
}

func page(b []byte, i int) []byte { return b[i*pageSize : (i+1)*pageSize] }

func TestDamagedDataDirectory(t *testing.T) {
	raftDB := func(d *store.Dir) string { return d.Path("raft", "raft.db") }
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, d *store.Dir)
		want   error
	}{
		{"D1 log gone", func(t *testing.T, d *store.Dir) { must(t, os.Remove(raftDB(d))) }, store.ErrLogMissing},
		{"D1 log empty", func(t *testing.T, d *store.Dir) { must(t, os.Truncate(raftDB(d), 0)) }, store.ErrLogMissing},
		{"D1 log new", func(t *testing.T, d *store.Dir) {
			must(t, os.Remove(raftDB(d)))
			s, err := raftboltdb.NewBoltStore(raftDB(d))
			must(t, err)
			must(t, s.Close())
		}, store.ErrLogMissing},
		{"D1 log never written by raft-boltdb", func(t *testing.T, d *store.Dir) {
			must(t, os.Remove(raftDB(d)))
			db, err := bbolt.Open(raftDB(d), 0o600, nil)
			must(t, err)
			must(t, db.Close())
		}, store.ErrLogMissing},
		{"D2 cut in half", func(t *testing.T, d *store.Dir) {
			info, err := os.Stat(raftDB(d))
			must(t, err)
			must(t, os.Truncate(raftDB(d), info.Size()/2))
		}, store.ErrDamaged},
		{"D3 both meta pages", func(t *testing.T, d *store.Dir) {
			overwrite(t, raftDB(d), 0, make([]byte, 2*pageSize))
		}, store.ErrDamaged},
		{"D5 bit of a value", func(t *testing.T, d *store.Dir) { flip(t, raftDB(d), "00000777") }, store.ErrDamaged},
		{"D5 bit of the vote", func(t *testing.T, d *store.Dir) { flip(t, raftDB(d), "b-00000002") }, store.ErrDamaged},
		{"D5 bit of the vote's name", func(t *testing.T, d *store.Dir) { flip(t, raftDB(d), "lookupd.vote") }, store.ErrDamaged},
		{"D10 log of another peer", func(t *testing.T, d *store.Dir) {
			other, _ := usedDir(t)
			copyFile(t, other.Path("raft", "raft.db"), raftDB(d))
		}, store.ErrLogForeign},
		{"D10 identity of another peer", func(t *testing.T, d *store.Dir) {
			other, _ := usedDir(t)
			copyFile(t, other.Path("node.json"), d.Path("node.json"))
		}, store.ErrLogForeign},
		{"D13 identity gone", func(t *testing.T, d *store.Dir) { must(t, os.Remove(d.Path("node.json"))) }, store.ErrIdentityMissing},
		{"D13 identity cut", func(t *testing.T, d *store.Dir) { must(t, os.Truncate(d.Path("node.json"), 40)) }, store.ErrDamaged},
		{"D14 newer identity", func(t *testing.T, d *store.Dir) {
			must(t, os.WriteFile(d.Path("node.json"), []byte(`{"format":2}`), 0o600))
		}, store.ErrNewerFormat},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, _ := usedDir(t)
			c.damage(t, d)
			before := hashTree(t, d.Path())
			_, _, _, err := start(d, store.LogConfig{})
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if errors.Is(c.want, store.ErrDamaged) && !reflect.DeepEqual(hashTree(t, d.Path()), before) {
				t.Error("something was changed")
			}
		})
	}
}

// hashTree returns the content of the files below path that are not empty.
func hashTree(t *testing.T, path string) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, name := range []string{"node.json", "raft/raft.db", "raft/raft.journal"} {
		if content, err := os.ReadFile(path + "/" + name); err == nil {
			files[name] = string(content)
		}
	}
	return files
}

func overwrite(t *testing.T, path string, at int64, content []byte) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	defer file.Close()
	_, err = file.WriteAt(content, at)
	must(t, err)
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	content, err := os.ReadFile(from)
	must(t, err)
	must(t, os.WriteFile(to, content, 0o600))
}

// One of the two is the latest, and nothing tells which.
func oneBadMetaPage(t *testing.T) {
	for meta := range 2 {
		d, _ := usedDir(t)
		path := d.Path("raft", "raft.db")
		good, err := os.ReadFile(path)
		must(t, err)
		for _, damage := range []struct {
			name    string
			content []byte
		}{
			{"zero", make([]byte, pageSize)},
			{"flipped bit", func() []byte { p := slices.Clone(page(good, meta)); p[16+48] ^= 1; return p }()},
			{"the other one", page(good, 1-meta)},
		} {
			must(t, os.WriteFile(path, good, 0o600))
			overwrite(t, path, int64(meta*pageSize), damage.content)
			if _, err := reopen(t, d); !errors.Is(err, store.ErrDamaged) {
				t.Errorf("meta page %d, %s: %v", meta, damage.name, err)
			}
		}
	}
}

// An older version of a meta page in its place is whole, but not the other's
// neighbour.
func TestOldMetaPage(t *testing.T) {
	d, _ := usedDir(t)
	path := d.Path("raft", "raft.db")
	old, err := os.ReadFile(path)
	must(t, err)
	_, l := mustStart(t, d)
	fill(t, l, 5, 1501, 1600)
	must(t, l.Close())
	now, err := os.ReadFile(path)
	must(t, err)
	for meta := range 2 {
		must(t, os.WriteFile(path, now, 0o600))
		overwrite(t, path, int64(meta*pageSize), page(old, meta))
		if _, err := reopen(t, d); !errors.Is(err, store.ErrDamaged) {
			t.Errorf("meta page %d: %v", meta, err)
		}
	}
}

func olderCopies(t *testing.T) {
	d, _ := usedDir(t)
	raftDB, journal, node := d.Path("raft", "raft.db"), d.Path("raft", "raft.journal"), d.Path("node.json")
	dir := t.TempDir()
	take := func(name string) {
		copyFile(t, raftDB, dir+"/"+name)
		copyFile(t, journal, dir+"/"+name+".journal")
	}
	take("epoch1.db")
	copyFile(t, node, dir+"/epoch1.json")

	_, l := mustStart(t, d) // epoch 2
	must(t, l.Close())
	take("epoch2.db")
	_, l = mustStart(t, d) // epoch 3
	fill(t, l, 5, 1501, 1600)
	must(t, l.Close())
	take("epoch3.db")
	copyFile(t, node, dir+"/epoch3.json")

	for _, c := range []struct {
		log, node string
		want      error
	}{
		{"epoch2.db", "epoch3.json", store.ErrLogOlder},
		{"epoch1.db", "epoch3.json", store.ErrLogOlder},
		{"epoch3.db", "epoch1.json", store.ErrIdentityOlder},
		{"epoch2.db", "epoch1.json", nil}, // the crash between NextEpoch's two writes
		{"epoch3.db", "epoch3.json", nil},
	} {
		copyFile(t, dir+"/"+c.log, raftDB)
		copyFile(t, dir+"/"+c.log+".journal", journal)
		copyFile(t, dir+"/"+c.node, node)
		if _, err := reopen(t, d); !errors.Is(err, c.want) {
			t.Errorf("%s with %s: got %v, want %v", c.log, c.node, err, c.want)
		}
	}
}

func tornFirstWrite(t *testing.T) {
	whole := openDir(t, t.TempDir())
	must(t, openLog(t, whole).Close())
	good, err := os.ReadFile(whole.Path("raft", "raft.db"))
	must(t, err)
	for _, size := range []int{0, 1, 100, pageSize, pageSize + 1, 3*pageSize + 7, 4 * pageSize, len(good)} {
		for _, fill := range []bool{false, true} {
			d := openDir(t, t.TempDir())
			must(t, os.Mkdir(d.Path("raft"), 0o700))
			torn := append([]byte(nil), good[:size]...)
			if fill { // the size was set, the content not yet written
				torn = append(torn, make([]byte, len(good)-size)...)
			}
			must(t, os.WriteFile(d.Path("raft", "raft.db"), torn, 0o600))
			copyFile(t, whole.Path("raft", "raft.journal"), d.Path("raft", "raft.journal"))
			_, l := mustStart(t, d)
			must(t, l.Close())
		}
	}
	// The identity was saved, but nothing ran under it yet.
	d := openDir(t, t.TempDir())
	id, err := store.NewIdentity("a")
	must(t, err)
	must(t, d.SaveIdentity(id))
	if got, _ := mustStart(t, d); got.NodeID != id.NodeID || got.Epoch != 1 {
		t.Errorf("started as %+v", got)
	}
}

func TestCheckAgainst(t *testing.T) {
	const lost = "lost"
	noop := func(index, term uint64) *raft.Log { return &raft.Log{Index: index, Term: term, Type: raft.LogNoop} }
	for _, c := range []struct {
		name     string
		term     uint64
		vote     uint64
		entries  []*raft.Log
		snapshot store.Position
		want     error
	}{
		{name: "empty"},
		{name: "whole", term: 2, entries: []*raft.Log{noop(1, 1), noop(2, 1), noop(3, 2)}},
		{name: "D6 begins late", term: 1, entries: []*raft.Log{noop(2, 1)}, want: store.ErrDamaged},
		{name: "D6 gap", term: 1, entries: []*raft.Log{noop(1, 1), noop(3, 1)}, want: store.ErrDamaged},
		{name: "D6 term goes back", term: 2, entries: []*raft.Log{noop(1, 2), noop(2, 1)}, want: store.ErrDamaged},
		{name: "D6 unknown type", term: 1, entries: []*raft.Log{{Index: 1, Term: 1, Type: 77}}, want: store.ErrDamaged},
		{name: "D6 wild configuration", term: 1, entries: []*raft.Log{{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: []byte{0xc1}}}, want: store.ErrDamaged},
		{name: "D7 no current term", entries: []*raft.Log{noop(1, 1)}, want: store.ErrDamaged},
		{name: "D7 current term too low", term: 1, entries: []*raft.Log{noop(1, 2)}, want: store.ErrDamaged},
		{name: "D7 current term below the vote", term: 1, vote: 2, want: store.ErrDamaged},
		{name: "D7 current term below the snapshot", term: 1, snapshot: store.Position{Term: 2, Index: 9}, want: store.ErrDamaged},
		{name: "snapshot alone", term: 2, snapshot: store.Position{Term: 2, Index: 9}},
		{name: "log overlaps snapshot", term: 2, entries: []*raft.Log{noop(4, 1), noop(5, 2), noop(6, 2)}, snapshot: store.Position{Term: 2, Index: 5}},
		{name: "log follows snapshot", term: 2, entries: []*raft.Log{noop(6, 2)}, snapshot: store.Position{Term: 2, Index: 5}},
		{name: "log ends before snapshot", term: 2, entries: []*raft.Log{noop(1, 1)}, snapshot: store.Position{Term: 2, Index: 5}},
		{name: "D8 gap after snapshot", term: 2, entries: []*raft.Log{noop(7, 2)}, snapshot: store.Position{Term: 2, Index: 5}, want: store.ErrDamaged},
		{name: "term goes back after snapshot", term: 3, entries: []*raft.Log{noop(6, 2)}, snapshot: store.Position{Term: 3, Index: 5}, want: store.ErrDamaged},
		{name: "gap that a snapshot covers", term: 2, entries: []*raft.Log{noop(1, 1), noop(6, 2)}, snapshot: store.Position{Term: 2, Index: 5}},
		{name: "old entries in place of the snapshot's", term: 9, entries: []*raft.Log{noop(4, 8), noop(5, 8), noop(6, 7), noop(7, 9)}, snapshot: store.Position{Term: 7, Index: 5}},
		{name: "gap behind the snapshot", term: 2, entries: []*raft.Log{noop(5, 1), noop(6, 1), noop(8, 2)}, snapshot: store.Position{Term: 1, Index: 5}, want: store.ErrDamaged},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := openDir(t, t.TempDir())
			id, l := mustStart(t, d)
			if c.term > 0 {
				must(t, l.SetUint64([]byte("CurrentTerm"), c.term))
			}
			if c.vote > 0 {
				must(t, l.SetUint64([]byte("LastVoteTerm"), c.vote))
				must(t, l.Set([]byte("LastVoteCand"), []byte(lost)))
			}
			must(t, l.StoreLogs(c.entries))
			must(t, l.Close())
			l, err := d.OpenLog(store.LogConfig{})
			if err == nil {
				t.Cleanup(func() { l.Close() })
				err = l.CheckAgainst(id, c.snapshot)
			}
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestCheckAgainstAge(t *testing.T) {
	d := openDir(t, t.TempDir())
	id, l := mustStart(t, d)
	fill(t, l, 5, 1, 20)
	must(t, l.Close())
	l = openLog(t, d)
	for _, c := range []struct {
		lastTerm, lastIndex uint64
		snapshot            store.Position
		want                error
	}{
		{lastTerm: 5, lastIndex: 20},
		{lastTerm: 5, lastIndex: 21, want: store.ErrLogOlder},
		{lastTerm: 5, lastIndex: 21, snapshot: store.Position{Term: 5, Index: 21}},
		{lastTerm: 6, lastIndex: 1, want: store.ErrLogOlder},
		{lastTerm: 4, lastIndex: 100}, // cut by the leader of term 5
	} {
		id.LastTerm, id.LastIndex = c.lastTerm, c.lastIndex
		if err := l.CheckAgainst(id, c.snapshot); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
