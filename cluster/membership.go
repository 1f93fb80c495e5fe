package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/lookupd/lookupd/peer"
	"github.com/lookupd/lookupd/peer/peerpb"
	"github.com/lookupd/lookupd/registry"
)

const (
	// changeWithin bounds one change of the configuration, from the queue to its
	// commit; raft itself bounds only the first.
	changeWithin = 10 * time.Second
	// askAgain is the pause before a request goes to a leader again.
	askAgain = 50 * time.Millisecond
)

// Voters counts those who vote, and what they can bear.
type Voters struct {
	Voters  int `json:"voters"`
	Up      int `json:"up"`       // answer the leader
	CanLose int `json:"can_lose"` // may still fail
}

func newVoters(all, up int) Voters {
	return Voters{Voters: all, Up: up, CanLose: max(up-quorumOf(all), 0)}
}

func quorumOf(voters int) int { return voters/2 + 1 }

func (v Voters) haveQuorum() bool { return v.Up >= quorumOf(v.Voters) }

// Removal is what the removal of a peer did, or would do.
type Removal struct {
	Sentence     string          `json:"sentence"`
	Name         string          `json:"name"`
	ID           registry.NodeID `json:"id"`
	Before       Voters          `json:"before"`
	After        Voters          `json:"after"`
	HasQuorum    bool            `json:"has_quorum"`               // the rest; false needs force
	DryRun       bool            `json:"dry_run"`                  // nothing was changed
	HandedOverTo string          `json:"handed_over_to,omitempty"` // it led: who leads now
	Index        uint64          `json:"index,omitempty"`          // of the new configuration
}

// RemoveHow says how RemovePeer goes about it.
type RemoveHow struct {
	DryRun bool
	Force  bool // although the rest would have no quorum
}

// RemovePeer takes a peer, given by name or id, out of the configuration for
// good: its id never comes back. It returns once that is committed, or when ctx
// ends. A leader hands over first. Errors: ErrUnknownPeer, ErrAmbiguousName,
// ErrWouldLoseQuorum unless forced, ErrLastVoter, ErrNoSuccessor, ErrOldLeader,
// ErrNoQuorum; with the last one it may have been done.
func (n *Node) RemovePeer(ctx context.Context, name string, how RemoveHow) (Removal, error) {
	id, err := n.peerNamed(name)
	if err != nil {
		return Removal{}, err
	}
	r := Removal{Name: id.Name(), ID: id, DryRun: how.DryRun}
	request := &peerpb.RemoveRequest{NodeId: string(id), Force: how.Force, DryRun: true}
	answer, err := n.askRemove(ctx, request)
	r.take(answer)
	if err != nil || how.DryRun {
		return r, err
	}
	request.DryRun = false
	for {
		answer, err = n.askRemove(ctx, request)
		if answer.GetCode() != peerpb.Code_CODE_LEADS {
			break
		}
		handOver, err := n.TransferLeadership(ctx, TransferHow{})
		if err != nil {
			return r, err
		}
		r.HandedOverTo = handOver.New
	}
	if errors.Is(err, ErrUnknownPeer) { // an attempt before, whose answer was lost, did it
		return r, nil
	}
	if err != nil {
		return r, err
	}
	r.take(answer)
	return r, nil
}

// take notes what the leader counted. An answer that did not come to that
// leaves what was known.
func (r *Removal) take(answer *peerpb.RemoveResponse) {
	if answer.GetBefore() == nil {
		return
	}
	voters := func(v *peerpb.Voters) Voters { return newVoters(int(v.GetAll()), int(v.GetUp())) }
	r.Before, r.After, r.Index = voters(answer.Before), voters(answer.After), answer.Index
	r.HasQuorum = r.After.haveQuorum()
	r.Sentence = fmt.Sprintf("voters %d -> %d, can lose %d -> %d", r.Before.Voters, r.After.Voters, r.Before.CanLose, r.After.CanLose)
	if !r.HasQuorum {
		r.Sentence = fmt.Sprintf("voters %d -> %d, of which %d up: no quorum", r.Before.Voters, r.After.Voters, r.After.Up)
	}
}

