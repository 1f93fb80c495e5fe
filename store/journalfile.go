package store

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/hashicorp/raft"

	"github.com/lookupd/lookupd/seeded"
)

const journalName = "raft.journal"

// JournalEntries returns the entries of a stopped peer's log that are in its
// journal and may not be in raft.db yet, by index. It changes nothing.
func JournalEntries(dataDir string) (entries map[uint64]*raft.Log, err error) {
	d := &Dir{path: dataDir}
	backend, err := d.openLogFiles(true)
	if err != nil {
		return nil, err
	}
	return backend.kept, backend.Close()
}

// openLogFiles opens raft.db, which must be sound, and the journal that goes
// with it.
func (d *Dir) openLogFiles(readOnly bool) (*journaled, error) {
	path := d.Path(raftDir, logFile)
	backend, err := openBackend(path, readOnly)
	if err != nil {
		return nil, dirError(path, err)
	}
	path = d.Path(raftDir, journalName)
	var j *journaled
	err = guarded(func() (err error) {
		j, err = openJournaled(backend, journalPath(path), defaultJournalLimits, readOnly)
		return err
	})
	if err != nil {
		return nil, errors.Join(dirError(path, err), backend.Close())
	}
	return j, nil
}

// journalPath is the path of raft.journal.
type journalPath string

// Read implements journalDisk.
func (p journalPath) Read(limit int) ([]byte, error) {
	file, err := openFile(string(p), os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: not a regular file", ErrRefused)
	}
	return io.ReadAll(io.LimitReader(file, int64(limit)+1))
}

// Open implements journalDisk.
func (p journalPath) Open() (journalFile, error) {
	file, err := openFile(string(p), os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	return syncedFile{file}, nil
}

// Create implements journalDisk. It writes all of the file, so that later writes change nothing but its
// content, and fdatasync has no more to do.
func (p journalPath) Create(content []byte) (journalFile, error) {
	aside := string(p) + ".tmp"
	file, err := openFile(aside, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, fileMode)
	if err != nil {
		return nil, err
	}
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	if err == nil {
		err = os.Rename(aside, string(p))
	}
	if err == nil {
		err = SyncDir(filepath.Dir(string(p)))
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return syncedFile{file}, nil
}

// syncedFile syncs content alone.
type syncedFile struct{ *os.File }

// Sync implements journalFile.
func (f syncedFile) Sync() error {
	if seeded.LogNotSynced {
		return nil
	}
	return syncData(f.File)
}

// withKept adds the indexes of the entries in memory to runs.
func (j *journaled) withKept(runs []indexRun) []indexRun {
	all := slices.Clone(runs)
	for _, e := range j.order {
		all = append(all, indexRun{e.Index, e.Index})
	}
	slices.SortFunc(all, func(a, b indexRun) int { return cmp.Compare(a.first, b.first) })
	merged := all[:0]
	for _, run := range all {
		if n := len(merged); n > 0 && (run.first <= merged[n-1].last || run.first-1 == merged[n-1].last) {
			merged[n-1].last = max(merged[n-1].last, run.last)
		} else {
			merged = append(merged, run)
		}
	}
	return merged
}
