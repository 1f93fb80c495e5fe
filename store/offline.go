package store

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/hashicorp/raft"
)

// metaFile describes a snapshot, beside its content; the name is raft's.
const (
	metaFile  = "meta.json"
	metaLimit = 1 << 20
)

// Offline is a data directory that no process uses, or a copy of one. Nothing in
// it is changed. One goroutine uses it.
type Offline struct {
	Identity Identity
	// Term is raft's current one. First and Last are the ends of the log, zero if
	// it is empty.
	Term        uint64
	First, Last Position
	// Snapshots are those whose description can be read, newest first. Their
	// content is not verified.
	Snapshots []OfflineSnapshot

	dir  *Dir
	runs []logRun
}

// OfflineSnapshot is a snapshot as its description tells of it.
type OfflineSnapshot struct {
	Name          string
	Position      Position
	Configuration raft.Configuration
}

// OpenOffline reads identity, log and descriptions of snapshots, and verifies
// the first two. It fails with ErrLocked while a process uses the directory,
// ErrIdentityMissing where raft never ran, and what else a start would be
// refused with. The caller must Close it.
func OpenOffline(path string) (o *Offline, err error) {
	if info, err := os.Stat(path); err != nil {
		return nil, err
	} else if !info.IsDir() {
		return nil, fmt.Errorf("%s: %w", path, ErrNotDirectory)
	}
	d := &Dir{path: path}
	if d.lock, err = lockToRead(d.Path(lockFile)); err != nil {
		return nil, dirError(path, err)
	}
	o = &Offline{dir: d}
	if err := o.read(); err != nil {
		return nil, errors.Join(err, o.Close())
	}
	return o, nil
}

// Close lets a process take the directory.
func (o *Offline) Close() error {
	if o.dir.lock == nil {
		return nil
	}
	return o.dir.Close()
}

func (o *Offline) read() error {
	id, found, err := o.dir.LoadIdentity()
	if err != nil {
		return err
	}
	if !found || id.Epoch == 0 {
		return fmt.Errorf("%s: %w", o.dir.path, ErrIdentityMissing)
	}
	o.Identity = id
	survey, err := o.dir.surveyLogFile(o.dir.Path(raftDir, logFile))
	if err != nil {
		return err
	}
	o.Term, o.runs, o.Last = survey.currentTerm, survey.runs, survey.last()
	if len(o.runs) > 0 {
		o.First = o.runs[0].first
	}
	return o.readSnapshots()
}

func (o *Offline) readSnapshots() error {
	finished, _, err := o.dir.snapshotDirs()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, name := range finished {
		data, err := o.dir.readFile(filepath.Join(raftDir, snapshotsDir, name, metaFile), metaLimit)
		if err != nil {
			continue // as raft does
		}
		var meta raft.SnapshotMeta
		if json.Unmarshal(data, &meta) == nil && meta.ID == name {
			o.Snapshots = append(o.Snapshots, OfflineSnapshot{
				Name: name, Position: Position{Term: meta.Term, Index: meta.Index}, Configuration: meta.Configuration,
			})
		}
	}
	slices.SortFunc(o.Snapshots, func(a, b OfflineSnapshot) int {
		return cmp.Or(cmp.Compare(b.Position.Term, a.Position.Term), cmp.Compare(b.Position.Index, a.Position.Index), cmp.Compare(b.Name, a.Name))
	})
	return nil
}

// OpenSnapshot returns the content of one of Snapshots.
func (o *Offline) OpenSnapshot(name string) (io.ReadCloser, error) {
	return openFile(o.dir.Path(raftDir, snapshotsDir, name, contentFile), os.O_RDONLY, 0)
}

// Entries calls fn for the entries of the log from index on, in order, until it
// returns an error, which it returns.
func (o *Offline) Entries(from uint64, fn func(*raft.Log) error) error {
	if len(o.runs) == 0 {
		return nil
	}
	backend, err := o.dir.openLogFiles(true)
	if err != nil {
		return err
	}
	err = guarded(func() error {
		for _, run := range o.runs {
			for index := max(from, run.first.Index); index <= run.last.Index; index++ {
				var entry raft.Log
				if err := readEntry(backend, index, &entry); err != nil {
					return err
				}
				if err := fn(&entry); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return errors.Join(err, backend.Close())
}

// lockToRead keeps processes out of a directory for as long as the file is open,
// if it has a lock file: a copy may lack it.
func lockToRead(path string) (*os.File, error) {
	file, err := openFile(path, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_SH|syscall.LOCK_NB); errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, errors.Join(ErrLocked, file.Close())
	} else if err != nil {
		return nil, errors.Join(fmt.Errorf("lock: %w", err), file.Close())
	}
	return file, nil
}