// peerNamed finds a peer of the configuration by its id or, if only one has it,
// its name.
func (n *Node) peerNamed(name string) (registry.NodeID, error) {
	var found []registry.NodeID
	for _, s := range n.raft.GetConfiguration().Configuration().Servers {
		switch id := registry.NodeID(s.ID); name {
		case string(id):
			return id, nil
		case id.Name():
			found = append(found, id)
		}
	}
	switch len(found) {
	case 0:
		return "", fmt.Errorf("%w: %.128q", ErrUnknownPeer, name)
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("%w: %s: %v", ErrAmbiguousName, name, found)
}

func (n *Node) askRemove(ctx context.Context, req *peerpb.RemoveRequest) (*peerpb.RemoveResponse, error) {
	answer, err := askLeader(ctx, n, req, n.net.Remove, handler{n}.Remove)
	if err == nil && answer.Code != peerpb.Code_CODE_LEADS {
		err = refusal(answer.Code)
	}
	return answer, err
}

// answered is what askLeader reads of an answer.
type answered interface{ GetCode() peerpb.Code }

// askLeader puts a request to the leader, which may be this peer, until one
// answers it or ctx ends: ErrNoQuorum. A leader that lost its office, or cannot
// tell how it ended, is asked again.
func askLeader[Q any, R answered](ctx context.Context, n *Node, req Q,
	call func(context.Context, registry.NodeID, Q) (R, error), here func(context.Context, Q) R,
) (answer R, err error) {
	for {
		leader, _ := n.leader.current()
		switch leader {
		case "":
			err = errors.New("no leader is known")
		case n.id:
			answer, err = here(ctx, req), nil
		default:
			answer, err = call(ctx, leader, req)
		}
		if errors.Is(err, peer.ErrRejected) {
			return answer, fmt.Errorf("%w: %s", ErrOldLeader, leader.Name())
		}
		if err == nil {
			switch code := answer.GetCode(); code {
			case peerpb.Code_CODE_NOT_LEADER, peerpb.Code_CODE_NOT_READY, peerpb.Code_CODE_UNAVAILABLE:
				err = fmt.Errorf("%s: %v", leader.Name(), code)
			default:
				return answer, nil
			}
		}
		n.leader.pause(ctx, askAgain)
		if ctx.Err() != nil || n.stopping() {
			return answer, fmt.Errorf("%w: %w", ErrNoQuorum, err)
		}
	}
}

// refusal is the error of a code, nil if it is none.
func refusal(code peerpb.Code) error {
	switch code {
	case peerpb.Code_CODE_OK:
		return nil
	case peerpb.Code_CODE_UNKNOWN_PEER:
		return ErrUnknownPeer
	case peerpb.Code_CODE_WOULD_LOSE_QUORUM:
		return ErrWouldLoseQuorum
	case peerpb.Code_CODE_REFUSED:
		return ErrLastVoter
	case peerpb.Code_CODE_NOT_VOTER:
		return ErrNotVoter
	case peerpb.Code_CODE_PEER_DOWN:
		return ErrPeerDown
	case peerpb.Code_CODE_NO_SUCCESSOR:
		return ErrNoSuccessor
	}
	return fmt.Errorf("the leader answers %v", code)
}

// Remove takes a peer out of the configuration, on the leader.
func (h handler) Remove(ctx context.Context, req *peerpb.RemoveRequest) *peerpb.RemoveResponse {
	n := h.node
	id := registry.NodeID(req.NodeId)
	answer := &peerpb.RemoveResponse{LeaderId: string(n.leaderID())}
	unlock, err := n.lockConfiguration(ctx)
	if err != nil {
		answer.Code = notNow(err)
		return answer
	}
	defer unlock()
	before, after, known := n.afterRemoval(ctx, id)
	answer.Before = &peerpb.Voters{All: uint32(before.Voters), Up: uint32(before.Up)}
	answer.After = &peerpb.Voters{All: uint32(after.Voters), Up: uint32(after.Up)}
	switch {
	case !known:
		answer.Code = peerpb.Code_CODE_UNKNOWN_PEER
	case after.Voters == 0:
		answer.Code = peerpb.Code_CODE_REFUSED
	case req.DryRun && (after.haveQuorum() || req.Force):
		answer.Code = peerpb.Code_CODE_OK
	case !after.haveQuorum() && !req.Force:
		answer.Code = peerpb.Code_CODE_WOULD_LOSE_QUORUM
	case id == n.id:
		answer.Code = peerpb.Code_CODE_LEADS
	default:
		answer.Code = peerpb.Code_CODE_OK
		answer.Index, err = n.reconfigure(ctx, func(prev uint64) raft.IndexFuture {
			return n.raft.RemoveServer(raft.ServerID(id), prev, changeWithin)
		})
		if err != nil {
			n.log.Warn("peer not removed", "peer", id, "err", err)
			answer.Code = peerpb.Code_CODE_UNAVAILABLE
			return answer
		}
		n.log.Info("peer removed", "peer", id, "voters", after.Voters, "can_lose", after.CanLose, "asked", peer.From(ctx), "index", answer.Index)
		if id != peer.From(ctx) { // who asked for its own removal is to have the answer
			n.net.CloseConnections(id)
		}
	}
	return answer
}

// afterRemoval counts the voters of now and of a configuration without id.
func (n *Node) afterRemoval(ctx context.Context, id registry.NodeID) (before, after Voters, known bool) {
	voters, _ := n.voters()
	up := n.answering(ctx, voters)
	rest, restUp := 0, 0
	for _, v := range voters {
		if v == id {
			continue
		}
		rest++
		if up[v] != nil {
			restUp++
		}
	}
	return newVoters(len(voters), len(up)), newVoters(rest, restUp), n.servers()[id]
}

// reconfigure makes one change of the configuration and waits until it is
// committed and this peer's state has seen it, at most changeWithin. The caller
// holds lockConfiguration: change gets the index of the configuration that it
// is meant for.
func (n *Node) reconfigure(ctx context.Context, change func(prev uint64) raft.IndexFuture) (index uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, changeWithin)
	defer cancel()
	future := change(n.fsm.ConfigurationIndex())
	if err := answerOf(ctx, future); err != nil {
		return 0, fmt.Errorf("change of the configuration: %w", err)
	}
	n.tellCommitted()
	return future.Index(), n.fsm.WaitApplied(ctx, future.Index())
}

