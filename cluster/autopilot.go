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

const (
	// stabilization is how long a new peer must have kept up before it votes.
	stabilization        = 10 * time.Second
	lastContactThreshold = time.Second // since a healthy peer last heard the leader
	maxTrailingLogs      = 256         // that a healthy peer lacks
)

// promoter is raft-autopilot's delegate. Unless Config.CleanupDeadPeers is on,
// autopilot only promotes here: a configuration that shrinks by itself loses its
// quorum in a rolling restart (hashicorp/consul #5922, #8118).
type promoter struct {
	*autopilot.StablePromoter
	node  *Node
	ctx   context.Context // of the term
	began time.Time       // the term, here
}

func (n *Node) newAutopilot(ctx context.Context) *autopilot.Autopilot {
	p := promoter{node: n, ctx: ctx, began: time.Now()}
	return autopilot.New(pilotRaft{n.raft, n, ctx}, p,
		autopilot.WithLogger(raftLogger(n.log.With("component", "autopilot"))),
		autopilot.WithPromoter(p))
}

// pilotRaft is raft for autopilot, whose changes have neither a time-out nor an
// index of what they are meant for: it may promote whom an operator has just
// removed.
type pilotRaft struct {
	*raft.Raft
	node *Node
	ctx  context.Context // of the term
}

// AddVoter implements autopilot.Raft. It returns when the change is committed.
func (r pilotRaft) AddVoter(id raft.ServerID, address raft.ServerAddress, _ uint64, _ time.Duration) raft.IndexFuture {
	var f changed
	f.index, f.err = r.node.promote(r.ctx, id, address)
	return f
}

// changed is the raft.IndexFuture of a change that has ended.
type changed struct {
	index uint64
	err   error
}

func (f changed) Error() error  { return f.err }
func (f changed) Index() uint64 { return f.index }

var _ autopilot.Raft = pilotRaft{}

// AutopilotConfig implements autopilot.ApplicationIntegration.
func (p promoter) AutopilotConfig() *autopilot.Config {
	return &autopilot.Config{
		CleanupDeadServers:      p.node.cfg.CleanupDeadPeers,
		LastContactThreshold:    lastContactThreshold,
		MaxTrailingLogs:         maxTrailingLogs,
		MinQuorum:               uint(max(p.node.cfg.BootstrapExpect, 0)),
		ServerStabilizationTime: stabilization,
	}
}

// NotifyState implements autopilot.ApplicationIntegration.
func (p promoter) NotifyState(*autopilot.State) {}

// RemoveFailedServer implements autopilot.ApplicationIntegration. Autopilot asks
// for it again and again while gossip calls a server dead and more than MinQuorum
// would stay. That is gossip's word: this leader must have missed it too, for as
// long as sessions of a lost peer stay.
func (p promoter) RemoveFailedServer(s *autopilot.Server) {
	id := registry.NodeID(s.ID)
	silent := time.Since(p.began)
	if age := p.node.contacts.age(id); age >= 0 {
		silent = min(silent, time.Duration(age)*time.Millisecond)
	}
	if silent < p.node.cfg.InactiveTimeout {
		return
	}
	p.node.loops.Go(func() { // the loop that leads goes on until autopilot has stopped
		ctx, cancel := context.WithTimeout(p.ctx, changeWithin)
		defer cancel()
		p.node.log.Warn("a peer that is dead for long is removed (-cleanup-dead-peers)", "peer", id, "silent", silent)
		handler{p.node}.Remove(ctx, &peerpb.RemoveRequest{NodeId: string(id)})
	})
}

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
	var ids []registry.NodeID
	for id := range servers {
		ids = append(ids, registry.NodeID(id))
	}
	stats := map[raft.ServerID]*autopilot.ServerStats{}
	for id, answer := range p.node.answering(ctx, ids) {
		stats[raft.ServerID(id)] = &autopilot.ServerStats{
			LastContact: time.Duration(answer.LastContactMs) * time.Millisecond,
			LastTerm:    answer.LastLogTerm, LastIndex: answer.LastLogIndex,
		}
	}
	return stats
}

// answering asks peers, maybe this one, for their status, all at once, and
// returns those that answer.
func (n *Node) answering(ctx context.Context, ids []registry.NodeID) map[registry.NodeID]*peerpb.StatusResponse {
	up := map[registry.NodeID]*peerpb.StatusResponse{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, id := range ids {
		all.Go(func() {
			if answer := n.askStatus(ctx, id); answer != nil {
				mu.Lock()
				defer mu.Unlock()
				up[id] = answer
			}
		})
	}
	all.Wait()
	return up
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
	n.contacts.seen(id)
	return answer
}

var _ autopilot.ApplicationIntegration = promoter{}
