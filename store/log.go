package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"

	"github.com/lookupd/lookupd/seeded"
)

const (
	logFile = "raft.db"

	defaultHungAfter = 10 * time.Second
	openTimeout      = time.Second
	// tornLimit is more than bbolt and raft-boltdb write to a new file before
	// raft writes, on machines with pages of 4 KiB.
	tornLimit = 64 << 10
)

// Errors of the log.
var (
	// ErrLogMissing: the peer has an identity that raft ran under, and its log
	// is gone. An empty log would forget the votes that the peer gave.
	ErrLogMissing = fmt.Errorf("%w: the log is missing", ErrRefused)
	// ErrLogOlder: the log is behind what the identity has seen of it.
	ErrLogOlder = fmt.Errorf("%w: the log is an older copy", ErrRefused)
	// ErrLogForeign: the log was written under another node id.
	ErrLogForeign = fmt.Errorf("%w: the log is another peer's", ErrRefused)
	// ErrIdentityMissing: there is a log or a snapshot, and nothing says whose.
	ErrIdentityMissing = fmt.Errorf("%w: the identity of this log is missing", ErrRefused)
	// ErrIdentityOlder: the identity is behind what the log has seen of it.
	ErrIdentityOlder = fmt.Errorf("%w: the identity is an older copy", ErrRefused)

	// ErrChecksum: an entry is not what its leader wrote. StoreLogs returns it
	// for one that arrives so, and stores nothing.
	ErrChecksum = errors.New("checksum of a log entry is wrong")
	// ErrLogClosed: the log was used after Close.
	ErrLogClosed = errors.New("log is closed")
	// ErrDiskHung: an operation on the log takes so long that the disk is
	// taken for dead. OnFatal gets it.
	ErrDiskHung = errors.New("disk is hung")
)

// LogConfig is what OpenLog needs to know.
type LogConfig struct {
	// OnFatal is called once, with the first error after which the log must not
	// be used: a failed write (the kernel may take pages that it could not
	// write for clean ones, so trying again may succeed without having
	// written), damage found while running, an operation that hangs. It must
	// end the process without touching the disk again. Tests may let it
	// return: every later operation then fails with that error.
	OnFatal func(error)
	// HungAfter is how long an operation may take, 0 for 10 s.
	HungAfter time.Duration
	// Stored, if set, is told how long StoreLogs took to have entries on disk.
	Stored func(time.Duration)
}

// logBackend is what Log needs of raft-boltdb, so that tests can put failures
// in between.
type logBackend interface {
	raft.LogStore
	raft.StableStore
	Close() error
}

// Log is raft's log and stable store: raft-boltdb with a journal in front, wrapped
// in what keeps a bad disk from becoming a wrong answer.
//
//   - Each entry carries a checksum from the leader that made it to every disk
//     that holds it, checked whenever it is stored or read.
//   - Terms, votes and the owner carry checksums too; a vote's term and candidate
//     are one value, so that no crash can part them (hashicorp/raft #661).
//   - A failed write, a hung disk, and damage found while running end the process.
//
// Its errors are raft-boltdb's, unchanged: raft knows ErrLogNotFound by identity
// and a missing key by its text. It must not implement raft.MonotonicLogStore:
// raft would then wipe the log after installing a snapshot and keep the old last
// index in memory.
//
// The methods of raft's interfaces may be called from any goroutine; those of
// the vote come from raft's main goroutine alone.
type Log struct {
	backend logBackend
	disk    *diskGuard
	stored  func(time.Duration)
	files   []string
	survey  logSurvey // of the moment of OpenLog

	mu       sync.Mutex
	voteTerm uint64 // term of the vote that raft is about to give, 0 if none
}

var (
	_ raft.LogStore    = (*Log)(nil)
	_ raft.StableStore = (*Log)(nil)
)

// OpenLog opens the log, or makes an empty one if raft has never run under the
// identity in the directory. Before bbolt maps the file, and so before a short
// file or a wild page number can crash the process, all its pages are checked;
// then all entries, before anything is written. It fails with ErrDamaged, ErrLogMissing,
// ErrIdentityMissing, or what LoadIdentity fails with; the file is then as it
// was.
//
// Whether the log goes with the identity and the snapshots is for Verify to say.
func (d *Dir) OpenLog(cfg LogConfig) (*Log, error) {
	if cfg.HungAfter == 0 {
		cfg.HungAfter = defaultHungAfter
	}
	if cfg.Stored == nil {
		cfg.Stored = func(time.Duration) {}
	}
	if err := d.makeSubdir(raftDir); err != nil {
		return nil, err
	}
	path := d.Path(raftDir, logFile)
	survey, err := d.surveyLogFile(path)
	if seeded.EmptyLogAccepted && errors.Is(err, ErrLogMissing) {
		err = nil
	}
	if err != nil {
		return nil, err
	}
	backend, err := d.openLogFiles(false)
	if err != nil {
		return nil, err
	}
	// bbolt syncs the file, not its name.
	if err := errors.Join(SyncDir(filepath.Dir(path)), SyncDir(d.path)); err != nil {
		return nil, errors.Join(err, backend.Close())
	}
	files := []string{path, d.Path(raftDir, journalName)}
	return &Log{backend: backend, disk: newDiskGuard(cfg), stored: cfg.Stored, files: files, survey: survey}, nil
}

