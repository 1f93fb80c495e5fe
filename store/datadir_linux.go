package store

import "syscall"

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
