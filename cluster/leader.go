package cluster

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/lookupd/lookupd/registry"
)

// leaderWatch knows who leads, as raft on this peer sees it, and wakes those
// who wait for a change.
type leaderWatch struct {
	mu    sync.Mutex
	id    registry.NodeID // "" if there is none
	since time.Time       // of id
	reign context.Context // ends when id changes
	end   context.CancelFunc
}

func newLeaderWatch() *leaderWatch {
	l := &leaderWatch{since: time.Now()}
	l.reign, l.end = context.WithCancel(context.Background())
	return l
}

func (l *leaderWatch) set(id registry.NodeID) (was registry.NodeID, changed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if id == l.id {
		return id, false
	}
	was, l.id, l.since = l.id, id, time.Now()
	l.end()
	l.reign, l.end = context.WithCancel(context.Background())
	return was, true
}

// watch returns the leader, or "", and a context that ends when that changes.
func (l *leaderWatch) watch() (registry.NodeID, context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.id, l.reign
}

func (l *leaderWatch) current() (id registry.NodeID, since time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.id, l.since
}

// wait blocks until there is a leader; false means that ctx ended first.
func (l *leaderWatch) wait(ctx context.Context) bool {
	for {
		id, reign := l.watch()
		if id != "" {
			return ctx.Err() == nil
		}
		select {
		case <-ctx.Done():
			return false
		case <-reign.Done():
		}
	}
}

// pause waits until the leader changes, d has passed or ctx ends.
func (l *leaderWatch) pause(ctx context.Context, d time.Duration) {
	_, reign := l.watch()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-reign.Done():
	case <-timer.C:
	}
}

// followLeader keeps n.leader in step with raft. The observer's channel only
// says that something changed: raft is asked what it is now, so that a
// notification that was dropped or came late does no harm.
func (n *Node) followLeader(ctx context.Context) {
	changes := make(chan raft.Observation, 16)
	observer := raft.NewObserver(changes, false, func(o *raft.Observation) bool {
		switch o.Data.(type) {
		case raft.LeaderObservation, raft.RaftState:
			return true
		}
		return false
	})
	n.raft.RegisterObserver(observer)
	defer n.raft.DeregisterObserver(observer)
	ticker := time.NewTicker(250 * time.Millisecond)
	defer ticker.Stop()
	for {
		_, id := n.raft.LeaderWithID()
		if was, changed := n.leader.set(registry.NodeID(id)); changed {
			n.metrics.leaderChanged()
			n.log.Info("leader changed", "from", nameOrNone(was), "to", nameOrNone(registry.NodeID(id)), "term", n.raft.CurrentTerm())
		}
		select {
		case <-ctx.Done():
			return
		case <-changes:
		case <-ticker.C:
		}
	}
}

func nameOrNone(id registry.NodeID) string {
	if id == "" {
		return "none"
	}
	return id.Name()
}
