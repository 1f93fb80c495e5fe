package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lookupd/lookupd/peer"
	"github.com/lookupd/lookupd/peer/peerpb"
	"github.com/lookupd/lookupd/registry"
)

const (
	askWhetherRemovedEvery = time.Second
	// leaderlessBefore is how long this peer must have been without a leader to
	// ask: an election is shorter.
	leaderlessBefore = 2 * time.Second
)

// watchRemoval ends the process once this peer was removed from its cluster.
// Nobody tells it reliably: a follower may never get the entry that removes it,
// and may get one that is never committed. So a peer without a leader asks the
// other voters. If a majority of them has a configuration without it, the
// removal is committed: the new configuration has the same voters without this
// peer.
func (n *Node) watchRemoval(ctx context.Context) {
	ticker := time.NewTicker(askWhetherRemovedEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if n.NoQuorumSince() < leaderlessBefore {
			continue
		}
		voters, _ := n.voters()
		if removed, by := n.askWhetherRemoved(ctx, voters); removed {
			n.fatal(fmt.Errorf("%w, as %s say", ErrRemoved, names(by)))
			return
		}
	}
}

// askWhetherRemoved asks all voters but this peer.
func (n *Node) askWhetherRemoved(ctx context.Context, voters []registry.NodeID) (removed bool, by []registry.NodeID) {
	answers := make(chan registry.NodeID, len(voters))
	others := 0
	for _, id := range voters {
		if id == n.id {
			continue
		}
		others++
		go func() {
			ctx, cancel := context.WithTimeout(ctx, statusWithin)
			defer cancel()
			answer, err := n.net.Status(ctx, id, &peerpb.StatusRequest{})
			if errors.Is(err, peer.ErrRemoved) || err == nil && answer.Removed {
				answers <- id
				return
			}
			answers <- ""
		}()
	}
	for range others {
		if id := <-answers; id != "" {
			by = append(by, id)
		}
	}
	return others > 0 && len(by) >= quorumOf(others), by
}

// knowsAsRemoved reports whether a peer of this cluster is in no configuration
// that this one knows. Whoever follows no leader cannot say.
func (n *Node) knowsAsRemoved(id registry.NodeID) bool {
	servers := n.servers()
	return id != "" && !n.fresh() && n.HasLeader() && len(servers) > 0 && !servers[id]
}
