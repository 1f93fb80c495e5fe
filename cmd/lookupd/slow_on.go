//go:build slow_apply

package main

import "time"

// applyPause makes a peer whose state never gets further than its first entries,
// and that answers the others all the same: it lags for as long as a test looks.
const applyPause = 24 * time.Hour
