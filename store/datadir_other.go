//go:build !linux

package store

import "os"

// filesystem is not told apart here; the daemon is run on Linux.
func filesystem(string) string { return "" }

func syncData(file *os.File) error { return file.Sync() }
