package cluster

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/lookupd/lookupd/peer"
	"github.com/lookupd/lookupd/peer/peerpb"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
)

// statusWithin bounds a question to another peer.
const statusWithin = 500 * time.Millisecond

// RaftInfo is what raft says on this peer.
type RaftInfo struct {
	IsLeader, HasLeader       bool
	Term                      uint64
	CommitIndex, AppliedIndex uint64
	LastContact               time.Duration // with the leader; 0 on it, -1 s if never
}

// RaftInfo returns it without a question to other peers.
func (n *Node) RaftInfo() RaftInfo {
	leader, _ := n.leader.current()
	r := RaftInfo{
		IsLeader: leader == n.id, HasLeader: leader != "",
		Term: n.raft.CurrentTerm(), CommitIndex: n.raft.CommitIndex(), LastContact: -time.Second,
	}
	r.AppliedIndex, _ = n.fsm.Applied()
	switch contact := n.raft.LastContact(); {
	case r.IsLeader:
		r.LastContact = 0
	case !contact.IsZero():
		r.LastContact = time.Since(contact)
	}
	return r
}

// Sizes are how much this peer keeps, and what gossip sees.
type Sizes struct {
	LogBytes, StateBytes int64
	LastSnapshot         time.Time // zero if there is none
	GossipAlive          int       // peers in gossip, this one included
	GossipAbsent         int       // peers of the configuration that gossip does not see

	ActiveProducers, SuspendedProducers, Tombstones int
}

// Sizes returns them; what cannot be read stays 0. It reads the rows of all
// producers.
func (n *Node) Sizes() (s Sizes) {
	s.LogBytes, _ = n.raftLog.Size()
	s.LastSnapshot, _ = n.cfg.Dir.LastSnapshot()
	_ = n.View(func(v *store.View) error {
		s.StateBytes, s.Tombstones = v.Size(), v.TombstoneCount()
		s.ActiveProducers = v.ActiveProducers()
		s.SuspendedProducers = v.Counts().Producers - s.ActiveProducers
		return nil
	})
	alive := n.gossip.alive()
	absent := n.servers()
	for _, m := range alive {
		delete(absent, m.ID)
	}
	s.GossipAlive, s.GossipAbsent = len(alive), len(absent)
	return s
}

// ownStatus is what this peer tells others of itself.
func (n *Node) ownStatus() *peerpb.StatusResponse {
	r := n.RaftInfo()
	leader, _ := n.leader.current()
	_, voter := n.voters()
	lastTerm, lastIndex := n.lastLog()
	s := &peerpb.StatusResponse{
		NodeId: string(n.id), Name: n.id.Name(), Version: n.cfg.Version, Epoch: n.epoch, ClusterId: n.ClusterID(),
		PeerAddress: n.net.AdvertiseAddr(), HasState: !n.fresh(), Voter: voter, BootstrapExpect: uint32(n.cfg.BootstrapExpect),
		LeaderId: string(leader), Term: r.Term, LastLogIndex: lastIndex, LastLogTerm: lastTerm,
		CommitIndex: r.CommitIndex, AppliedIndex: r.AppliedIndex, UptimeMs: uint64(time.Since(n.started).Milliseconds()),
		LastContactMs: max(r.LastContact.Milliseconds(), -1),
	}
	if groups := n.orphans.Load(); groups != nil {
		for _, g := range *groups {
			s.Orphans = append(s.Orphans, &peerpb.OrphanGroup{NodeId: string(g.Peer), Epoch: g.Epoch, EndsInMs: uint64(g.EndsIn.Milliseconds())})
		}
	}
	for _, m := range n.fsm.HashMarks() {
		s.HashMarks = append(s.HashMarks, &peerpb.HashMark{Index: m.Index, Hash: m.Hash})
	}
	if n.cfg.Sessions != nil {
		n.cfg.Sessions().tell(s)
	}
	s.Contacts = n.contacts.tell(n.id, n.servers())
	s.NonVoter = n.cfg.NonVoter
	if n.cfg.HTTPAddress != nil {
		s.HttpAddress = n.cfg.HTTPAddress()
	}
	if n.cfg.FreeDisk != nil {
		s.FreeDisk = n.cfg.FreeDisk()
	}
	if n.cfg.Security != nil {
		s.Security = n.cfg.Security().wire()
	}
	return s
}

