package store

import (
	"errors"
	"os"
	"syscall"
)

// Magic numbers of statfs(2).
const (
	nfsMagic   = 0x6969
	tmpfsMagic = 0x01021994
)

// filesystem names the kind of file system that path is on, if it is one that
// Warnings speaks of.
func filesystem(path string) string {
	var stat syscall.Statfs_t
	if syscall.Statfs(path, &stat) != nil {
		return ""
	}
	switch int64(stat.Type) {
	case nfsMagic:
		return "nfs"
	case tmpfsMagic:
		return "tmpfs"
	}
	return ""
}

// syncData makes last what was written to file, and no more of its metadata than
// reading that takes.
func syncData(file *os.File) error {
	for {
		err := syscall.Fdatasync(int(file.Fd()))
		if !errors.Is(err, syscall.EINTR) {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}
