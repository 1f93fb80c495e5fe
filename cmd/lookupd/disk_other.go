//go:build !linux && !darwin && !freebsd

package main

import "errors"

// freeDisk is not known on this system, so -min-free-disk has no effect.
func freeDisk(string) (uint64, error) { return 0, errors.ErrUnsupported }
