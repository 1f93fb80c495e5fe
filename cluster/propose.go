package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lookupd/lookupd/fsm"
	"github.com/lookupd/lookupd/peer/peerpb"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/seeded"
)

const (
	// forwardWithin bounds one attempt to have a batch committed.
	forwardWithin = 5 * time.Second
	// retryAfter is the pause between two attempts, unless the leader changes.
	retryAfter = 20 * time.Millisecond
	// refusedAfter is the pause after a leader said that a batch cannot be.
	refusedAfter = time.Second

	// After a batch of many the next one waits a moment for its callers to come
	// again: a part of what the batch took, and no more than gatherAtMost.
	gatherShare  = 8
	gatherAtMost = time.Millisecond
)

// Submit appends commands to what this peer will propose; the order of calls is
// the order in the log. It waits for room until ctx ends (ErrOverloaded); after
// that ctx has no influence. While the disk is low it refuses all of them if one
// adds to the state (ErrDiskLow), and takes those that only end or delete. Any
// goroutine may call it.
func (n *Node) Submit(ctx context.Context, commands ...registry.Command) (*Proposal, error) {
	if n.DiskLow() && slices.ContainsFunc(commands, adds) {
		n.metrics.commandsRefused(commands)
		return nil, ErrDiskLow
	}
	p, err := n.queue.add(ctx, commands)
	if err != nil {
		n.metrics.commandsUnavailable(commands)
	}
	return p, err
}

// DiskLow reports whether Submit refuses what adds to the state.
func (n *Node) DiskLow() bool { return n.cfg.DiskLow != nil && n.cfg.DiskLow() }

// adds reports whether a command makes the state larger.
func adds(c registry.Command) bool {
	switch c.(type) {
	case registry.OpenSession, registry.Register, registry.CreateTopic, registry.CreateChannel, registry.Tombstone:
		return true
	}
	return false
}

// Propose is Submit and the wait for the result. If ctx ends first, it takes
// the commands back; if they may have been sent already, they are done once or
// not at all. Both are ErrNoQuorum.
func (n *Node) Propose(ctx context.Context, commands ...registry.Command) ([]registry.Result, uint64, error) {
	p, err := n.Submit(ctx, commands...)
	if err != nil {
		return nil, 0, err
	}
	select {
	case <-p.Done():
		return p.Result()
	case <-ctx.Done():
		if p.Withdraw() {
			n.metrics.commandsUnavailable(commands)
			return nil, 0, fmt.Errorf("%w: the change was not sent", ErrNoQuorum)
		}
		return nil, 0, fmt.Errorf("%w: the change may yet be done", ErrNoQuorum)
	}
}

// runBatches is the one goroutine that proposes. It has one batch under way;
// the next forms in the queue meanwhile. A batch keeps its number until it has
// a result, whatever happens on the way, so it is applied at most once.
func (n *Node) runBatches(ctx context.Context) {
	number := uint64(0)
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.queue.wake:
		}
		for {
			if !n.leader.wait(ctx) {
				return
			}
			batch := n.queue.take()
			if len(batch) == 0 {
				break
			}
			began := time.Now()
			if n.proposeBatch(ctx, number+1, batch) {
				number++
			}
			if len(batch) > 1 {
				// Those who now have their answers are about to ask again. Without
				// this they would for ever miss the batch of those who wait now.
				n.leader.pause(ctx, min(time.Since(began)/gatherShare, gatherAtMost))
			}
		}
	}
}

// proposeBatch tries until the batch has a result. It returns false if the
// batch surely is in no log: its proposals are in the queue again and may still
// be withdrawn, and the number is free.
func (n *Node) proposeBatch(ctx context.Context, number uint64, batch []*Proposal) (used bool) {
	began := time.Now()
	b := fsm.Batch{Origin: n.id, Epoch: n.epoch, Number: number}
	for _, p := range batch {
		b.Commands = append(b.Commands, p.commands...)
	}
	data, err := fsm.EncodeBatch(b)
	if err != nil {
		n.queue.finish(batch, func(p *Proposal, _ int) { p.err = fmt.Errorf("encode commands: %w", err) })
		return false
	}
	for maybeLogged := false; ; {
		result, err := n.sendBatch(ctx, data)
		switch {
		case err == nil:
			n.finishBatch(batch, len(b.Commands), result)
			n.metrics.batchDone(b.Commands, result.Results, time.Since(began))
			return true
		case ctx.Err() != nil:
			n.queue.finish(batch, func(p *Proposal, _ int) { p.err = ErrStopped })
			n.metrics.batchStopped(b.Commands)
			return true
		case !errors.Is(err, errNotLogged):
			maybeLogged = true
		}
		n.metrics.batchRetried()
		n.log.Debug("batch not committed yet", "number", number, "commands", len(b.Commands), "err", err)
		if errors.Is(err, errRefused) {
			n.log.Warn("the leader refuses this peer's changes: do both run the same version?", "err", err)
			n.leader.pause(ctx, refusedAfter)
		} else {
			n.leader.pause(ctx, retryAfter)
		}
		if !maybeLogged || seeded.ResentUnderNewNumber {
			n.queue.giveBack(batch)
			n.metrics.batchGivenBack()
			return maybeLogged
		}
	}
}

func (n *Node) finishBatch(batch []*Proposal, commands int, result fsm.BatchResult) {
	if result.Stale || len(result.Results) != commands {
		// Nobody but this process uses this node id and epoch, and it has one
		// batch under way: a later number cannot be in the log.
		n.fatal(fmt.Errorf("another process runs with this peer's identity %s: stop it, or give this one an empty data directory", n.id))
		n.queue.finish(batch, func(p *Proposal, _ int) { p.err = ErrStopped })
		return
	}
	n.queue.finish(batch, func(p *Proposal, first int) {
		p.results = result.Results[first : first+len(p.commands)]
		p.index = result.Index
	})
}

// sendBatch makes one attempt: here if this peer leads, else in one hop.
func (n *Node) sendBatch(ctx context.Context, data []byte) (fsm.BatchResult, error) {
	ctx, cancel := context.WithTimeout(ctx, forwardWithin)
	defer cancel()
	leader, reign := n.leader.watch()
	if leader == "" {
		return fsm.BatchResult{}, fmt.Errorf("%w: no leader", errNotLogged)
	}
	if leader == n.id {
		return n.applyBatch(ctx, data)
	}
	defer context.AfterFunc(reign, cancel)()
	answer, err := n.net.Forward(ctx, leader, &peerpb.ForwardRequest{Batch: data})
	if err != nil {
		return fsm.BatchResult{}, forwardError(leader, err)
	}
	switch answer.Code {
	case peerpb.Code_CODE_OK:
		return batchResult(answer), nil
	case peerpb.Code_CODE_NOT_LEADER:
		return fsm.BatchResult{}, fmt.Errorf("%w: %s does not lead", errNotLogged, leader)
	case peerpb.Code_CODE_REFUSED: // by an older version, or a bug; its log says why
		return fsm.BatchResult{}, fmt.Errorf("%w: %w: %s", errNotLogged, errRefused, leader)
	default:
		return fsm.BatchResult{}, fmt.Errorf("forward to %s: %v", leader, answer.Code)
	}
}
