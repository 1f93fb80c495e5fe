package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/lookupd/lookupd/peer"
	"github.com/lookupd/lookupd/peer/peerpb"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/seeded"
)

// roundWithin bounds one round of the read index.
const roundWithin = 500 * time.Millisecond

// errRound: a round ended without an index; whoever still has time asks again.
var errRound = errors.New("read index not confirmed")

// rounds lets all who arrive while a round runs share the next one. A round
// never takes in who arrives after it began: its index would not cover what was
// answered in between.
type rounds struct {
	run  func(context.Context) (uint64, error)
	wake chan struct{} // one slot; set when next gains a reader

	mu   sync.Mutex
	next *round
}

type round struct {
	readers int // guarded by rounds.mu
	done    chan struct{}

	// Set before done is closed, read after.
	index uint64
	err   error
}

func newRounds(run func(context.Context) (uint64, error)) *rounds {
	return &rounds{run: run, wake: make(chan struct{}, 1), next: &round{done: make(chan struct{})}}
}

// join waits for the result of a round that begins after the call.
func (r *rounds) join(ctx context.Context) (uint64, error) {
	r.mu.Lock()
	mine := r.next
	mine.readers++
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
	select {
	case <-mine.done:
		return mine.index, mine.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// loop runs the rounds, one at a time, until ctx ends.
func (r *rounds) loop(ctx context.Context, ran func(readers int, took time.Duration, err error)) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		}
		r.mu.Lock()
		mine := r.next
		if mine.readers == 0 { // the wake-up came from a reader of the round before
			r.mu.Unlock()
			continue
		}
		r.next = &round{done: make(chan struct{})}
		r.mu.Unlock()
		began := time.Now()
		mine.index, mine.err = r.run(ctx)
		ran(mine.readers, time.Since(began), mine.err)
		close(mine.done)
	}
}

// ReadBarrier returns an index that covers every write answered before the call
// on any peer, once this peer's state has applied it. It tries until ctx ends:
// ErrNoQuorum. Any goroutine may call it.
func (n *Node) ReadBarrier(ctx context.Context) (uint64, error) {
	began := time.Now()
	for {
		index, err := n.readIndex(ctx)
		if err == nil {
			err = n.WaitApplied(ctx, index)
		}
		if err == nil {
			n.barrierDone(began)
			return index, nil
		}
		if ctx.Err() != nil || n.stopping() {
			n.metrics.barrierFailed()
			return 0, fmt.Errorf("%w: %w", ErrNoQuorum, err)
		}
		n.leader.pause(ctx, 5*time.Millisecond)
	}
}

func (n *Node) readIndex(ctx context.Context) (uint64, error) {
	leader, _ := n.leader.current()
	if leader == n.id {
		return n.leaderRounds.join(ctx)
	}
	if seeded.FollowerReadsWithoutIndex && leader != "" {
		index, _ := n.fsm.Applied()
		return index, nil
	}
	return n.followerRounds.join(ctx)
}

// followerRound asks the leader, once for all readers of the round.
func (n *Node) followerRound(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*roundWithin)
	defer cancel()
	leader, reign := n.leader.watch()
	switch leader {
	case "":
		return 0, fmt.Errorf("%w: no leader", errRound)
	case n.id:
		return n.leaderRounds.join(ctx)
	}
	defer context.AfterFunc(reign, cancel)()
	answer, err := n.net.ReadIndex(ctx, leader, &peerpb.ReadIndexRequest{ClusterId: n.ClusterID(), Term: n.raft.CurrentTerm()})
	if err != nil {
		return 0, fmt.Errorf("%w: ask %s: %w", errRound, leader.Name(), err)
	}
	if answer.Code != peerpb.Code_CODE_OK {
		return 0, fmt.Errorf("%w: ask %s: %v", errRound, leader.Name(), answer.Code)
	}
	return answer.Index, nil
}

// ReadIndex answers a follower's round. The question says the follower's term,
// and was asked after the round began: it is that voter's confirmation. Where it
// and this leader are a majority there is nobody left to ask, else the follower
// shares the leader's next round.
func (h handler) ReadIndex(ctx context.Context, req *peerpb.ReadIndexRequest) *peerpb.ReadIndexResponse {
	n := h.node
	leader, _ := n.leader.current()
	answer := &peerpb.ReadIndexResponse{Code: peerpb.Code_CODE_NOT_LEADER, LeaderId: string(leader)}
	if leader != n.id || !n.isOpen() {
		return answer
	}
	ctx, cancel := context.WithTimeout(ctx, 2*roundWithin)
	defer cancel()
	index, err := n.confirmedIndex(ctx, func(term uint64) error { return n.confirmedBy(peer.From(ctx), req, term) })
	if err != nil {
		index, err = n.leaderRounds.join(ctx)
	}
	if err == nil {
		answer.Code, answer.Index = peerpb.Code_CODE_OK, index
	}
	return answer
}

