package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"os"
	"slices"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// Errors of the state file.
var (
	// ErrStateClosed: the state was closed, so nothing was read or changed.
	ErrStateClosed = errors.New("state is closed")
	// ErrStateDamaged: the file is no state of this format, or its rows
	// contradict each other. A state in use that returns it must be given up.
	ErrStateDamaged = errors.New("state is damaged")
	// ErrBadCommand: a command holds what no key can be made of; it should
	// have been refused before it was proposed. Nothing was changed.
	ErrBadCommand = errors.New("command cannot be applied")
)

const (
	stateMode   = 0o600
	lockTimeout = time.Second // the data directory's lock makes a wait a bug
	largeMmap   = 4 << 30     // address space, not disk; see openBolt
	mmapOn32    = 256 << 20
)

// State is the registry at one log index, in a bbolt file. It is rebuilt from a
// snapshot and the log at each start, so nothing is synced to disk.
//
// Any number of Views run beside one write transaction. Methods may be called from any goroutine.
type State struct {
	db      *bbolt.DB
	changed changes // since it was made
}

// CreateState makes an empty state at path; a file that is there is deleted.
func CreateState(path string) (*State, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove old state: %w", err)
	}
	db, err := openBolt(path)
	if err != nil {
		return nil, err
	}
	if err := db.Update(createBuckets); err != nil {
		return nil, errors.Join(fmt.Errorf("create state %s: %w", path, err), db.Close())
	}
	return &State{db: db}, nil
}

// OpenSnapshotState adopts a file that Snapshot.WriteTo made and whose bytes
// were verified. It reads all rows and returns ErrStateDamaged unless their
// hash and counts are those that the file states.
func OpenSnapshotState(path string) (s *State, err error) {
	// On a page that leads astray bbolt panics in a goroutine of its own, or the
	// process faults: whoever made the file may be broken.
	switch _, inited, err := checkPages(path, stateBuckets()...); {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrStateDamaged, err)
	case !inited:
		return nil, fmt.Errorf("%w: no tables", ErrStateDamaged)
	}
	defer func() { // bbolt panics on some malformed files (etcd-io/bbolt #446)
		if p := recover(); p != nil {
			s, err = nil, fmt.Errorf("%w: %v", ErrStateDamaged, p)
		}
	}()
	db, err := openBolt(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStateDamaged, err)
	}
	s = &State{db: db}
	err = s.View(func(v *View) error {
		if err := v.checkFormat(); err != nil {
			return err
		}
		index, _ := v.Applied()
		if at := v.ConfigurationIndex(); at > index {
			return fmt.Errorf("%w: a configuration of index %d at index %d", ErrStateDamaged, at, index)
		}
		s.changedAll(index)
		return v.checkSums()
	})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

// openBolt opens the file without syncs. The map is large from the start: to
// grow it bbolt waits for all readers and keeps new ones out, and a snapshot
// reads for as long as it is sent.
func openBolt(path string) (*bbolt.DB, error) {
	mmap := largeMmap
	if bits.UintSize == 32 {
		mmap = mmapOn32
	}
	db, err := bbolt.Open(path, stateMode, &bbolt.Options{
		Timeout:         lockTimeout,
		NoSync:          true,
		NoGrowSync:      true,
		NoFreelistSync:  true,
		FreelistType:    bbolt.FreelistMapType,
		NoStatistics:    true,
		InitialMmapSize: mmap,
	})
	if err != nil {
		return nil, fmt.Errorf("open state %s: %w", path, err)
	}
	return db, nil
}

// stateBuckets returns the names of a state's buckets, sorted.
func stateBuckets() []string {
	names := []string{metaBucket}
	for t := table(1); t <= lastTable; t++ {
		names = append(names, t.String())
	}
	slices.Sort(names)
	return names
}

func createBuckets(tx *bbolt.Tx) error {
	for t := table(1); t <= lastTable; t++ {
		if _, err := tx.CreateBucket([]byte(t.String())); err != nil {
			return err
		}
	}
	b, err := tx.CreateBucket([]byte(metaBucket))
	if err != nil {
		return err
	}
	if err := b.Put([]byte(formatRow), binary.BigEndian.AppendUint32(nil, stateFormat)); err != nil {
		return err
	}
	return b.Put([]byte(stateRow), new(meta).encode())
}

// View calls fn with a consistent view of the state, which ends when fn
// returns. It returns ErrStateClosed without calling fn, or fn's error, or
// ErrStateDamaged if fn met a row that cannot be read.
func (s *State) View(fn func(*View) error) error {
	tx, err := s.db.Begin(false)
	if err != nil {
		return stateError(err)
	}
	defer func() { _ = tx.Rollback() }() // a read transaction has nothing to lose
	v, err := newView(tx)
	if err != nil {
		return err
	}
	if err := fn(v); err != nil {
		return err
	}
	return v.err
}

// Close waits for Views, Snapshots and write transactions under way. Calling it again does nothing.
func (s *State) Close() error {
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("close state: %w", err)
	}
	return nil
}

// Snapshot holds a view of the state until Close. Changes go on meanwhile.
func (s *State) Snapshot() (*Snapshot, error) {
	tx, err := s.db.Begin(false)
	if err != nil {
		return nil, stateError(err)
	}
	v, err := newView(tx)
	if err != nil {
		return nil, errors.Join(err, tx.Rollback())
	}
	return &Snapshot{View: v}, nil
}

// Snapshot is a View that its holder ends, and that can be written out. It is
// used by one goroutine at a time.
type Snapshot struct{ *View }

// Size is how many bytes WriteTo writes.
func (s *Snapshot) Size() int64 { return s.tx.Size() }

// WriteTo writes a file that OpenSnapshotState reads.
func (s *Snapshot) WriteTo(w io.Writer) (int64, error) {
	n, err := s.tx.WriteTo(w)
	if err != nil {
		return n, fmt.Errorf("write state: %w", err)
	}
	return n, nil
}

// Close ends the view. It must be called; again, it does nothing.
func (s *Snapshot) Close() error {
	if err := s.tx.Rollback(); !errors.Is(err, berrors.ErrTxClosed) {
		return err
	}
	return nil
}

func stateError(err error) error {
	if errors.Is(err, berrors.ErrDatabaseNotOpen) {
		return fmt.Errorf("%w: %w", ErrStateClosed, err)
	}
	return err
}
