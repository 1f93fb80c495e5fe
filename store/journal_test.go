package store_test

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/lookupd/lookupd/store"
)

const journalSize = 8*512 + 2048*512

func journalOf(d *store.Dir) string { return d.Path("raft", "raft.journal") }

// killedDir returns a data directory whose process was killed with entries 11 to
// 20 in the journal.
func killedDir(t testing.TB) (*store.Dir, store.Identity) {
	t.Helper()
	d := openDir(t, t.TempDir())
	_, l := mustStart(t, d)
	fill(t, l, 4, 1, 10)
	must(t, l.Close())
	id, l := mustStart(t, d)
	fill(t, l, 5, 11, 15)
	for i := uint64(16); i <= 20; i++ {
		must(t, l.StoreLog(command(i, 5, strings.Repeat("x", int(i*i)))))
	}
	left := openDir(t, t.TempDir())
	must(t, os.Mkdir(left.Path("raft"), 0o700))
	for _, name := range []string{"node.json", "raft/raft.db", "raft/raft.journal"} {
		copyFile(t, d.Path(name), left.Path(name))
	}
	return left, id
}

func TestJournalAfterKill(t *testing.T) {
	d, id := killedDir(t)
	before := hashTree(t, d.Path())["raft/raft.journal"]

	entries, err := store.JournalEntries(d.Path())
	must(t, err)
	if len(entries) != 10 || entries[20] == nil || store.CheckSeal(entries[20]) != nil {
		t.Errorf("the journal holds %d entries", len(entries))
	}
	must(t, d.Close())
	o, err := store.OpenOffline(d.Path())
	must(t, err)
	var seen []uint64
	must(t, o.Entries(5, func(e *raft.Log) error { seen = append(seen, e.Index); return nil }))
	if o.First.Index != 1 || o.Last != (store.Position{Term: 5, Index: 20}) || len(seen) != 16 || !slices.IsSorted(seen) {
		t.Errorf("offline: %v to %v, %v", o.First, o.Last, seen)
	}
	must(t, o.Close())

	d = openDir(t, d.Path())
	l := openLog(t, d)
	must(t, l.CheckAgainst(id, store.Position{}))
	want := content(t, l)
	if len(want) != 20+3 {
		t.Errorf("%d entries", len(want))
	}
	must(t, l.Close())
	if hashTree(t, d.Path())["raft/raft.journal"] != before {
		t.Error("a journal that was only looked at has changed")
	}
	_, l = mustStart(t, d)
	if got := content(t, l); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	must(t, l.StoreLog(command(21, 5, "last")))
	must(t, l.Close())
	if entries, err := store.JournalEntries(d.Path()); err != nil || len(entries) > 0 {
		t.Errorf("after Close the journal holds %d entries, %v", len(entries), err)
	}
}

