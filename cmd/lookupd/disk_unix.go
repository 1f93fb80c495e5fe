//go:build linux || darwin || freebsd

package main

import "syscall"

// freeDisk returns how many bytes a process without privileges may still write at path.
func freeDisk(path string) (uint64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(path, &s); err != nil {
		return 0, err
	}
	return uint64(s.Bavail) * uint64(s.Bsize), nil
}
