package cluster

import (
	"context"
	"errors"
	"time"

	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
)

// endTombstones ends each tombstone when TombstoneLifetime has passed since
// this leader first saw it, on its monotonic clock. A new leader counts anew;
// that can only lengthen one.
func (n *Node) endTombstones(ctx context.Context) {
	due := map[registry.EndTombstone]time.Time{}
	cursor, known := uint64(0), false
	for ctx.Err() == nil {
		changes, ok := n.fsm.Feed().Since(cursor)
		if !known || !ok { // the feed does not reach back: look at the whole state
			if cursor, known = n.scanTombstones(due); !known {
				n.leader.pause(ctx, time.Second)
			}
			continue
		}
		now := time.Now()
		for _, change := range changes {
			cursor = change.Index
			for _, e := range change.Events {
				if e.Kind == registry.TombstoneSet {
					due[registry.EndTombstone{Topic: e.Topic, Producer: e.Producer, SetAt: change.Index}] = now.Add(n.cfg.TombstoneLifetime)
				}
			}
		}
		next := n.endDue(ctx, due)
		wait, cancel := context.WithDeadline(ctx, next)
		err := n.fsm.Feed().Wait(wait, cursor)
		cancel()
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return
		}
	}
}

// scanTombstones notes every tombstone of the state, from now on where it is
// new, and returns the index of that state, or false after an error.
func (n *Node) scanTombstones(due map[registry.EndTombstone]time.Time) (index uint64, ok bool) {
	end := time.Now().Add(n.cfg.TombstoneLifetime)
	err := n.fsm.View(func(v *store.View) error {
		index, _ = v.Applied()
		for _, found := range v.Tombstones() {
			t := registry.EndTombstone(found)
			if _, counted := due[t]; !counted {
				due[t] = end
			}
		}
		return nil
	})
	if err != nil {
		n.log.Error("tombstones cannot be read", "err", err)
	}
	return index, err == nil
}

// endDue ends what is due and returns when to look again. A tombstone that was
// set again, or went with its registration, is not ended by the command.
func (n *Node) endDue(ctx context.Context, due map[registry.EndTombstone]time.Time) (next time.Time) {
	now := time.Now()
	next = now.Add(time.Minute)
	var ended []registry.Command
	for t, end := range due {
		switch {
		case end.After(now):
			if end.Before(next) {
				next = end
			}
		case len(ended) < MaxProposalCommands:
			ended = append(ended, t)
			delete(due, t)
		default:
			next = now
		}
	}
	if len(ended) > 0 {
		if _, err := n.Submit(ctx, ended...); err != nil {
			n.log.Warn("tombstones cannot be ended", "err", err)
		}
	}
	return next
}