// lockConfiguration lets one change of the configuration at a time go on, on a
// leader whose state has all earlier ones. Only a leader gets it.
func (n *Node) lockConfiguration(ctx context.Context) (unlock func(), err error) {
	if !n.isOpen() || n.raft.State() != raft.Leader {
		return nil, raft.ErrNotLeader
	}
	select {
	case n.configuring <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	unlock = func() { <-n.configuring }
	wait, cancel := context.WithTimeout(ctx, changeWithin)
	defer cancel()
	if err := n.ready(wait, n.raft.CurrentTerm()); err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

// notNow is the code of a failed lockConfiguration.
func notNow(err error) peerpb.Code {
	if errors.Is(err, raft.ErrNotLeader) {
		return peerpb.Code_CODE_NOT_LEADER
	}
	return peerpb.Code_CODE_NOT_READY
}

// promote makes a non-voter a voter, unless it was removed meanwhile.
func (n *Node) promote(ctx context.Context, id raft.ServerID, address raft.ServerAddress) (uint64, error) {
	unlock, err := n.lockConfiguration(ctx)
	if err != nil {
		return 0, err
	}
	defer unlock()
	if !n.servers()[registry.NodeID(id)] {
		return 0, fmt.Errorf("promote %s: %w", id, ErrUnknownPeer)
	}
	return n.reconfigure(ctx, func(prev uint64) raft.IndexFuture {
		return n.raft.AddVoter(id, address, prev, changeWithin)
	})
}

// Transfer is what a change of the leader on command did, or would do.
type Transfer struct {
	Sentence string `json:"sentence"`
	Old      string `json:"old"`
	New      string `json:"new"`
	PauseMS  int64  `json:"pause_ms"` // from the request to the first answer under the new leader
	DryRun   bool   `json:"dry_run"`  // nothing was changed
}

// TransferHow says how TransferLeadership goes about it.
type TransferHow struct {
	To     string // name or id of a voter, "" for any that is fit
	DryRun bool
}

// TransferLeadership makes a voter the leader. It returns when the new leader
// serves, or when ctx ends.
// Errors: ErrUnknownPeer, ErrAmbiguousName, ErrNotVoter, ErrPeerDown,
// ErrNoSuccessor, ErrOldLeader, ErrNoQuorum.
func (n *Node) TransferLeadership(ctx context.Context, how TransferHow) (t Transfer, err error) {
	t.DryRun = how.DryRun
	req := &peerpb.TransferRequest{DryRun: how.DryRun}
	if how.To != "" {
		id, err := n.peerNamed(how.To)
		if err != nil {
			return t, err
		}
		req.To = string(id)
	}
	if _, err := n.ReadBarrier(ctx); err != nil { // else the pause would not be the transfer's
		return t, err
	}
	old, _ := n.leader.current()
	t.Old = old.Name()
	began := time.Now()
	answer, err := askLeader(ctx, n, req, n.net.Transfer, handler{n}.Transfer)
	if err == nil {
		err = refusal(answer.Code)
	}
	if err != nil {
		return t, err
	}
	if how.DryRun {
		t.foresee(registry.NodeID(answer.LeaderId).Name())
		return t, nil
	}
	for {
		if _, err := n.ReadBarrier(ctx); err != nil {
			return t, err
		}
		leader, _ := n.leader.current()
		if t.New = leader.Name(); t.New != "" && (leader != old || leader == registry.NodeID(answer.LeaderId)) {
			break
		}
		n.leader.pause(ctx, askAgain)
	}
	if t.New == t.Old {
		t.Sentence = fmt.Sprintf("leader %s already, nothing paused", t.New)
		return t, nil
	}
	paused := time.Since(began)
	t.PauseMS = paused.Milliseconds()
	t.Sentence = fmt.Sprintf("leader %s -> %s, writes paused %s", t.Old, t.New, paused.Round(time.Millisecond))
	return t, nil
}

// foresee notes who would be the leader.
func (t *Transfer) foresee(leader string) {
	t.New = leader
	t.Sentence = fmt.Sprintf("leader %s -> %s, writes would pause for a moment", t.Old, t.New)
	if t.New == t.Old {
		t.Sentence = fmt.Sprintf("leader %s already, nothing would change", t.New)
	}
}

// Transfer hands over, on the leader.
func (h handler) Transfer(ctx context.Context, req *peerpb.TransferRequest) *peerpb.TransferResponse {
	n := h.node
	answer := &peerpb.TransferResponse{Code: peerpb.Code_CODE_NOT_LEADER}
	if !n.isOpen() || n.raft.State() != raft.Leader {
		return answer
	}
	to := registry.NodeID(req.To)
	if to == n.id {
		answer.Code, answer.LeaderId = peerpb.Code_CODE_OK, req.To
		return answer
	}
	if to, answer.Code = n.successor(ctx, to); answer.Code != peerpb.Code_CODE_OK {
		return answer
	}
	answer.LeaderId = string(to)
	if req.DryRun {
		return answer
	}
	n.log.Info("handing over leadership", "to", to)
	if err := n.handOverTo(ctx, to); err != nil {
		n.log.Warn("leadership not handed over", "to", to, "err", err)
		answer.Code = peerpb.Code_CODE_UNAVAILABLE
	}
	return answer
}

// successor returns who takes over: the one that is wanted, if it can, or the
// voter that is up with the longest log.
func (n *Node) successor(ctx context.Context, wanted registry.NodeID) (registry.NodeID, peerpb.Code) {
	voters, _ := n.voters()
	up := n.answering(ctx, voters)
	if wanted != "" {
		isVoter := false
		for _, v := range voters {
			isVoter = isVoter || v == wanted
		}
		switch {
		case !n.servers()[wanted]:
			return "", peerpb.Code_CODE_UNKNOWN_PEER
		case !isVoter:
			return "", peerpb.Code_CODE_NOT_VOTER
		case up[wanted] == nil:
			return "", peerpb.Code_CODE_PEER_DOWN
		}
		return wanted, peerpb.Code_CODE_OK
	}
	var best registry.NodeID
	for _, v := range voters {
		if v == n.id || up[v] == nil {
			continue
		}
		if best == "" || cmp.Compare(up[v].LastLogIndex, up[best].LastLogIndex) > 0 {
			best = v
		}
	}
	if best == "" {
		return "", peerpb.Code_CODE_NO_SUCCESSOR
	}
	return best, peerpb.Code_CODE_OK
}

// handOverTo waits for the transfer at most 2 s, and until ctx ends. Raft gives up after an election
// time-out; with hashicorp/raft #696 a later refusal may last, which
// transferWatch notices.
func (n *Node) handOverTo(ctx context.Context, id registry.NodeID) error {
	return within(ctx, 2*time.Second, "leadership transfer",
		n.raft.LeadershipTransferToServer(raft.ServerID(id), raft.ServerAddress(id)).Error)
}
