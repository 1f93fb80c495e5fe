package store_test

import "syscall"

// setfsuid changes as whom the calling thread opens files.
func setfsuid(uid int) error { return syscall.Setfsuid(uid) }
