package cluster

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	autopilot "github.com/hashicorp/raft-autopilot"

	"github.com/lookupd/lookupd/peer/peerpb"
	"github.com/lookupd/lookupd/registry"
)

// stabilization is how long a new peer must have kept up before it votes.
const stabilization = 10 * time.Second

// promoter is raft-autopilot's delegate. Autopilot only promotes here: it never
// removes a server, since a configuration that shrinks by itself loses its
// quorum in a rolling restart (hashicorp/consul #5922, #8118).
type promoter struct {
	*autopilot.StablePromoter
	node *Node
}

func (n *Node) newAutopilot() *autopilot.Autopilot {
	p := promoter{node: n}
	return autopilot.New(n.raft, p,
		autopilot.WithLogger(raftLogger(n.log.With("component", "autopilot"))),
		autopilot.WithPromoter(p))
}

// AutopilotConfig implements autopilot.ApplicationIntegration.
func (p promoter) AutopilotConfig() *autopilot.Config {
	return &autopilot.Config{
		CleanupDeadServers:      false,
		LastContactThreshold:    time.Second,
		MaxTrailingLogs:         256,
		MinQuorum:               uint(max(p.node.cfg.BootstrapExpect, 0)),
		ServerStabilizationTime: stabilization,
	}
}

// NotifyState implements autopilot.ApplicationIntegration.
func (p promoter) NotifyState(*autopilot.State) {}

// RemoveFailedServer implements autopilot.ApplicationIntegration; it is never
// called, since CleanupDeadServers is off.
func (p promoter) RemoveFailedServer(*autopilot.Server) {}

// KnownServers returns every server of the configuration. One that gossip does
// not see is reported as failed, never left out: autopilot would call it stale.
func (p promoter) KnownServers() map[raft.ServerID]*autopilot.Server {
	leader, _ := p.node.leader.current()
	known := map[raft.ServerID]*autopilot.Server{}
	for _, s := range p.node.raft.GetConfiguration().Configuration().Servers {
		id := registry.NodeID(s.ID)
		server := &autopilot.Server{
			ID: s.ID, Name: id.Name(), Address: s.Address, RaftVersion: int(raft.ProtocolVersionMax),
			IsLeader: id == leader, NodeStatus: autopilot.NodeFailed, NodeType: autopilot.NodeVoter,
		}
		if m, ok := p.node.gossip.find(id); ok {
			server.NodeStatus = autopilot.NodeAlive
			if m.NonVoter {
				server.Meta = map[string]string{neverPromote: "true"}
			}
		}
		known[s.ID] = server
	}
	return known
}

const neverPromote = "non-voter"

// CalculatePromotionsAndDemotions leaves out who was started with -non-voter.
func (p promoter) CalculatePromotionsAndDemotions(c *autopilot.Config, s *autopilot.State) autopilot.RaftChanges {
	changes := p.StablePromoter.CalculatePromotionsAndDemotions(c, s)
	var promotions []raft.ServerID
	for _, id := range changes.Promotions {
		if server := s.Servers[id]; server != nil && server.Server.Meta[neverPromote] == "" {
			p.node.log.Info("peer becomes a voter", "peer", id)
			promotions = append(promotions, id)
		}
	}
	changes.Promotions = promotions
	return changes
}

// FetchServerStats asks each server how far its log is.
func (p promoter) FetchServerStats(ctx context.Context, servers map[raft.ServerID]*autopilot.Server) map[raft.ServerID]*autopilot.ServerStats {
	stats := map[raft.ServerID]*autopilot.ServerStats{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for id := range servers {
		all.Go(func() {
			answer := p.node.askStatus(ctx, registry.NodeID(id))
			if answer == nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			stats[id] = &autopilot.ServerStats{
				LastContact: time.Duration(answer.LastContactMs) * time.Millisecond,
				LastTerm:    answer.LastLogTerm, LastIndex: answer.LastLogIndex,
			}
		})
	}
	all.Wait()
	return stats
}

// askStatus returns what a peer, maybe this one, says of itself, or nil.
func (n *Node) askStatus(ctx context.Context, id registry.NodeID) *peerpb.StatusResponse {
	if id == n.id {
		return n.ownStatus()
	}
	ctx, cancel := context.WithTimeout(ctx, statusWithin)
	defer cancel()
	answer, err := n.net.Status(ctx, id, &peerpb.StatusRequest{})
	if err != nil {
		n.log.Debug("no status", "peer", id, "err", err)
		return nil
	}
	return answer
}

var _ autopilot.ApplicationIntegration = promoter{}
