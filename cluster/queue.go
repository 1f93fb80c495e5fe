package cluster

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/semaphore"

	"github.com/lookupd/lookupd/fsm"
	"github.com/lookupd/lookupd/registry"
)

const (
	maxBatchBytes = 256 << 10
	// MaxProposalCommands is the most commands of one proposal.
	MaxProposalCommands = 256
)

// Proposal is a group of commands on its way to the log. It stays whole: all of
// its commands are in one entry. It is tried until it has a result, is
// withdrawn, or the peer stops.
type Proposal struct {
	commands []registry.Command
	size     int // estimate, in bytes
	queue    *queue
	done     chan struct{}

	// Set before done is closed, read after.
	results []registry.Result
	index   uint64
	err     error
}

// Done is closed when Result has something to say.
func (p *Proposal) Done() <-chan struct{} { return p.done }

// Result returns one result for each command and the index of the log entry
// that held them, or ErrStopped. It may be called once Done is closed.
func (p *Proposal) Result() ([]registry.Result, uint64, error) { return p.results, p.index, p.err }

// Withdraw takes the proposal back. It returns false if it is too late: the
// proposal may have been sent, and goes on until it has a result.
func (p *Proposal) Withdraw() bool { return p.queue.remove(p) }

// queue holds the proposals that are not in a batch yet, in order. Its
// semaphores also count those that are, so that they bound all that waits.
type queue struct {
	room  *semaphore.Weighted // commands
	bytes *semaphore.Weighted
	wake  chan struct{} // one slot; set when waiting becomes non-empty

	mu      sync.Mutex
	closed  bool
	waiting []*Proposal
}

func newQueue(l Limits) *queue {
	return &queue{
		room: semaphore.NewWeighted(int64(l.PendingCommands)), bytes: semaphore.NewWeighted(l.PendingBytes),
		wake: make(chan struct{}, 1),
	}
}

// add appends a proposal, waiting for room until ctx ends.
func (q *queue) add(ctx context.Context, commands []registry.Command) (*Proposal, error) {
	if len(commands) == 0 || len(commands) > MaxProposalCommands {
		return nil, fmt.Errorf("a proposal holds 1 to %d commands, not %d", MaxProposalCommands, len(commands))
	}
	for _, c := range commands {
		if err := fsm.Validate(c); err != nil {
			return nil, err // alone, not with the batch that others share
		}
	}
	p := &Proposal{commands: commands, queue: q, done: make(chan struct{})}
	for _, c := range commands {
		p.size += commandSize(c)
	}
	if err := q.room.Acquire(ctx, int64(len(commands))); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOverloaded, err)
	}
	if err := q.bytes.Acquire(ctx, int64(p.size)); err != nil {
		q.room.Release(int64(len(commands)))
		return nil, fmt.Errorf("%w: %w", ErrOverloaded, err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		q.release(p)
		return nil, ErrStopped
	}
	q.waiting = append(q.waiting, p)
	q.signal()
	return p, nil
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take removes the proposals of the next batch: as many as fit, at least one
// if any waits.
func (q *queue) take() []*Proposal {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := batchLength(len(q.waiting), func(i int) ([]registry.Command, int) { return q.waiting[i].commands, q.waiting[i].size })
	taken := append([]*Proposal(nil), q.waiting[:n]...)
	clear(q.waiting[:n])
	q.waiting = q.waiting[n:]
	if len(q.waiting) == 0 {
		q.waiting = nil // so that the backing array does not grow for ever
	}
	return taken
}

// batchLength returns how many of the waiting proposals, each with its commands
// and size, go into the next batch. A deletion goes alone: so the index of its
// entry tells what was declared before it and what after.
func batchLength(waiting int, proposal func(i int) ([]registry.Command, int)) (n int) {
	for total := 0; n < waiting; n++ {
		commands, size := proposal(n)
		total += size
		deletes := slices.ContainsFunc(commands, isDeletion)
		if n > 0 && (deletes || total > maxBatchBytes) {
			return n
		}
		if deletes {
			return 1
		}
	}
	return n
}

func isDeletion(c registry.Command) bool {
	switch c.(type) {
	case registry.DeleteTopic, registry.DeleteChannel:
		return true
	}
	return false
}

// giveBack undoes a take of what was surely not sent.
func (q *queue) giveBack(taken []*Proposal) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		q.finish(taken, func(p *Proposal, _ int) { p.err = ErrStopped })
		return
	}
	q.waiting = append(append([]*Proposal(nil), taken...), q.waiting...)
	q.signal()
}

func (q *queue) remove(p *Proposal) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, w := range q.waiting {
		if w == p {
			q.waiting = append(q.waiting[:i:i], q.waiting[i+1:]...)
			q.release(p)
			return true
		}
	}
	return false
}

// close refuses what comes later and ends what waits with ErrStopped.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.finish(q.waiting, func(p *Proposal, _ int) { p.err = ErrStopped })
	q.waiting = nil
}

// finish ends proposals; set stores the outcome of one, given the number of
// commands before it in the batch.
func (q *queue) finish(ps []*Proposal, set func(p *Proposal, first int)) {
	first := 0
	for _, p := range ps {
		set(p, first)
		first += len(p.commands)
		close(p.done)
		q.release(p)
	}
}

// release lets others have the room of p.
func (q *queue) release(p *Proposal) {
	q.room.Release(int64(len(p.commands)))
	q.bytes.Release(int64(p.size))
}

// commandSize estimates a command's encoded bytes, generously.
func commandSize(c registry.Command) int {
	const overhead = 192 // session id, lengths, tags
	switch c := c.(type) {
	case registry.OpenSession:
		p := c.Producer
		return overhead + len(p.RemoteAddress) + len(p.Hostname) + len(p.BroadcastAddress) +
			len(p.Version) + len(p.TopologyZone) + len(p.TopologyRegion)
	case registry.CloseSession:
		return overhead + len(c.Producer)
	case registry.EndOrphan:
		return overhead + len(c.Producer)
	case registry.SuspendSession:
		return overhead + len(c.Producer)
	case registry.ResumeSession:
		return overhead + len(c.Producer)
	case registry.Register:
		return overhead + len(c.Producer) + len(c.Topic) + len(c.Channel)
	case registry.Unregister:
		return overhead + len(c.Producer) + len(c.Topic) + len(c.Channel)
	case registry.Tombstone:
		return overhead + len(c.Topic) + len(c.Node)
	case registry.EndTombstone:
		return overhead + len(c.Topic) + len(c.Producer)
	default:
		return overhead // names alone, at most 64 bytes each
	}
}