// surveyLogFile reads raft.db, if there is one, and the journal, without changing
// them. A raft.db that cannot be read is removed if it was never finished: raft
// has not run here yet, and the file is not larger than a new one.
func (d *Dir) surveyLogFile(path string) (survey logSurvey, err error) {
	id, found, err := d.LoadIdentity()
	if err != nil {
		return logSurvey{}, dirError(path, err)
	}
	used := found && id.Epoch > 0
	indexes, inited, err := surveyPages(path, used)
	if err != nil || !inited {
		return logSurvey{}, dirError(path, err)
	}
	backend, err := d.openLogFiles(true)
	if err != nil {
		return logSurvey{}, err
	}
	survey, err = surveyLog(backend, backend.withKept(indexes))
	if err == nil && !used && !survey.empty() {
		err = ErrIdentityMissing
	}
	return survey, dirError(path, errors.Join(err, backend.Close()))
}

// surveyPages returns which indexes raft.db holds. inited is false if there is no
// file that raft-boltdb has written to, which used says must be there.
func surveyPages(path string, used bool) (indexes []indexRun, inited bool, err error) {
	info, err := os.Lstat(path)
	switch {
	case err == nil && info.Size() > 0:
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, false, err
	case used:
		return nil, false, ErrLogMissing
	default:
		return nil, false, nil
	}
	indexes, inited, err = checkPages(path, bucketConf, bucketLogs)
	switch {
	case !used && errors.Is(err, ErrDamaged) && info.Size() <= tornLimit:
		return nil, false, os.Remove(path)
	case err == nil && !inited && used:
		return nil, false, ErrLogMissing
	}
	return indexes, inited, err
}

func openBackend(path string, readOnly bool) (backend *raftboltdb.BoltStore, err error) {
	err = guarded(func() (err error) {
		backend, err = raftboltdb.New(raftboltdb.Options{Path: path, NoSync: seeded.LogNotSynced, BoltOptions: &bbolt.Options{
			Timeout:        openTimeout,
			NoFreelistSync: true,
			FreelistType:   bbolt.FreelistMapType,
			ReadOnly:       readOnly,
			OpenFile:       openFile,
		}})
		return err
	})
	return backend, err
}

// Close empties the journal and closes the files. After a failure it leaves the
// disk alone.
func (l *Log) Close() error { return l.disk.close(l.backend.Close) }

// Size returns how large the files are. What is deleted from them makes room in
// them and leaves them as large.
func (l *Log) Size() (size int64, err error) {
	for _, path := range l.files {
		info, err := os.Stat(path)
		switch {
		case err == nil:
			size += info.Size()
		case !errors.Is(err, fs.ErrNotExist): // there is no journal before the first write
			return 0, err
		}
	}
	return size, nil
}

// FirstIndex implements raft.LogStore.
func (l *Log) FirstIndex() (index uint64, err error) {
	err = l.disk.read("read first index", func() (err error) {
		index, err = l.backend.FirstIndex()
		return err
	})
	return index, err
}

// LastIndex implements raft.LogStore.
func (l *Log) LastIndex() (index uint64, err error) {
	err = l.disk.read("read last index", func() (err error) {
		index, err = l.backend.LastIndex()
		return err
	})
	return index, err
}

// LastTermIndex returns the position of the last entry, 0 and 0 if there is
// none.
func (l *Log) LastTermIndex() (term, index uint64, err error) {
	index, err = l.LastIndex()
	if err != nil || index == 0 {
		return 0, 0, err
	}
	var entry raft.Log
	if err := l.GetLog(index, &entry); err != nil {
		return 0, 0, err
	}
	return entry.Term, index, nil
}

// GetLog implements raft.LogStore. An entry that is not as it was stored ends
// the process: the disk cannot be trusted with the others either.
func (l *Log) GetLog(index uint64, entry *raft.Log) error {
	return l.disk.read("read log entry", func() error {
		return readEntry(l.backend, index, entry)
	})
}

// StoreLog implements raft.LogStore.
func (l *Log) StoreLog(entry *raft.Log) error { return l.StoreLogs([]*raft.Log{entry}) }

// StoreLogs implements raft.LogStore. It gives its checksum to an entry that
// has none, in place, so that the entry takes it along to the followers. An
// entry that arrives with a wrong one is refused with ErrChecksum, and with it
// all the others.
func (l *Log) StoreLogs(entries []*raft.Log) error {
	for _, entry := range entries {
		if err := sealEntry(entry); err != nil {
			return err
		}
	}
	began := time.Now()
	err := l.disk.write("store log entries", func() error { return l.backend.StoreLogs(entries) })
	if err == nil {
		l.stored(time.Since(began))
	}
	return err
}

// DeleteRange implements raft.LogStore.
func (l *Log) DeleteRange(first, last uint64) error {
	return l.disk.write("delete log entries", func() error { return l.backend.DeleteRange(first, last) })
}