func TestDamagedJournal(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, d *store.Dir)
		want   error
	}{
		{"D15 gone", func(t *testing.T, d *store.Dir) { must(t, os.Remove(journalOf(d))) }, store.ErrLogMissing},
		{"D15 empty", func(t *testing.T, d *store.Dir) { must(t, os.Truncate(journalOf(d), 0)) }, store.ErrDamaged},
		{"D15 cut in a record", func(t *testing.T, d *store.Dir) { must(t, os.Truncate(journalOf(d), 5000)) }, store.ErrDamaged},
		{"D15 cut by a byte", func(t *testing.T, d *store.Dir) { must(t, os.Truncate(journalOf(d), journalSize-1)) }, store.ErrDamaged},
		{"D15 cut by a sector", func(t *testing.T, d *store.Dir) { must(t, os.Truncate(journalOf(d), journalSize-512)) }, store.ErrDamaged},
		{"D15 longer", func(t *testing.T, d *store.Dir) { must(t, os.Truncate(journalOf(d), journalSize+1)) }, store.ErrDamaged},
		{"D15 longer by a sector", func(t *testing.T, d *store.Dir) { must(t, os.Truncate(journalOf(d), journalSize+512)) }, store.ErrDamaged},
		{"D15 zeros", func(t *testing.T, d *store.Dir) { overwrite(t, journalOf(d), 0, make([]byte, journalSize)) }, store.ErrDamaged},
		{"D15 records zero", func(t *testing.T, d *store.Dir) { overwrite(t, journalOf(d), 4096, make([]byte, journalSize-4096)) }, store.ErrDamaged},
		{"D15 last page zero", func(t *testing.T, d *store.Dir) { overwrite(t, journalOf(d), 4096+2*512, make([]byte, 4096)) }, store.ErrDamaged},
		{"D15 something behind", func(t *testing.T, d *store.Dir) { overwrite(t, journalOf(d), journalSize-1, []byte{1}) }, store.ErrDamaged},
		{"D15 another peer's", func(t *testing.T, d *store.Dir) {
			other, _ := killedDir(t)
			copyFile(t, journalOf(other), journalOf(d))
		}, store.ErrLogForeign},
		{"D15 an older one", func(t *testing.T, d *store.Dir) {
			older := t.TempDir() + "/older"
			copyFile(t, journalOf(d), older)
			_, l := mustStart(t, d)
			fill(t, l, 5, 21, 30)
			must(t, l.Close())
			copyFile(t, older, journalOf(d))
		}, store.ErrLogOlder},
		{"D15 an older raft.db", func(t *testing.T, d *store.Dir) {
			dir := t.TempDir()
			copyFile(t, d.Path("raft", "raft.db"), dir+"/older")
			_, l := mustStart(t, d)
			fill(t, l, 5, 21, 30)
			copyFile(t, journalOf(d), dir+"/journal")
			must(t, l.Close())
			copyFile(t, dir+"/journal", journalOf(d))
			copyFile(t, dir+"/older", d.Path("raft", "raft.db"))
		}, store.ErrLogOlder},
		{"D15 a raft.db from before a clean stop", func(t *testing.T, d *store.Dir) {
			_, l := mustStart(t, d)
			older := t.TempDir() + "/older"
			copyFile(t, d.Path("raft", "raft.db"), older)
			fill(t, l, 5, 21, 30)
			must(t, l.Close())
			copyFile(t, older, d.Path("raft", "raft.db"))
		}, store.ErrLogOlder},
		{"D15 raft.db gone", func(t *testing.T, d *store.Dir) { must(t, os.Remove(d.Path("raft", "raft.db"))) }, store.ErrLogMissing},
		{"D15 raft.db and the identity gone", func(t *testing.T, d *store.Dir) {
			must(t, os.Remove(d.Path("raft", "raft.db")))
			must(t, os.Remove(d.Path("node.json")))
		}, store.ErrLogMissing},
		{"D15 a directory", func(t *testing.T, d *store.Dir) {
			must(t, os.Remove(journalOf(d)))
			must(t, os.Mkdir(journalOf(d), 0o700))
		}, store.ErrRefused},
		{"D15 a link", func(t *testing.T, d *store.Dir) {
			must(t, os.Rename(journalOf(d), d.Path("elsewhere")))
			must(t, os.Symlink(d.Path("elsewhere"), journalOf(d)))
		}, store.ErrSymlink},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, _ := killedDir(t)
			c.damage(t, d)
			before := hashTree(t, d.Path())
			if _, _, _, err := start(d, store.LogConfig{}); !errors.Is(err, c.want) || !strings.Contains(err.Error(), "raft.") {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if after := hashTree(t, d.Path()); before["raft/raft.journal"] != after["raft/raft.journal"] || before["node.json"] != after["node.json"] {
				t.Error("something was changed")
			}
		})
	}
}

// A raft.db that is behind the journal, by however little.
func TestJournalAheadOfRaftDB(t *testing.T) {
	for generations := 1; generations <= 3; generations++ {
		r, err := newJournalRun(1)
		must(t, err)
		must(t, r.make(r.storing(1, 1, 10)))
		logs, conf := maps.Clone(r.db.logs), maps.Clone(r.db.conf)
		for range generations {
			must(t, r.make(r.deleting(1, 1))) // empties it
			must(t, r.make(r.storing(1, 1, 10)))
		}
		must(t, r.open())
		r.db.logs, r.db.conf = logs, conf
		if err := r.open(); !errors.Is(err, store.ErrLogOlder) {
			t.Errorf("%d generations: %v", generations, err)
		}
	}
}

// What cannot be written to is found before the start has begun.
func TestJournalUnwritable(t *testing.T) {
	r, err := newJournalRun(1)
	must(t, err)
	must(t, r.make(r.storing(1, 2, 100)))
	r.journal.openErr = fs.ErrPermission
	if _, err := store.OpenJournaled(r.db, r.journal, smallJournal, false); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("opened: %v", err)
	}
	r.journal.openErr = nil
	must(t, r.open())
	must(t, r.differs(r.want))
}

