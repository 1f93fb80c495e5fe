//go:build witness

package main

import (
	"fmt"
	"os"
	"time"

	"github.com/lookupd/lookupd/cluster"
)

// snapshotsEnv holds threshold, trailing logs and interval, as "300,1200,1s".
const snapshotsEnv = "LOOKUPD_SNAPSHOTS"

// snapshotsForProof lets a run of a minute see many snapshots.
func snapshotsForProof() (c cluster.SnapshotConfig) {
	text := os.Getenv(snapshotsEnv)
	if text == "" {
		return c
	}
	var interval string
	_, err := fmt.Sscanf(text, "%d,%d,%s", &c.Threshold, &c.TrailingLogs, &interval)
	if err == nil {
		c.Interval, err = time.ParseDuration(interval)
	}
	if err != nil {
		panic(fmt.Sprintf("%s=%q: %v", snapshotsEnv, text, err))
	}
	return c
}
