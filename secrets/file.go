package secrets

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// maxFile bounds what is read of a file, in bytes.
const maxFile = 1 << 20

// readSecret reads a file that nobody else may read. Links are followed, as
// they are what Kubernetes and certbot give: what counts is the file itself.
func readSecret(path string) ([]byte, error) { return read(path, checkSecret) }

// readPublic reads a file that others may read but not write.
func readPublic(path string) ([]byte, error) { return read(path, checkPublic) }

func read(path string, check func(fs.FileInfo) error) (content []byte, err error) {
	// Opening a pipe must not wait for somebody to write.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", path)
	}
	if err := check(info); err != nil {
		return nil, fmt.Errorf("%s has mode %04o: %w", path, info.Mode().Perm(), err)
	}
	content, err = io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(content) > maxFile {
		err = fmt.Errorf("%s has more than %d bytes", path, maxFile)
	}
	return content, err
}

const (
	groupReads  = 0o040
	othersWrite = 0o022
	others      = 0o077
)

var (
	errOthersRead  = errors.New("others can read it: chmod 0600")
	errOthersWrite = errors.New("others can write it: chmod go-w")
)

// checkSecret allows the group to read what belongs to root: an orchestrator
// hands secrets over in that way.
func checkSecret(info fs.FileInfo) error {
	allowed := fs.FileMode(0)
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && owner.Uid == 0 {
		allowed = groupReads
	}
	switch open := info.Mode().Perm() & others &^ allowed; {
	case open&othersWrite != 0:
		return errOthersWrite
	case open != 0:
		return errOthersRead
	}
	return nil
}

func checkPublic(info fs.FileInfo) error {
	if info.Mode().Perm()&othersWrite != 0 {
		return errOthersWrite
	}
	return nil
}
