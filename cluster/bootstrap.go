package cluster

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"github.com/lookupd/lookupd/peer"
	"github.com/lookupd/lookupd/peer/peerpb"
	"github.com/lookupd/lookupd/registry"
)

const (
	formEvery   = 500 * time.Millisecond
	askWithin   = 2 * time.Second
	joinWithin  = 10 * time.Second
	remindEvery = 10 * time.Second
)

// fresh reports whether this peer belongs to no cluster yet.
func (n *Node) fresh() bool { return n.ClusterID() == "" }

// form brings a fresh peer into a cluster: it joins one that it sees, or, with
// bootstrap-expect, founds one with exactly the fresh peers that it sees. It
// returns when the peer has a cluster id on disk.
func (n *Node) form(ctx context.Context) {
	var said string
	var saidAt time.Time
	for n.fresh() {
		waiting, err := n.tryForm(ctx)
		if err != nil {
			waiting = err.Error()
		}
		if waiting != "" && (waiting != said || time.Since(saidAt) > remindEvery) {
			n.log.Info("waiting for a cluster", "state", waiting)
			said, saidAt = waiting, time.Now()
		}
		n.setWaiting(waiting)
		select {
		case <-ctx.Done():
			return
		case <-time.After(formEvery):
		}
	}
	n.setWaiting("")
	n.gossip.announce()
}

// tryForm makes one attempt and says what it waits for.
func (n *Node) tryForm(ctx context.Context) (waiting string, err error) {
	if n.cfg.alone() {
		return "", n.found([]registry.NodeID{n.id})
	}
	var candidates []registry.NodeID
	var others []string // fresh ones that do not count
	var refusals []error
	for _, m := range n.gossip.alive() {
		if m.ClusterID != "" {
			err := n.join(ctx, m)
			if err == nil {
				return "", nil
			}
			refusals = append(refusals, err)
			continue
		}
		if m.Expect == n.cfg.BootstrapExpect {
			candidates = append(candidates, m.ID)
		} else {
			others = append(others, fmt.Sprintf("%s has -bootstrap-expect=%d", m.ID.Name(), m.Expect))
		}
	}
	if len(refusals) > 0 {
		return "", errors.Join(refusals...)
	}
	expect := n.cfg.BootstrapExpect
	switch {
	case expect == 0:
		return fmt.Sprintf("no member of a cluster answers at -join=%s", strings.Join(n.cfg.Join, ",")), nil
	case len(candidates) != expect:
		have := fmt.Sprintf("have %d of %d peers: %s", len(candidates), expect, names(candidates))
		return strings.Join(append([]string{have}, others...), "; "), nil
	case sameName(candidates) != "":
		return fmt.Sprintf("two peers are named %s: give one of them another -node-name, and an empty -data-path", sameName(candidates)), nil
	case candidates[0] != n.id:
		return fmt.Sprintf("%s founds the cluster of %s", candidates[0].Name(), names(candidates)), nil
	}
	// From the first question on nobody else may found one with this peer.
	n.founding.Store(true)
	defer n.founding.Store(false)
	for _, id := range candidates[1:] {
		if err := n.ask(ctx, id, candidates); err != nil {
			return "", fmt.Errorf("%s does not agree: %w", id.Name(), err)
		}
	}
	return "", n.found(candidates)
}

// ask makes sure that a candidate is fresh, expects as many and sees the same set.
func (n *Node) ask(ctx context.Context, id registry.NodeID, candidates []registry.NodeID) error {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	answer, err := n.net.Agree(ctx, id, &peerpb.AgreeRequest{Expect: uint32(n.cfg.BootstrapExpect)})
	switch {
	case err != nil:
		return err
	case answer.Code != peerpb.Code_CODE_OK:
		return fmt.Errorf("%v", answer.Code)
	case answer.NodeId != string(id):
		return fmt.Errorf("%s answers in its place", answer.NodeId)
	case answer.HasState:
		return errors.New("it has state")
	case int(answer.Expect) != n.cfg.BootstrapExpect:
		return fmt.Errorf("it expects %d peers", answer.Expect)
	case !slices.EqualFunc(answer.NodeIds, candidates, func(a string, b registry.NodeID) bool { return a == string(b) }):
		return fmt.Errorf("it sees %s", strings.Join(answer.NodeIds, ", "))
	}
	return nil
}

