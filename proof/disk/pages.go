package disk

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
)

// Kinds of raft.db's pages, as reports call them.
const (
	metaPage   = "raft.db meta page"
	branchPage = "raft.db branch page"
	entryPage  = "raft.db entry page"    // a leaf of the log
	stablePage = "raft.db stable page"   // the leaf with terms, vote, owner
	listPage   = "raft.db freelist page" // there is one until raft's first write only
	freePage   = "raft.db free page"
)

// boltPages are the pages of a raft.db by their kind.
type boltPages struct {
	size  int
	kinds map[string][]int // page numbers
}

// readPages sorts the pages of a file that no process uses.
func readPages(path string) (boltPages, error) {
	p := boltPages{kinds: map[string][]int{}}
	content, err := os.ReadFile(path)
	if err != nil {
		return p, err
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, PreLoadFreelist: true, Timeout: time.Second})
	if err != nil {
		return p, fmt.Errorf("pages of %s: %w", path, err)
	}
	defer db.Close()
	p.size = db.Info().PageSize
	err = db.View(func(tx *bbolt.Tx) error {
		for id := 0; ; id++ {
			info, err := tx.Page(id)
			if err != nil {
				return err
			}
			if info == nil {
				return nil
			}
			kind := map[string]string{"meta": metaPage, "branch": branchPage, "leaf": entryPage, "freelist": listPage, "free": freePage}[info.Type]
			if at := id * p.size; kind == entryPage && bytes.Contains(content[at:at+p.size], []byte("lookupd.owner")) {
				kind = stablePage
			}
			p.kinds[kind] = append(p.kinds[kind], id)
			if kind != freePage {
				id += info.OverflowCount
			}
		}
	})
	return p, err
}

// place picks a byte of a page, more often where it counts: the page's header,
// the elements' headers, the keys and values. Layout: header of 16 bytes with
// the count at 10, elements of 16 bytes, then keys and values up to the end of
// the last element's.
func place(page []byte, kind string, rng *rand.Rand) int {
	const header, element = 16, 16
	if kind == metaPage {
		return rng.IntN(header + 64) // the rest of the page is unused
	}
	elements := min(int(binary.NativeEndian.Uint16(page[10:]))*element, len(page)-header)
	switch n := rng.IntN(10); {
	case n < 2:
		return rng.IntN(header)
	case n < 5 && elements > 0:
		return header + rng.IntN(elements)
	case n < 9 && header+elements < len(page):
		return header + elements + rng.IntN(len(page)-header-elements)
	}
	return rng.IntN(len(page))
}

// sameEntries reports whether the bbolt file at path has the keys and values
// that it had with other bytes. Both must be whole.
func sameEntries(path, before string) (bool, error) {
	aside, err := os.CreateTemp(filepath.Dir(path), "*.tmp")
	if err != nil {
		return false, err
	}
	defer os.Remove(aside.Name())
	if _, err := aside.WriteString(before); err != nil {
		return false, errors.Join(err, aside.Close())
	}
	if err := aside.Close(); err != nil {
		return false, err
	}
	was, err := entries(aside.Name())
	if err != nil {
		return false, err
	}
	is, err := entries(path)
	return was == is, err
}

// entries returns a checksum of all keys and values.
func entries(path string) (sum [sha256.Size]byte, err error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		return sum, err
	}
	defer db.Close()
	hash := sha256.New()
	err = db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
			fmt.Fprintf(hash, "bucket %q\n", name)
			return b.ForEach(func(key, value []byte) error {
				fmt.Fprintf(hash, "%q %q\n", key, value)
				return nil
			})
		})
	})
	return [sha256.Size]byte(hash.Sum(nil)), err
}
