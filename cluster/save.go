package cluster

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/hashicorp/raft"

	"github.com/lookupd/lookupd/store"
)

const (
	saveCheckEvery = 5 * time.Second
	// A restart applies what is not in a snapshot again, some 10 us per command.
	mostUnsaved  = 100_000
	unsavedShare = 8 // of the registrations, an eighth, if that is more: a snapshot holds them all
	// Where nothing happens, a snapshot disturbs nobody.
	quietUnsaved = 10_000
)

// saveLargeLogs takes a snapshot when the log holds many commands. Raft counts
// entries alone, and on a busy cluster one entry holds thousands.
func (n *Node) saveLargeLogs(ctx context.Context) {
	ticker := time.NewTicker(cmp.Or(n.cfg.Snapshots.Interval, saveCheckEvery))
	defer ticker.Stop()
	for before := 0; ; before = n.fsm.Unsaved() {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := n.fsm.Unsaved()
		quiet := now == before && now >= quietUnsaved
		if quiet || n.unsavedIsMuch() {
			n.saveNow(ctx)
		}
	}
}

func (n *Node) unsavedIsMuch() bool {
	registrations := 0
	err := n.fsm.View(func(v *store.View) error {
		registrations = v.Counts().Registrations
		return nil
	})
	return err == nil && n.fsm.Unsaved() >= max(cmp.Or(n.cfg.Snapshots.Commands, mostUnsaved), registrations/unsavedShare)
}

// saveNow waits for the snapshot, or until ctx ends.
func (n *Node) saveNow(ctx context.Context) {
	switch err := answerOf(ctx, n.raft.Snapshot()); {
	case err == nil, errors.Is(err, errUnanswered), errors.Is(err, raft.ErrNothingNewToSnapshot):
	default:
		n.log.Warn("a snapshot failed; until one succeeds the log grows, and a restart takes longer", "err", err)
	}
}
