package check

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/lookupd/lookupd/store"
)

// killedPeer returns a data directory as a kill leaves it, with entries 1 to 3
// in the journal alone.
func killedPeer(t *testing.T) string {
	t.Helper()
	running, left := t.TempDir(), t.TempDir()
	d, err := store.OpenDir(running)
	must(t, err)
	id, err := store.NewIdentity("a")
	must(t, err)
	l, err := d.OpenLog(store.LogConfig{OnFatal: func(err error) { t.Errorf("fatal: %v", err) }})
	must(t, err)
	_, err = d.NextEpoch(id, l)
	must(t, err)
	must(t, l.SetUint64([]byte("CurrentTerm"), 1))
	for index := uint64(1); index <= 3; index++ {
		must(t, l.StoreLog(&raft.Log{Index: index, Term: 1, Type: raft.LogNoop}))
	}
	must(t, os.CopyFS(left, os.DirFS(running)))
	must(t, errors.Join(l.Close(), d.Close()))
	return left
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestEntriesInAJournalAreCompared(t *testing.T) {
	peer := killedPeer(t)
	for _, test := range []struct {
		term     uint64 // of the last entry that was applied
		problems int
	}{{1, 0}, {2, 1}} {
		var notes bytes.Buffer
		for index, term := range []uint64{1, 1, test.term} {
			must(t, binary.Write(&notes, binary.BigEndian, uint32(0)))
			must(t, binary.Write(&notes, binary.BigEndian, []uint64{uint64(index) + 1, term}))
			must(t, notes.WriteByte(byte(raft.LogNoop)))
		}
		witnessed := t.TempDir()
		must(t, os.WriteFile(filepath.Join(witnessed, "applied-1"), notes.Bytes(), 0o600))
		l, err := ReadLog(witnessed, []string{peer})
		must(t, err)
		if l.Last != 3 || len(l.Problems) != test.problems {
			t.Errorf("term %d: last %d, problems %q", test.term, l.Last, l.Problems)
		}
	}
}
