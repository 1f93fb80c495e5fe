package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/lookupd/lookupd/fsm"
	"github.com/lookupd/lookupd/peer"
	"github.com/lookupd/lookupd/peer/peerpb"
	"github.com/lookupd/lookupd/registry"
)

// errNotLogged: this attempt surely put the batch into no log. Every other
// error of an attempt leaves that open.
var errNotLogged = errors.New("not proposed")

// errRefused: the leader will not have the batch, now or later.
var errRefused = errors.New("batch refused")

// stuckTransferAfter is how long raft may refuse commands because of a
// leadership transfer before the process ends: with hashicorp/raft #696 the
// refusal can last for ever. It is three election time-outs and some.
const stuckTransferAfter = 5 * time.Second

// applyBatch proposes an encoded batch on this peer and waits for its result.
func (n *Node) applyBatch(ctx context.Context, data []byte) (fsm.BatchResult, error) {
	future := n.raft.Apply(data, time.Second)
	err := answerOf(ctx, future)
	n.transfers.note(err)
	switch {
	case err == nil:
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrEnqueueTimeout),
		errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return fsm.BatchResult{}, fmt.Errorf("%w: %w", errNotLogged, err)
	default:
		return fsm.BatchResult{}, fmt.Errorf("raft apply: %w", err)
	}
	n.tellCommitted()
	result, ok := future.Response().(fsm.BatchResult)
	if !ok {
		return fsm.BatchResult{}, fmt.Errorf("raft apply: unexpected answer %T", future.Response())
	}
	return result, nil
}

// tellCommitted has followers told of what this leader has committed: raft itself
// lets them wait for its CommitTimeout if no other entry follows.
func (n *Node) tellCommitted() {
	term := n.raft.CurrentTerm()
	leads, index := n.raft.State() == raft.Leader, n.raft.CommitIndex()
	if leads && n.raft.CurrentTerm() == term {
		n.net.Committed(term, index)
	}
}

// Forward answers another peer's batch. It is proposed here or refused, never
// sent on.
func (h handler) Forward(ctx context.Context, req *peerpb.ForwardRequest) *peerpb.ForwardResponse {
	n := h.node
	leader, _ := n.leader.current()
	answer := &peerpb.ForwardResponse{Code: peerpb.Code_CODE_OK, LeaderId: string(leader)}
	if !n.isOpen() {
		answer.Code = peerpb.Code_CODE_NOT_LEADER
		return answer
	}
	if err := checkForwarded(req.Batch, peer.From(ctx)); err != nil {
		n.log.Warn("forwarded batch refused", "from", peer.From(ctx), "err", err)
		answer.Code = peerpb.Code_CODE_REFUSED
		return answer
	}
	result, err := n.applyBatch(ctx, req.Batch)
	switch {
	case err == nil:
		answer.Index, answer.Stale = result.Index, result.Stale
		answer.Results = make([]byte, len(result.Results))
		for i, r := range result.Results {
			answer.Results[i] = byte(r)
		}
	case errors.Is(err, errNotLogged):
		answer.Code = peerpb.Code_CODE_NOT_LEADER
	default:
		n.log.Debug("forwarded batch has no result", "from", peer.From(ctx).Name(), "err", err)
		answer.Code = peerpb.Code_CODE_UNAVAILABLE
	}
	return answer
}

// checkForwarded keeps out of the log what would stop every peer, and what a
// peer sends in another's name.
func checkForwarded(data []byte, from registry.NodeID) error {
	batch, err := fsm.DecodeBatch(data)
	if err != nil {
		return err
	}
	if batch.Origin != from {
		return fmt.Errorf("origin %q is not the sender", batch.Origin)
	}
	return nil
}

func batchResult(answer *peerpb.ForwardResponse) fsm.BatchResult {
	r := fsm.BatchResult{Index: answer.Index, Stale: answer.Stale, Results: make([]registry.Result, len(answer.Results))}
	for i, b := range answer.Results {
		r.Results[i] = registry.Result(b)
	}
	return r
}

// forwardError keeps apart what surely was not delivered.
func forwardError(to registry.NodeID, err error) error {
	if errors.Is(err, peer.ErrUnreachable) {
		return fmt.Errorf("%w: %s: %w", errNotLogged, to.Name(), err)
	}
	return fmt.Errorf("forward to %s: %w", to.Name(), err)
}

// transferWatch notices a leadership transfer that never ends. Only the
// goroutines in applyBatch use it.
type transferWatch struct {
	since  atomicTime
	report func(error)
}

func (t *transferWatch) note(err error) {
	switch {
	case errors.Is(err, errUnanswered):
		return
	case !errors.Is(err, raft.ErrLeadershipTransferInProgress):
		t.since.clear()
		return
	}
	if began := t.since.setIfZero(time.Now()); time.Since(began) > stuckTransferAfter {
		t.report(fmt.Errorf("raft refuses every change since %s because of a leadership transfer that does not end (hashicorp/raft #696): restart this peer", time.Since(began).Round(time.Second)))
	}
}
