package store

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

const (
	snapshotsDir = "snapshots" // raft's FileSnapshotStore appends it to its base
	unusableDir  = "unusable"
	snapshotTemp = ".tmp"

	// snapshotsKept is how many snapshots raft keeps: the previous one is what
	// remains if the latest cannot be read.
	snapshotsKept = 2
)

// OpenSnapshots opens raft's snapshot store and removes what a crash left
// half-written in it, which raft never does. Raft must not be running.
func (d *Dir) OpenSnapshots(logger hclog.Logger) (*Snapshots, error) {
	if err := d.makeSubdir(raftDir); err != nil {
		return nil, err
	}
	if err := d.makeSubdir(raftDir, snapshotsDir); err != nil {
		return nil, err
	}
	_, unfinished, err := d.snapshotDirs()
	if err != nil {
		return nil, err
	}
	for _, name := range unfinished {
		if err := os.RemoveAll(d.Path(raftDir, snapshotsDir, name)); err != nil {
			return nil, err
		}
	}
	return d.snapshots(snapshotsKept, logger)
}

func (d *Dir) snapshots(keep int, logger hclog.Logger) (*Snapshots, error) {
	files, err := raft.NewFileSnapshotStoreWithLogger(d.Path(raftDir), keep, logger)
	if err != nil {
		return nil, err
	}
	return &Snapshots{files: files, path: d.Path(raftDir, snapshotsDir)}, nil
}

// Verify makes sure, before raft starts, that id, log and the snapshots belong
// together and that raft can start from them: the newest snapshot that can be
// read and the log have no gap between them. It calls usable, unless that is
// nil, with the content of a snapshot to ask whether the state machine could
// restore it; an error that wraps ErrRefused (another cluster's snapshot) ends
// the start, any other makes it one that cannot be read. A new identity must be
// verified too: there may be snapshots of a peer that lost its own.
//
// Snapshots that cannot be read are moved aside, so that neither a restart nor
// a follower that needs one depends on them; their names are returned. If the
// log does not reach as far as one of them, what it held is lost, and Verify
// fails with ErrDamaged, as it does for a gap. With an error, which also may be
// one of the refusals, nothing was changed.
func (d *Dir) Verify(id Identity, log *Log, logger hclog.Logger, usable func(io.Reader) error) (setAside []string, err error) {
	newest, bad, err := d.newestSnapshot(logger, usable)
	if err != nil {
		return nil, err
	}
	if err := log.CheckAgainst(id, newest); err != nil {
		return nil, errors.Join(d.namesFile(err), badSnapshots(bad))
	}
	reach := max(newest.Index, log.survey.last().Index)
	for _, name := range bad {
		if at, ok := snapshotPosition(name); ok && at.Index > reach {
			return nil, fmt.Errorf("%s: %w: the snapshot cannot be read, and the log ends at entry %d",
				d.Path(raftDir, snapshotsDir, name), ErrDamaged, reach)
		}
	}
	return bad, d.setAside(bad)
}

// newestSnapshot returns the position of the newest snapshot that is usable,
// the zero Position if there is none, and the names of those that are not.
func (d *Dir) newestSnapshot(logger hclog.Logger, usable func(io.Reader) error) (newest Position, bad []string, err error) {
	store, err := d.snapshots(math.MaxInt, logger)
	if err != nil {
		return Position{}, nil, err
	}
	readable, err := store.List() // newest first, the order in which raft tries them
	if err != nil {
		return Position{}, nil, err
	}
	listed := map[string]bool{}
	for _, meta := range readable {
		listed[meta.ID] = true
		if newest.Index > 0 {
			continue
		}
		switch err := trySnapshot(store, meta.ID, usable); {
		case errors.Is(err, ErrRefused):
			return Position{}, nil, fmt.Errorf("snapshot %s: %w", meta.ID, err)
		case err != nil:
			bad = append(bad, meta.ID)
			continue
		}
		newest = Position{Term: meta.Term, Index: meta.Index}
	}
	finished, _, err := d.snapshotDirs()
	for _, name := range finished {
		if !listed[name] { // its meta.json cannot be read, or is wrong
			bad = append(bad, name)
		}
	}
	return newest, bad, err
}

// namesFile tells which file an error of CheckAgainst is about.
func (d *Dir) namesFile(err error) error {
	if errors.Is(err, ErrIdentityMissing) || errors.Is(err, ErrIdentityOlder) {
		return fmt.Errorf("%s: %w", d.Path(identityFile), err)
	}
	return fmt.Errorf("%s: %w", d.Path(raftDir, logFile), err)
}

func trySnapshot(store *Snapshots, id string, usable func(io.Reader) error) error {
	_, content, err := store.Open(id) // compares the checksum of all of it
	if err != nil {
		return err
	}
	defer content.Close()
	if usable == nil {
		return nil
	}
	return guarded(func() error { return usable(content) })
}

// setAside moves the snapshots to where raft does not look.
func (d *Dir) setAside(names []string) error {
	if len(names) == 0 {
		return nil
	}
	if err := d.makeSubdir(raftDir, unusableDir); err != nil {
		return err
	}
	for _, name := range names {
		aside := d.Path(raftDir, unusableDir, name)
		if err := errors.Join(os.RemoveAll(aside), os.Rename(d.Path(raftDir, snapshotsDir, name), aside)); err != nil {
			return err
		}
	}
	return errors.Join(SyncDir(d.Path(raftDir, unusableDir)), SyncDir(d.Path(raftDir, snapshotsDir)))
}

// snapshotDirs returns the names of all that could be snapshots, and of those
// that raft was writing when it ended.
func (d *Dir) snapshotDirs() (finished, unfinished []string, err error) {
	entries, err := os.ReadDir(d.Path(raftDir, snapshotsDir))
	if err != nil {
		return nil, nil, err
	}
	for _, entry := range entries {
		switch {
		case !entry.IsDir():
		case strings.HasSuffix(entry.Name(), snapshotTemp):
			unfinished = append(unfinished, entry.Name())
		default:
			finished = append(finished, entry.Name())
		}
	}
	return finished, unfinished, nil
}

// snapshotPosition reads the name that raft gave to a snapshot:
// term-index-milliseconds.
func snapshotPosition(name string) (at Position, ok bool) {
	at, _, ok = parseSnapshotName(name)
	return at, ok
}

func snapshotTime(name string) (at time.Time, ok bool) {
	_, stamp, ok := parseSnapshotName(name)
	return time.UnixMilli(stamp), ok
}

func parseSnapshotName(name string) (at Position, stamp int64, ok bool) {
	n, err := fmt.Sscanf(name, "%d-%d-%d", &at.Term, &at.Index, &stamp)
	return at, stamp, err == nil && n == 3
}

// LastSnapshot returns when this peer began the newest snapshot, or began to
// receive it; the zero time if there is none.
func (d *Dir) LastSnapshot() (last time.Time, err error) {
	names, _, err := d.snapshotDirs()
	for _, name := range names {
		if at, ok := snapshotTime(name); ok && at.After(last) {
			last = at
		}
	}
	return last, err
}

func badSnapshots(names []string) error {
	if len(names) == 0 {
		return nil
	}
	return fmt.Errorf("snapshots that cannot be read: %s", strings.Join(names, ", "))
}
