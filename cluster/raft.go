package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// logCacheEntries is two of the largest requests of raft (MaxAppendEntries): a follower
// further behind is served from the file. An entry may have 256 KiB.
const logCacheEntries = 128

// raftConfig has the reasons for each value that is not raft's default in this
// package's DESIGN.md.
func (n *Node) raftConfig() *raft.Config {
	scale := time.Duration(n.cfg.RaftTimeScale)
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(n.id)
	c.HeartbeatTimeout = 500 * time.Millisecond * scale
	c.ElectionTimeout = 500 * time.Millisecond * scale
	c.LeaderLeaseTimeout = 500 * time.Millisecond * scale
	c.CommitTimeout = 100 * time.Millisecond
	c.SnapshotThreshold = cmp.Or(n.cfg.Snapshots.Threshold, 8192)
	c.SnapshotInterval = cmp.Or(n.cfg.Snapshots.Interval, 15*time.Second)
	// Above the threshold plus what arrives between two checks, so that the
	// previous snapshot, too, has its log.
	c.TrailingLogs = cmp.Or(n.cfg.Snapshots.TrailingLogs, 20480)
	c.ShutdownOnRemove = false // true calls Shutdown inside the leader's loop
	c.NoLegacyTelemetry = true
	c.NotifyCh = n.notify
	c.Logger = n.raftLogger()
	return c
}

func (n *Node) raftLogger() hclog.Logger { return raftLogger(n.log.With("component", "raft")) }

// openRaft starts raft. Its restore of the latest snapshot runs inside.
func (n *Node) openRaft() error {
	cfg := n.raftConfig()
	snapshots, err := n.cfg.Dir.OpenSnapshots(cfg.Logger)
	if err != nil {
		return fmt.Errorf("snapshot store: %w", err)
	}
	if kept, err := snapshots.List(); err != nil {
		return fmt.Errorf("snapshots: %w", err)
	} else if len(kept) == 0 {
		if err := n.finishBootstrap(); err != nil {
			return err
		}
	}
	logs, err := raft.NewLogCache(logCacheEntries, n.raftLog)
	if err != nil {
		return err
	}
	if n.raft, err = raft.NewRaft(cfg, n.fsm, logs, n.raftLog, snapshots, n.net.Transport()); err != nil {
		return fmt.Errorf("start raft: %w", err)
	}
	return nil
}

// errUnanswered: raft had not answered when the caller's time was over.
var errUnanswered = errors.New("raft has not answered yet")

// answerOf waits for raft's answer. A future has no deadline, and raft leaves it
// without an answer at shutdown, so the wait ends with ctx: errUnanswered.
func answerOf(ctx context.Context, future raft.Future) error {
	answer := make(chan error, 1)
	go func() { answer <- future.Error() }() // ends with the process at the latest
	select {
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", errUnanswered, ctx.Err())
	case err := <-answer:
		return err
	}
}
