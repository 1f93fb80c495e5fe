package store_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/lookupd/lookupd/store"
)

// TestBadInputs has the rows of docs/bad-inputs.md that are more than one
// damage and what a start says to it.
func TestBadInputs(t *testing.T) {
	for name, test := range map[string]func(*testing.T){
		"B3 snapshot of another cluster":       foreignSnapshot,
		"C4 absent directory is made private":  madePrivate,
		"C5 second process":                    secondProcess,
		"D3 one bad meta page":                 oneBadMetaPage,
		"D4 bad freelist and branch pages":     badTreePages,
		"D8 half-written snapshot is removed":  halfWrittenSnapshots,
		"D10 older copies":                     olderCopies,
		"D11 links inside are not followed":    linksInside,
		"D13 torn first write of the log":      tornFirstWrite,
		"D13 log torn before an identity knew": tornUnderIdentity,
	} {
		t.Run(name, test)
	}
}

// Kinds of bbolt's pages.
const (
	branchPage   = 0x01
	freelistPage = 0x10
)

// badTreePages spoils pages that bbolt follows without looking, and would panic
// on.
func badTreePages(t *testing.T) {
	found, refused := map[byte]int{}, map[byte]int{}
	d, _ := usedDir(t)
	path := d.Path("raft", "raft.db")
	good, err := os.ReadFile(path)
	must(t, err)
	for i := range len(good) / pageSize {
		kind := page(good, i)[8]
		if kind != branchPage && kind != freelistPage {
			continue
		}
		found[kind]++
		bad := append([]byte(nil), good...)
		for j := 16; j < pageSize; j++ {
			page(bad, i)[j] ^= 0xa5
		}
		must(t, os.WriteFile(path, bad, 0o600))
		switch _, err := reopen(t, d); {
		case errors.Is(err, store.ErrDamaged):
			refused[kind]++
		case err != nil: // a page that is not in use does not matter
			t.Errorf("page %d of kind %#x: %v", i, kind, err)
		}
	}
	if refused[branchPage] == 0 {
		t.Errorf("pages by kind: %v, refused: %v", found, refused)
	}
}

// tornUnderIdentity: once a start is noted, a log that looks new is a lost one.
func tornUnderIdentity(t *testing.T) {
	d, _ := usedDir(t)
	must(t, os.Truncate(d.Path("raft", "raft.db"), pageSize))
	if _, _, _, err := start(d, store.LogConfig{}); !errors.Is(err, store.ErrDamaged) && !errors.Is(err, store.ErrRefused) {
		t.Errorf("got %v", err)
	} else if !strings.Contains(err.Error(), "raft") {
		t.Errorf("%v does not name the file", err)
	}
}
