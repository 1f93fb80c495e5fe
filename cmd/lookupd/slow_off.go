//go:build !slow_apply

package main

import "time"

// applyPause slows nothing down in a release.
const applyPause time.Duration = 0
