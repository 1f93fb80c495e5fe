package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Classes of what is wrong with a data directory. Every sentinel of the data
// directory, the identity and the log wraps one of them, so that the daemon can
// choose its exit code and the next step that it tells. An error that wraps
// neither (a full disk, an I/O error) may be gone at the next start.
var (
	// ErrRefused: the directory is whole, but not for this process to use.
	ErrRefused = errors.New("data directory refused")
	// ErrDamaged: what is on disk is not what was written.
	ErrDamaged = errors.New("data is damaged")
)

// Reasons to refuse a data directory.
var (
	ErrLocked       = fmt.Errorf("%w: in use by another process", ErrRefused)
	ErrNotDirectory = fmt.Errorf("%w: not a directory", ErrRefused)
	ErrNotWritable  = fmt.Errorf("%w: not writable", ErrRefused)
	ErrOpenToOthers = fmt.Errorf("%w: every user may write to it", ErrRefused)
	ErrNewerFormat  = fmt.Errorf("%w: written by a newer version", ErrRefused)
	ErrSymlink      = fmt.Errorf("%w: symbolic links inside it are not followed", ErrRefused)
)

const (
	lockFile  = "LOCK"
	probeFile = "write-test"
	raftDir   = "raft"

	dirMode  = 0o700
	fileMode = 0o600

	lockWait = time.Second
	lockPoll = 20 * time.Millisecond
)

// Dir is a data directory that this process holds alone until Close.
//
//	LOCK                 locked while a process uses the directory
//	node.json            Identity
//	peers.json           AddressBook
//	raft/raft.db         Log
//	raft/raft.journal    its latest entries
//	raft/snapshots/      Snapshots
//	raft/unusable/       snapshots that Verify has set aside
//
// Its methods may be called from any goroutine.
type Dir struct {
	path string
	lock *os.File
	once sync.Once
	err  error // of Close
}

// OpenDir makes path, if there is nothing, readable for its owner alone,
// whatever the umask is, and takes it for this process. It refuses what is not
// a directory, cannot be written, can be written by everybody, or is still held
// by another process after a second. A directory that exists keeps its mode:
// container platforms hand out volumes that belong to a group.
//
// path itself may be a symbolic link (systemd makes one for DynamicUser), what
// lies in it may not.
func OpenDir(path string) (*Dir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := makeDir(path); err != nil {
		return nil, dirError(path, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, dirError(path, err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("%s: %w", path, ErrNotDirectory)
	}
	if mode := info.Mode().Perm(); mode&0o002 != 0 {
		return nil, fmt.Errorf("%s: %w (mode %04o; chmod 0700 would do)", path, ErrOpenToOthers, mode)
	}
	d := &Dir{path: path}
	if d.lock, err = lock(filepath.Join(path, lockFile)); err != nil {
		return nil, dirError(path, err)
	}
	if err := d.probe(); err != nil {
		return nil, errors.Join(dirError(path, err), d.Close())
	}
	return d, nil
}

// Path returns the path of elem in the directory.
func (d *Dir) Path(elem ...string) string {
	return filepath.Join(append([]string{d.path}, elem...)...)
}

// Close lets another process take the directory.
func (d *Dir) Close() error {
	d.once.Do(func() { d.err = d.lock.Close() }) // closing the file ends the lock
	return d.err
}

// Warnings returns a sentence for each property of the directory that makes it
// a bad place for data that must last, though it works.
func (d *Dir) Warnings() []string {
	switch name := filesystem(d.path); name {
	case "nfs":
		return []string{d.path + " is on NFS: its locks and syncs may not hold what lookupd relies on"}
	case "tmpfs":
		return []string{d.path + " is on tmpfs: it is empty after a reboot, and the peer must then join anew"}
	}
	return nil
}

// makeSubdir makes a directory inside the data directory, which must not be a
// symbolic link.
func (d *Dir) makeSubdir(elem ...string) error {
	path := d.Path(elem...)
	if err := makeDir(path); err != nil {
		return dirError(path, err)
	}
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return dirError(path, err)
	case info.Mode()&fs.ModeSymlink != 0:
		return fmt.Errorf("%s: %w", path, ErrSymlink)
	case !info.IsDir():
		return fmt.Errorf("%s: %w", path, ErrNotDirectory)
	}
	return nil
}

// probe makes sure that files can be made, written and synced, so that a full
// or read-only disk is found before anything else is touched.
func (d *Dir) probe() error {
	if err := d.writeFile(probeFile, []byte("lookupd\n")); err != nil {
		return err
	}
	return os.Remove(d.Path(probeFile))
}

// writeFile replaces the file name by data: after a crash it is the old one or
// the new one, and once writeFile has returned nil the new one.
func (d *Dir) writeFile(name string, data []byte) error {
	aside := d.Path(name + ".tmp")
	file, err := openFile(aside, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, fileMode)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, os.Remove(aside))
	}
	if err := os.Rename(aside, d.Path(name)); err != nil {
		return err
	}
	return SyncDir(d.path)
}

// readFile returns the content of the file name, which must not be longer than
// limit.
func (d *Dir) readFile(name string, limit int64) ([]byte, error) {
	file, err := openFile(d.Path(name), os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s: %w: more than %d bytes", d.Path(name), ErrDamaged, limit)
	}
	return data, nil
}

// lock opens the lock file and locks it. The lock belongs to the open file, so
// it ends with the process however that ends.
func lock(path string) (*os.File, error) {
	file, err := openFile(path, os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, err
	}
	poll := time.NewTicker(lockPoll)
	defer poll.Stop()
	deadline := time.After(lockWait)
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return file, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock: %w", err), file.Close())
		}
		select {
		case <-poll.C:
		case <-deadline:
			return nil, errors.Join(ErrLocked, file.Close())
		}
	}
}

// openFile is os.OpenFile, but refuses a symbolic link: whoever can plant one
// would choose the file that is written.
func openFile(path string, flag int, mode fs.FileMode) (*os.File, error) {
	file, err := os.OpenFile(path, flag|syscall.O_NOFOLLOW, mode)
	if errors.Is(err, syscall.ELOOP) {
		return nil, fmt.Errorf("%s: %w", path, ErrSymlink)
	}
	return file, err
}

// makeDir makes path and the directories above it that do not exist, private to
// their owner, and makes their names last: a data directory that a power cut
// takes away would take acknowledged entries along.
func makeDir(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(path)
	if err := makeDir(parent); err != nil {
		return err
	}
	if err := os.Mkdir(path, dirMode); err != nil {
		return err
	}
	if err := os.Chmod(path, dirMode); err != nil { // Mkdir's mode passed the umask
		return err
	}
	return SyncDir(parent)
}

// SyncDir makes last which files a directory has.
func SyncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// dirError names path and tells which errors are refusals.
func dirError(path string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrRefused):
		return fmt.Errorf("%s: %w", path, err)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%s: %w: %w", path, ErrNotWritable, err)
	case errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%s: %w: %w", path, ErrNotDirectory, err)
	}
	return fmt.Errorf("%s: %w", path, err)
}
