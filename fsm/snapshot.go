package fsm

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"
	"github.com/lookupd/lookupd/seeded"
	"github.com/lookupd/lookupd/store"
)

// Snapshot begins a view of all that is applied; Persist writes it while entries go on being applied.
func (f *FSM) Snapshot() (raft.FSMSnapshot, error) {
	if err := f.flush(); err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	s, err := f.begin()
	if err != nil {
		return nil, err
	}
	s.unsaved, s.of = f.unsaved.Swap(0), f
	return s, nil
}

func (f *FSM) begin() (*snapshot, error) {
	state, err := f.state.Load().Snapshot()
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	return &snapshot{state: state, clusterID: f.config.ClusterID()}, nil
}

// snapshot is a raft.FSMSnapshot. Raft calls Release last, and once.
type snapshot struct {
	state     *store.Snapshot
	clusterID string

	of      *FSM  // nil if raft does not keep it
	unsaved int64 // of of's, that Persist has not saved
}

// Persist writes the snapshot. A failure cancels the sink and is returned, else
// raft would count on a snapshot that is not there.
func (s *snapshot) Persist(sink raft.SnapshotSink) error {
	if err := s.write(sink); err != nil {
		return errors.Join(fmt.Errorf("write snapshot: %w", err), sink.Cancel())
	}
	s.endView() // no page that it sees is used again, and the sync below may take longer than the copy
	if err := sink.Close(); err != nil {
		return fmt.Errorf("finish snapshot: %w", err)
	}
	s.unsaved = 0
	return nil
}

func (s *snapshot) info() SnapshotInfo {
	info := SnapshotInfo{ClusterID: s.clusterID, Hash: s.state.Hash(), Size: s.state.Size()}
	info.Index, info.Term = s.state.Applied()
	return info
}

func (s *snapshot) write(w io.Writer) error {
	sw, err := newSnapshotWriter(w, s.info())
	if err != nil {
		return err
	}
	if _, err := s.state.WriteTo(sw); err != nil {
		return err
	}
	return sw.finish()
}

// Release ends the view. Raft may not have come as far as Persist.
func (s *snapshot) Release() {
	if s.of != nil {
		s.of.unsaved.Add(s.unsaved)
	}
	s.endView()
}

func (s *snapshot) endView() { _ = s.state.Close() } // a read transaction has nothing to lose

// Restore replaces the state by a snapshot's, once all of it is verified. After
// an error the state is the old one. The errors are ErrBadSnapshot,
// ErrForeignSnapshot or of the disk.
func (f *FSM) Restore(r io.ReadCloser) error {
	// First, as the old state goes on after an error, and is closed, which no open
	// transaction may hold up, without one.
	if err := f.flush(); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	state, path, err := f.receive(r)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	var index, term, configuration uint64
	err = state.View(func(v *store.View) error {
		index, term = v.Applied()
		configuration = v.ConfigurationIndex()
		return nil
	})
	if err != nil {
		return errors.Join(fmt.Errorf("restore: %w", err), discard(state, path))
	}
	f.retire(f.state.Swap(state), f.path)
	f.path = path
	f.configuration.Store(configuration)
	f.unsaved.Store(0)
	f.feed.reset(index)
	f.applied.publish(index, term)
	f.config.Logger.Info("restored a snapshot", "index", index, "term", term)
	return nil
}

// retire closes and removes a state that was replaced. Close waits for its readers, raft must not.
func (f *FSM) retire(old *store.State, path string) {
	f.retired.Go(func() {
		if err := discard(old, path); err != nil {
			f.config.Logger.Warn("removing the replaced state failed", "error", err)
		}
	})
}

// receive writes the snapshot's state to a file of its own and opens it.
func (f *FSM) receive(r io.Reader) (*store.State, string, error) {
	path := f.nextFile()
	state, _, err := load(r, path, func(info SnapshotInfo) error {
		if own := f.config.ClusterID(); info.ClusterID != own {
			return fmt.Errorf("%w: it is of %q, this is %q", ErrForeignSnapshot, info.ClusterID, own)
		}
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	if seeded.SnapshotForgetsIdleChannels {
		return state, path, state.Update(forgetIdleChannels)
	}
	return state, path, nil
}

// load writes a snapshot's state to path and opens it once all of it is
// verified. After an error the file is gone. accept sees the header first.
func load(r io.Reader, path string, accept func(SnapshotInfo) error) (*store.State, SnapshotInfo, error) {
	sr, err := newSnapshotReader(r)
	if err != nil {
		return nil, SnapshotInfo{}, err
	}
	if err := accept(sr.info); err != nil {
		return nil, sr.info, err
	}
	if err := writeFile(path, sr); err != nil {
		return nil, sr.info, errors.Join(err, removeFile(path))
	}
	state, err := store.OpenSnapshotState(path)
	if err != nil {
		return nil, sr.info, errors.Join(fmt.Errorf("%w: %w", ErrBadSnapshot, err), removeFile(path))
	}
	err = state.View(func(v *store.View) error {
		if index, term := v.Applied(); index != sr.info.Index || term != sr.info.Term || v.Hash() != sr.info.Hash {
			return fmt.Errorf("%w: header and state differ", ErrBadSnapshot)
		}
		return nil
	})
	if err != nil {
		return nil, sr.info, errors.Join(err, discard(state, path))
	}
	return state, sr.info, nil
}

// ReadSnapshot verifies a whole snapshot, of any cluster, and calls fn with its
// header and state; what fn gets is valid within the call. A file for the state
// is made in dir, an existing directory, and removed again. The errors are
// ErrBadSnapshot, those of the disk, and fn's.
func ReadSnapshot(r io.Reader, dir string, fn func(SnapshotInfo, *store.View) error) (err error) {
	path := filepath.Join(dir, "state-of-snapshot.db")
	state, info, err := load(r, path, func(SnapshotInfo) error { return nil })
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, discard(state, path)) }()
	return state.View(func(v *store.View) error { return fn(info, v) })
}

// Saved is a snapshot that somebody else than raft asked for. It holds the state
// of its moment until Release and is used by one goroutine.
type Saved struct{ snapshot *snapshot }

// Save begins a snapshot of all that is applied. The caller must Release it.
func (f *FSM) Save() (*Saved, error) {
	if err := f.flushApart(); err != nil {
		return nil, fmt.Errorf("save: %w", err)
	}
	s, err := f.begin()
	if err != nil {
		return nil, err
	}
	return &Saved{s}, nil
}

// Info is what the header says.
func (s *Saved) Info() SnapshotInfo { return s.snapshot.info() }

// Length is how many bytes WriteTo writes.
func (s *Saved) Length() int64 { return s.Info().length() }

// WriteTo writes the snapshot. Entries go on being applied meanwhile.
func (s *Saved) WriteTo(w io.Writer) (int64, error) { return s.Length(), s.snapshot.write(w) }

// Release ends the view.
func (s *Saved) Release() { s.snapshot.Release() }

func writeFile(path string, sr *snapshotReader) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("state file: %w", err)
	}
	if err := sr.copyTo(file); err != nil {
		return errors.Join(err, file.Close())
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("state file: %w", err)
	}
	return nil
}

func discard(state *store.State, path string) error {
	return errors.Join(state.Close(), removeFile(path))
}

func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove state file: %w", err)
	}
	return nil
}