// Agree tells the founder which fresh peers this one sees.
func (h handler) Agree(context.Context, *peerpb.AgreeRequest) *peerpb.AgreeResponse {
	n := h.node
	answer := &peerpb.AgreeResponse{
		Code: peerpb.Code_CODE_OK, NodeId: string(n.id), Expect: uint32(n.cfg.BootstrapExpect),
		HasState: !n.fresh() || n.founding.Load(),
	}
	if !n.isOpen() {
		answer.Code = peerpb.Code_CODE_NOT_READY
		return answer
	}
	for _, m := range n.gossip.alive() {
		if m.ClusterID == "" && m.Expect == n.cfg.BootstrapExpect {
			answer.NodeIds = append(answer.NodeIds, string(m.ID))
		}
	}
	return answer
}

// found draws the cluster id and makes the first configuration. Identity and
// founders are stored first, in one write, so that a crash in between is
// repaired at the next start. The other founders learn the cluster id when they
// ask to join; until then they take no raft byte.
func (n *Node) found(founders []registry.NodeID) error {
	var id [16]byte
	rand.Read(id[:]) // never fails
	if err := n.setCluster(hex.EncodeToString(id[:]), founders); err != nil {
		return err
	}
	n.log.Info("founding a cluster", "cluster", n.ClusterID(), "peers", names(founders))
	return n.bootstrap(founders)
}

func (n *Node) bootstrap(founders []registry.NodeID) error {
	if err := n.raft.BootstrapCluster(firstConfiguration(founders)).Error(); err != nil && !errors.Is(err, raft.ErrCantBootstrap) {
		return fmt.Errorf("bootstrap: %w", err)
	}
	return nil
}

func firstConfiguration(founders []registry.NodeID) (c raft.Configuration) {
	for _, id := range founders {
		c.Servers = append(c.Servers, raft.Server{ID: raft.ServerID(id), Address: raft.ServerAddress(id)})
	}
	return c
}

// finishBootstrap does, before raft starts, what the process may have ended in
// the middle of: raft's own bootstrap stores the term and then the first entry,
// and refuses to begin again once the term is there. Nobody else can hold an
// entry of this cluster before its founder does.
func (n *Node) finishBootstrap() error {
	_, index, err := n.raftLog.LastTermIndex()
	if err != nil || index > 0 || len(n.identity.Founders) == 0 {
		return err
	}
	if err := n.raftLog.SetUint64([]byte("CurrentTerm"), 1); err != nil {
		return err
	}
	n.log.Info("founding is finished after a restart", "cluster", n.ClusterID(), "peers", names(n.identity.Founders))
	return n.raftLog.StoreLog(&raft.Log{
		Index: 1, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(firstConfiguration(n.identity.Founders)),
	})
}

// join asks a member of a cluster, and the leader that it names, to take this
// peer in.
func (n *Node) join(ctx context.Context, m member) error {
	ctx, cancel := context.WithTimeout(ctx, joinWithin)
	defer cancel()
	req := &peerpb.JoinRequest{NodeId: string(n.id), PeerAddress: n.net.AdvertiseAddr(), NonVoter: n.cfg.NonVoter}
	answer, err := n.net.JoinAt(ctx, m.Address, req)
	if err == nil && answer.Code == peerpb.Code_CODE_NOT_LEADER && answer.LeaderAddress != "" {
		answer, err = n.net.JoinAt(ctx, answer.LeaderAddress, req)
	}
	switch {
	case err != nil:
		return fmt.Errorf("join at %s: %w", m.Address, err)
	case answer.Code == peerpb.Code_CODE_NOT_LEADER:
		return fmt.Errorf("%s knows no leader that could take this peer in", m.ID.Name())
	case answer.Code != peerpb.Code_CODE_OK || answer.ClusterId == "":
		return fmt.Errorf("%s: %v", m.ID.Name(), answer.Code)
	}
	n.log.Info("joined", "cluster", answer.ClusterId, "through", m.ID.Name())
	return n.setCluster(answer.ClusterId, nil)
}