// leaderRound is one round of the read index.
func (n *Node) leaderRound(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, roundWithin)
	defer cancel()
	return n.confirmedIndex(ctx, func(term uint64) error { return n.confirm(ctx, term) })
}

// confirmedIndex returns the commit index if confirm then finds that no newer
// leader existed when the readers came; DESIGN.md of this package has the proof.
// raft's VerifyLeader is not used: it counts answers to requests that were sent
// before the call, and those of non-voters.
func (n *Node) confirmedIndex(ctx context.Context, confirm func(term uint64) error) (uint64, error) {
	term := n.raft.CurrentTerm()
	if n.raft.State() != raft.Leader {
		return 0, fmt.Errorf("%w: not the leader", errRound)
	}
	if err := n.ready(ctx, term); err != nil {
		return 0, err
	}
	index := n.raft.CommitIndex()
	if err := confirm(term); err != nil {
		return 0, err
	}
	if n.raft.CurrentTerm() != term {
		return 0, fmt.Errorf("%w: term %d ended", errRound, term)
	}
	return index, nil
}

// confirmedBy returns nil if what the asking peer says of its term is all that
// this leader needs.
func (n *Node) confirmedBy(asker registry.NodeID, req *peerpb.ReadIndexRequest, term uint64) error {
	voters, self := n.voters()
	if !self || asker == n.id || !suffices(voters, asker) || req.ClusterId != n.ClusterID() || req.Term > term {
		return fmt.Errorf("%w: others have to be asked", errRound)
	}
	return nil
}

// suffices reports whether peer and one other voter are a majority of voters.
func suffices(voters []registry.NodeID, peer registry.NodeID) bool {
	return slices.Contains(voters, peer) && len(voters)/2+1 <= 2
}

// ready waits until this peer's state has applied an entry of term. Until then
// the leader's commit index may not cover older terms (hashicorp/raft #621).
func (n *Node) ready(ctx context.Context, term uint64) error {
	for {
		index, applied := n.fsm.Applied()
		if applied == term {
			return nil
		}
		if n.raft.CurrentTerm() != term {
			return fmt.Errorf("%w: term %d ended", errRound, term)
		}
		if err := n.fsm.WaitApplied(ctx, index+1); err != nil {
			return fmt.Errorf("%w: no entry of term %d applied yet", errRound, term)
		}
	}
}

// confirm returns nil when a majority of the voters said, after the call, that
// their term is at most ours. Only the loop of the leader's rounds calls it.
func (n *Node) confirm(ctx context.Context, term uint64) error {
	if seeded.VerifyLeaderForTerm {
		return n.raft.VerifyLeader().Error()
	}
	voters, self := n.voters()
	needed := len(voters)/2 + 1
	if self {
		needed--
	}
	others := slices.DeleteFunc(voters, func(id registry.NodeID) bool { return id == n.id })
	if !n.confirmers.ask(others, needed, func(id registry.NodeID) bool {
		answer, err := n.net.Confirm(ctx, id, &peerpb.ConfirmRequest{Term: term, ClusterId: n.ClusterID()})
		return err == nil && answer.Ok
	}) {
		return fmt.Errorf("%w: no majority of voters confirmed term %d", errRound, term)
	}
	return nil
}

// Confirm says whether this peer's term is at most the asking leader's. While
// raft is not there, nobody knows the term, and 0 would be a false yes.
func (h handler) Confirm(_ context.Context, req *peerpb.ConfirmRequest) *peerpb.ConfirmResponse {
	if !h.node.isOpen() {
		return &peerpb.ConfirmResponse{}
	}
	term := h.node.raft.CurrentTerm()
	return &peerpb.ConfirmResponse{Ok: req.ClusterId == h.node.ClusterID() && term <= req.Term, Term: term}
}

// voters returns the voters of the latest configuration, committed or not.
func (n *Node) voters() (ids []registry.NodeID, self bool) {
	for _, s := range n.raft.GetConfiguration().Configuration().Servers {
		if s.Suffrage == raft.Voter {
			ids = append(ids, registry.NodeID(s.ID))
			self = self || s.ID == raft.ServerID(n.id)
		}
	}
	return ids, self
}
