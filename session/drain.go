package session

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/registry"
)

const (
	// retryAfter is the pause after an error that should not happen.
	retryAfter = time.Second
	// refusedAfter is the pause for each refusal in a row but the first, up to
	// retryAfter. A session that is opened again is not refused, so this is for
	// the impossible.
	refusedAfter = 100 * time.Millisecond
)

// flight is one proposal of a session.
type flight struct {
	id        registry.SessionID
	open      bool // begins with OpenSession
	close     bool // is CloseSession
	changes   []*pending
	commands  []registry.Command
	proposal  Proposal      // nil until submitted; guarded by Session.mu
	withdrawn chan struct{} // closed when its changes are in the outbox again
}

func (f *flight) has(topic string) bool {
	return f != nil && slices.ContainsFunc(f.changes, func(p *pending) bool { return p.topic == topic })
}

// drainLocked starts drain unless it runs.
func (s *Session) drainLocked() {
	if !s.draining {
		s.draining = s.m.start(s.drain)
	}
}

// drain proposes what waits, one proposal after the other, until nothing does.
func (s *Session) drain() {
	ctx := s.m.ctx
	for ctx.Err() == nil {
		f := s.next()
		if f == nil {
			return
		}
		results, index, err := s.send(ctx, f)
		pause := time.Duration(0)
		switch {
		case errors.Is(err, errWithdrawn):
		case errors.Is(err, cluster.ErrStopped) || ctx.Err() != nil:
			return
		case err != nil:
			s.m.log.Error("cannot propose a session's changes", "producer", text(s.producer), "err", err)
			s.putBack(f)
			pause = retryAfter
		default:
			pause = s.settle(f, results, index)
		}
		sleep(ctx, pause)
	}
}

// next takes what goes into one proposal, or returns nil if nothing waits.
func (s *Session) next() *flight {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reopen {
		s.reopen, s.opening = false, true
		s.id = s.m.nextID()
		s.box = s.declared.again()
		s.m.log.Info("session opened again", "producer", text(s.producer), "session", s.id, "declared", s.declared.names)
	}
	f := &flight{id: s.id, open: s.opening, close: s.closing, withdrawn: make(chan struct{})}
	if f.close {
		f.commands = append(f.commands, registry.CloseSession{Session: s.id, Producer: s.producer})
	}
	if f.open {
		f.commands = append(f.commands, registry.OpenSession{Session: s.id, Producer: s.info})
	}
	f.changes = s.box.take(cluster.MaxProposalCommands - len(f.commands))
	for _, p := range f.changes {
		f.commands = p.commands(f.commands, s.id, s.producer)
	}
	if len(f.commands) == 0 {
		s.draining = false
		return nil
	}
	s.closing = false
	s.flight = f
	return f
}

// errWithdrawn: the flight's changes are in the outbox again.
var errWithdrawn = errors.New("withdrawn")

// send proposes f and waits for its results, as long as it takes.
func (s *Session) send(ctx context.Context, f *flight) ([]registry.Result, uint64, error) {
	proposal, err := s.m.cfg.Cluster.Submit(ctx, f.commands...)
	if err != nil {
		return nil, 0, err
	}
	s.mu.Lock()
	f.proposal = proposal
	if s.over && !f.close { // ended while it was submitted
		s.withdrawLocked()
	}
	s.mu.Unlock()
	select {
	case <-proposal.Done():
		return proposal.Result()
	case <-f.withdrawn:
		return nil, 0, errWithdrawn
	case <-ctx.Done():
		return nil, 0, ctx.Err()
	}
}

// withdrawLocked takes back the proposal under way if it surely was not sent.
func (s *Session) withdrawLocked() {
	f := s.flight
	if f == nil || f.proposal == nil || !f.proposal.Withdraw() {
		return
	}
	s.putBackLocked(f)
	close(f.withdrawn)
}

func (s *Session) putBack(f *flight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.putBackLocked(f)
}

func (s *Session) putBackLocked(f *flight) {
	s.flight = nil
	s.closing = s.closing || f.close
	if !s.over {
		s.box.putBack(f.changes)
	}
}

// settle notes the outcome of f and returns how long to wait before the next.
func (s *Session) settle(f *flight, results []registry.Result, index uint64) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.signal()
	s.flight = nil
	if s.over {
		return 0
	}
	for _, r := range results {
		switch err := r.Err(); {
		case errors.Is(err, registry.ErrSessionNotOpen):
			s.reopen = true
		case err != nil:
			s.m.log.Error("a session's change was refused", "producer", text(s.producer), "session", f.id, "err", err)
		}
	}
	if s.reopen { // what f changed is lost, or is in the declared set
		s.refusals++
		return min(time.Duration(s.refusals-1)*refusedAfter, retryAfter)
	}
	s.refusals = 0
	if f.open {
		s.opening = false
	}
	for _, p := range f.changes {
		s.heldLocked(p, index)
	}
	return 0
}

// heldLocked notes that what p registers was held at index, but for the names
// that a later change waits for.
func (s *Session) heldLocked(p *pending, index uint64) {
	newer := s.box.topics[p.topic]
	if p.register && (newer == nil || !newer.touches("")) {
		s.declared.heldAt(p.topic, "", index)
	}
	for _, c := range p.channels {
		if c.register && (newer == nil || !newer.touches(c.name)) {
			s.declared.heldAt(p.topic, c.name, index)
		}
	}
}

// sleep waits for d or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	if d == 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