// A log of before there were journals has neither file nor key.
func TestLogWithoutJournal(t *testing.T) {
	r, err := newJournalRun(1)
	must(t, err)
	old := r.storing(1, 5, 100)
	must(t, old.call(r.db))
	r.want = old.want
	must(t, r.open())
	must(t, r.differs(r.want))
	if r.journal.current != nil {
		t.Error("reading has made a journal")
	}
	must(t, r.make(r.storing(6, 1, 100)))
	must(t, r.open())
	must(t, r.differs(r.want))
}

// A byte that changes is always found; a record is only taken for one that a
// crash has cut if it is the last and lacks whole sectors.
func TestJournalBytes(t *testing.T) {
	records := [][]*raft.Log{
		{command(1, 1, "one"), command(2, 1, "two")},
		{command(3, 1, strings.Repeat("three", 150))},
		{command(4, 1, strings.Repeat("\x00", 700))},
	}
	const sectors = 1 + 2 + 2
	good := store.EncodeJournal(8, records...)
	if entries, err := store.DecodeJournal(good); err != nil || len(entries) != 4 {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	for i := range good {
		for _, bit := range []byte{1, 0x80, good[i]} {
			if bit == 0 {
				continue
			}
			bad := slices.Clone(good)
			bad[i] ^= bit
			if entries, err := store.DecodeJournal(bad); !errors.Is(err, store.ErrDamaged) {
				t.Fatalf("byte %d: %d entries, %v", i, len(entries), err)
			}
		}
	}
	for zeros := range 1 << sectors {
		bad := slices.Clone(good)
		for i := range sectors {
			if zeros>>i&1 == 1 {
				clear(bad[store.JournalHeader+i*store.SectorSize:][:store.SectorSize])
			}
		}
		entries, err := store.DecodeJournal(bad)
		switch last := zeros >> 3; {
		case zeros == 0 || zeros&7 != 0 || last == 0:
			if zeros != 0 && !errors.Is(err, store.ErrDamaged) {
				t.Errorf("zero sectors %05b: %d entries, %v", zeros, len(entries), err)
			}
		case err != nil || len(entries) != 3:
			t.Errorf("zero sectors %05b: %d entries, %v", zeros, len(entries), err)
		}
	}
}

// The head is written with each record. A crash may leave one of them.
func TestJournalHead(t *testing.T) {
	a, b, c := []*raft.Log{command(1, 1, "a")}, []*raft.Log{command(2, 1, "b")}, []*raft.Log{command(3, 1, "c")}
	one, two, three := store.EncodeJournal(8, a), store.EncodeJournal(8, a, b), store.EncodeJournal(8, a, b, c)
	torn := store.EncodeJournal(8, a, []*raft.Log{command(2, 1, strings.Repeat("b", 600))}, c)
	clear(torn[store.JournalHeader+2*store.SectorSize:][:store.SectorSize])
	for _, test := range []struct {
		name          string
		head, records []byte
		want          int // entries, -1: damaged
	}{
		{"D16 head before its record", two, one, 1},
		{"D16 record before its head", one, two, 2},
		{"D16 head of a journal two records ahead", three, one, -1},
		{"D16 head of a journal two records behind", one, three, -1},
		{"D16 torn record with another behind", one, torn, -1},
	} {
		content := append(slices.Clone(test.head[:store.JournalHeader]), test.records[store.JournalHeader:]...)
		entries, err := store.DecodeJournal(content)
		if test.want < 0 && !errors.Is(err, store.ErrDamaged) || test.want >= 0 && (err != nil || len(entries) != test.want) {
			t.Errorf("%s: %d entries, %v", test.name, len(entries), err)
		}
	}
}

// Readers find every entry that was stored, while the journal is emptied too.
func TestJournalReadersMissNothing(t *testing.T) {
	l := openLog(t, openDir(t, t.TempDir()))
	stored := make(chan uint64, 4096)
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for index := range stored {
				var e raft.Log
				if err := l.GetLog(index, &e); err != nil || e.Index != index {
					t.Errorf("entry %d: %v", index, err)
				}
				if last, err := l.LastIndex(); err != nil || last < index {
					t.Errorf("last index %d after entry %d, %v", last, index, err)
				}
			}
		})
	}
	for i := uint64(1); i <= 1300; i++ {
		must(t, l.StoreLog(command(i, 1, fmt.Sprint(i))))
		stored <- i
		stored <- max(i, 500) - 499
	}
	close(stored)
	readers.Wait()
}