// Status answers another peer's question.
func (h handler) Status(ctx context.Context, _ *peerpb.StatusRequest) *peerpb.StatusResponse {
	n := h.node
	if !n.isOpen() {
		return &peerpb.StatusResponse{NodeId: string(n.id), Name: n.id.Name(), Epoch: n.epoch, HasState: true, LastContactMs: -1}
	}
	s := n.ownStatus()
	s.Removed = n.knowsAsRemoved(peer.From(ctx))
	return s
}

// Status asks all peers how they are and says how the cluster is, as this peer
// sees it. It returns within a second, whatever the others do.
func (n *Node) Status(ctx context.Context) (Status, error) {
	leader, _ := n.leader.current()
	s := Status{
		SeenBy: n.id.Name(), ClusterID: n.ClusterID(), Version: n.cfg.Version, Term: n.raft.CurrentTerm(),
		StatesDifferAt: n.statesDiffer.Load(),
	}
	if leader != "" {
		s.Leader = leader.Name()
	}
	err := n.fsm.View(func(v *store.View) error {
		s.Index, _ = v.Applied()
		s.StateHash = fmt.Sprintf("%016x", v.Hash())
		s.Counts = v.Counts()
		return nil
	})
	if err != nil {
		return s, err
	}
	s.Peers = n.peerStatuses(ctx, leader)
	if err := n.countOrphans(ctx, s.Peers); err != nil {
		return s, err
	}
	n.judge(&s, leader)
	return s, nil
}