// Join takes a peer into the configuration, as a non-voter; autopilot makes it
// a voter when it has caught up and stayed stable. Who is in it already only
// learns the cluster id, from any member.
func (h handler) Join(ctx context.Context, req *peerpb.JoinRequest) *peerpb.JoinResponse {
	n := h.node
	id := peer.From(ctx)
	leader, _ := n.leader.current()
	answer := &peerpb.JoinResponse{Code: peerpb.Code_CODE_OK, ClusterId: n.ClusterID(), LeaderId: string(leader)}
	if n.fresh() || !n.isOpen() {
		answer.Code = peerpb.Code_CODE_NOT_READY
		return answer
	}
	servers := n.raft.GetConfiguration().Configuration().Servers
	if slices.ContainsFunc(servers, func(s raft.Server) bool { return s.ID == raft.ServerID(id) }) {
		return answer
	}
	answer.ClusterId = ""
	if n.raft.State() != raft.Leader {
		answer.Code = peerpb.Code_CODE_NOT_LEADER
		if leader != "" {
			answer.LeaderAddress, _ = n.resolve(leader)
		}
		return answer
	}
	if err := n.takeIn(ctx, id); err != nil {
		n.log.Warn("peer cannot join", "peer", id, "address", req.PeerAddress, "err", err)
		answer.Code = peerpb.Code_CODE_UNAVAILABLE
		return answer
	}
	answer.ClusterId = n.ClusterID()
	return answer
}

// takeIn adds a non-voter. A peer that lost its disk comes back under its name
// with a new id: the dead id of that name goes first, so that promoting the new
// one does not raise the number of voters.
func (n *Node) takeIn(ctx context.Context, id registry.NodeID) error {
	unlock, err := n.lockConfiguration(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	servers := n.raft.GetConfiguration().Configuration().Servers
	for _, s := range servers {
		old := registry.NodeID(s.ID)
		if old.Name() != id.Name() {
			continue
		}
		if err := n.isGone(ctx, old); err != nil {
			return err
		}
		n.log.Info("peer replaced", "name", id.Name(), "old", old, "new", id)
		_, err := n.reconfigure(ctx, func(prev uint64) raft.IndexFuture { return n.raft.RemoveServer(s.ID, prev, changeWithin) })
		if err != nil {
			return fmt.Errorf("remove %s: %w", old, err)
		}
		n.net.CloseConnections(old)
	}
	_, err = n.reconfigure(ctx, func(prev uint64) raft.IndexFuture {
		return n.raft.AddNonvoter(raft.ServerID(id), raft.ServerAddress(id), prev, changeWithin)
	})
	if err != nil {
		return fmt.Errorf("add %s: %w", id, err)
	}
	n.log.Info("peer taken in", "peer", id)
	return nil
}

// isGone returns nil if surely no process runs as id: nothing listens where it
// was, or another peer does. This peer, which leads, need not be able to dial
// itself.
func (n *Node) isGone(ctx context.Context, id registry.NodeID) error {
	if id == n.id {
		return fmt.Errorf("%s, of the same name, leads: give one of the two another -node-name", id)
	}
	ctx, cancel := context.WithTimeout(ctx, askWithin) // longer than an attempt to connect
	defer cancel()
	_, err := n.net.Status(ctx, id, &peerpb.StatusRequest{})
	switch {
	case err == nil:
		return fmt.Errorf("%s, of the same name, is alive: give one of the two another -node-name", id)
	case ctx.Err() != nil, !errors.Is(err, peer.ErrUnreachable), refused(err):
		return fmt.Errorf("%s, of the same name, may be alive: %w", id, err)
	}
	return nil
}

// refused reports whether it was the peer itself that refused to be dialled.
func refused(err error) bool {
	return slices.ContainsFunc([]error{
		peer.ErrHandshake, peer.ErrCertificate, peer.ErrForeignCluster, peer.ErrOldEpoch, peer.ErrDuplicateID, peer.ErrBusy,
		peer.ErrRemoved, peer.ErrNoCluster, peer.ErrProtocolVersion, peer.ErrClosed,
	}, func(refusal error) bool { return errors.Is(err, refusal) })
}

// sameName returns a name that two of ids have, or "".
func sameName(ids []registry.NodeID) string {
	seen := map[string]bool{}
	for _, id := range ids {
		if seen[id.Name()] {
			return id.Name()
		}
		seen[id.Name()] = true
	}
	return ""
}

func names(ids []registry.NodeID) string {
	var out []string
	for _, id := range ids {
		out = append(out, id.Name())
	}
	return strings.Join(out, ", ")
}