func (n *Node) peerStatuses(ctx context.Context, leader registry.NodeID) []PeerStatus {
	roles := map[registry.NodeID]Role{}
	for _, server := range n.raft.GetConfiguration().Configuration().Servers {
		id := registry.NodeID(server.ID)
		switch {
		case id == leader:
			roles[id] = RoleLeader
		case server.Suffrage == raft.Voter:
			roles[id] = RoleVoter
		default:
			roles[id] = RoleNonVoter
		}
	}
	for _, m := range n.gossip.alive() {
		// Who knows the cluster's id was a member: it was removed, and gossip has
		// not forgotten it yet.
		if _, known := roles[m.ID]; !known && m.ClusterID == "" {
			roles[m.ID] = RoleJoining
		}
	}
	answers := n.answering(ctx, slices.Collect(maps.Keys(roles)))
	var head uint64 // the furthest log that answered
	for _, a := range answers {
		head = max(head, a.GetCommitIndex())
	}
	var peers []PeerStatus
	for id, role := range roles {
		peers = append(peers, n.peerStatus(id, role, answers[id], head))
	}
	slices.SortFunc(peers, func(a, b PeerStatus) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	return peers
}

// countOrphans fills in how many sessions of each peer wait for their end.
func (n *Node) countOrphans(ctx context.Context, peers []PeerStatus) error {
	groups := n.Orphans(ctx)
	if len(groups) == 0 {
		return nil
	}
	return n.fsm.View(func(v *store.View) error {
		for _, s := range v.Sessions() {
			for _, g := range groups {
				if !g.Has(s.ID) {
					continue
				}
				for i := range peers {
					if peers[i].ID == g.Peer {
						peers[i].Orphans++
						peers[i].OrphansEndMS = g.EndsIn.Milliseconds()
					}
				}
			}
		}
		return nil
	})
}

func (n *Node) peerStatus(id registry.NodeID, role Role, answer *peerpb.StatusResponse, head uint64) PeerStatus {
	p := PeerStatus{
		Name: id.Name(), ID: id, Role: role, Health: HealthOK, LastContactMS: n.contacts.age(id),
		Contacts: []PeerContact{}, Shared: []SharedAddress{},
	}
	if answer == nil {
		p.Health, p.Error = HealthDown, "does not answer on its peer port"
		p.Address, _ = n.resolve(id)
		return p
	}
	p.LastContactMS, p.Address, p.Version, p.Sessions = 0, answer.PeerAddress, answer.Version, int(answer.Sessions)
	p.HTTPAddress, p.NonVoter, p.FreeDisk, p.Security = answer.HttpAddress, answer.NonVoter, answer.FreeDisk, securityOf(answer.Security)
	p.UptimeMS, p.Contacts = int64(answer.UptimeMs), contactsOf(answer.Contacts)
	p.Pending, p.PendingMS, p.Shared = int(answer.DeclaredPending), int64(answer.PendingMs), sharedOf(answer.SharedAddresses)
	if head > answer.AppliedIndex {
		p.Lag = head - answer.AppliedIndex
	}
	return p
}

// judge fills in state, tolerance and sentence.
func (n *Node) judge(s *Status, leader registry.NodeID) {
	voters, votersUp, up := 0, 0, 0
	var down []string
	for _, p := range s.Peers {
		if p.Health == HealthOK {
			up++
		} else {
			down = append(down, p.Name)
		}
		if p.Role == RoleVoter || p.Role == RoleLeader {
			voters++
			if p.Health == HealthOK {
				votersUp++
			}
		}
	}
	can := newVoters(voters, votersUp)
	s.Tolerance = can.CanLose
	peersUp := fmt.Sprintf("%d of %d peers up", up, len(s.Peers))
	switch _, since := n.leader.current(); {
	case n.fresh():
		s.State = StateStarting
		s.Sentence = fmt.Sprintf("Starting. Waiting for a cluster: %s.", n.waitingFor())
	case leader == "" && n.Ready() != nil && time.Since(n.started) < 10*time.Second:
		s.State = StateStarting
		s.Sentence = fmt.Sprintf("Starting. Waiting for a leader; %s.", peersUp)
	case leader == "" || !can.haveQuorum():
		s.State = StateNoQuorum
		s.Sentence = fmt.Sprintf("No quorum for %s. %s; lookups answer 503, nsqds stay connected.", time.Since(since).Round(time.Second), peersUp)
	case len(down) > 0:
		s.State = StateDegraded
		s.Sentence = fmt.Sprintf("Degraded. %s (down: %s); %s.", peersUp, strings.Join(down, ", "), canLose(s.Tolerance))
	default:
		s.State = StateHealthy
		s.Sentence = fmt.Sprintf("Healthy. %s; %s.", peersUp, canLose(s.Tolerance))
	}
}

func canLose(tolerance int) string {
	if tolerance == 0 {
		return "cannot lose another"
	}
	return fmt.Sprintf("can lose %d", tolerance)
}

// contacts notes when a peer last answered this one.
type contacts struct {
	mu   sync.Mutex
	last map[registry.NodeID]time.Time
}

func (c *contacts) seen(id registry.NodeID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last == nil {
		c.last = map[registry.NodeID]time.Time{}
	}
	c.last[id] = time.Now()
}

func (c *contacts) age(id registry.NodeID) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if last, ok := c.last[id]; ok {
		return time.Since(last).Milliseconds()
	}
	return -1
}

// tell returns when each of the cluster's peers last answered this one, which is
// its own first contact.
func (c *contacts) tell(own registry.NodeID, of map[registry.NodeID]bool) []*peerpb.Contact {
	c.mu.Lock()
	defer c.mu.Unlock()
	told := []*peerpb.Contact{{NodeId: string(own)}}
	for id, last := range c.last {
		if of[id] && id != own {
			told = append(told, &peerpb.Contact{NodeId: string(id), AgeMs: uint64(time.Since(last).Milliseconds())})
		}
	}
	return told
}
