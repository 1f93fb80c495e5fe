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
	// retryAfter is the pause after an error that should not happen, and while the
	// disk is low, unless something comes that makes the state smaller.
	retryAfter = time.Second
	// refusedAfter is the pause for each refusal in a row but the first, up to
	// retryAfter. A session that is opened again is not refused, so this is for
	// the impossible.
	refusedAfter = 100 * time.Millisecond
	// barrierWithin bounds one attempt to learn what a session that must be
	// opened again has missed.
	barrierWithin = time.Second
)

// flight is one proposal of a session.
type flight struct {
	id        registry.SessionID
	open      bool     // begins with OpenSession
	close     bool     // is CloseSession
	standing  standing // what the state will know; it is told if it is news
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

// hurryLocked is drainLocked for what a low disk does not hold up: it ends the
// pause of a drain that waits for room.
func (s *Session) hurryLocked() {
	select {
	case s.hurry <- struct{}{}:
	default:
	}
	s.drainLocked()
}

// drain proposes what waits, one proposal after the other, until nothing does.
func (s *Session) drain() {
	ctx := s.m.ctx
	caughtUp := false
	for ctx.Err() == nil {
		f, behind := s.next(caughtUp)
		if behind {
			caughtUp = s.m.catchUp(ctx)
			continue
		}
		if f == nil {
			return
		}
		caughtUp = false
		results, index, err := s.send(ctx, f)
		pause := time.Duration(0)
		switch {
		case errors.Is(err, errWithdrawn):
		case errors.Is(err, cluster.ErrStopped) || ctx.Err() != nil:
			return
		case errors.Is(err, cluster.ErrDiskLow): // whoever measures it has said so
			s.putBack(f)
			s.awaitRoom(ctx)
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

// next takes what goes into one proposal, or returns nil if nothing waits. A
// session that must be opened again is behind until it has caught up: what others
// deleted since it was closed is not to be declared again.
func (s *Session) next(caughtUp bool) (f *flight, behind bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reopen {
		if !caughtUp {
			return nil, true
		}
		if !s.openAgainLocked() {
			s.draining = false
			return nil, false
		}
	}
	f = &flight{id: s.id, open: s.opening, close: s.closing, standing: s.standingLocked(), withdrawn: make(chan struct{})}
	if f.close {
		f.commands = append(f.commands, registry.CloseSession{Session: s.id, Producer: s.producer})
	}
	if f.open {
		f.commands = append(f.commands, registry.OpenSession{Session: s.id, Producer: s.info})
	}
	if f.standing != s.live.told {
		f.commands = append(f.commands, f.standing.command(s.id, s.producer))
	}
	room := cluster.MaxProposalCommands - len(f.commands)
	low := !f.open && s.m.cfg.Cluster.DiskLow()
	if low { // what adds would have all of it refused
		f.changes = s.box.takeEnds(room)
	}
	if !low || len(f.commands)+len(f.changes) == 0 {
		f.changes = s.box.take(room)
	}
	for _, p := range f.changes {
		f.commands = p.commands(f.commands, s.id, s.producer)
	}
	if len(f.commands) == 0 {
		s.draining = false
		return nil, false
	}
	s.closing = false
	s.flight = f
	return f, false
}

// openAgainLocked begins anew under another id, with all that is declared. It
// returns false if the session is about to end, as another has its place: the
// state must not take what it opens for newer than that one.
func (s *Session) openAgainLocked() bool {
	id, ok := s.m.nextID(s)
	if !ok {
		return false
	}
	s.id = id
	s.reopen, s.opening, s.opened = false, true, mark{}
	s.live.told = shown
	s.sweep = sweep{declared: s.m.now()}
	if s.pendingLocked() == 0 {
		s.progress = s.m.now()
	}
	s.box = s.declared.again()
	s.m.log.Info("session opened again", "producer", text(s.producer), "session", s.id, "declared", s.declared.names)
	return true
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
	if s.outdatedLocked(f) { // it became so while it was submitted
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

// outdatedLocked reports whether f says what is not to be said any more, so that
// it is better taken back.
func (s *Session) outdatedLocked(f *flight) bool {
	if s.over {
		return !f.close
	}
	return f.standing != s.live.told && f.standing != s.standingLocked() ||
		slices.ContainsFunc(f.changes, func(p *pending) bool {
			newer := s.box.topics[p.topic]
			return newer != nil && !newer.rest
		})
}

// withdrawLocked takes back the proposal under way if it surely was not sent.
func (s *Session) withdrawLocked() {
	f := s.flight
	if f == nil || f.proposal == nil || !f.proposal.Withdraw() {
		return
	}
	f.proposal = nil // as if it had never been submitted
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
	if f.proposal != nil && f.standing != s.live.told {
		s.live.told = unsure
	}
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
	if s.refusedLocked(f, results) {
		s.reopen = true
	} else {
		s.doneLocked(f, index)
	}
	if !s.reopen {
		s.refusals = 0
		return 0
	}
	s.refusals++
	return min(time.Duration(s.refusals-1)*refusedAfter, retryAfter)
}

// refusedLocked reports whether f found its session closed. Its changes are lost
// then, or in the declared set.
func (s *Session) refusedLocked(f *flight, results []registry.Result) (refused bool) {
	for _, r := range results {
		switch err := r.Err(); {
		case errors.Is(err, registry.ErrSessionNotOpen):
			refused = true
		case err != nil:
			s.m.log.Error("a session's change was refused", "producer", text(s.producer), "session", f.id, "err", err)
		}
	}
	return refused
}

// doneLocked notes that f was done at index; what undid it may be known already.
func (s *Session) doneLocked(f *flight, index uint64) {
	s.live.told = f.standing
	s.progress = s.m.now()
	if f.has(s.waiting) {
		s.answered = index
	}
	if f.open {
		s.opening = false
		if s.opened.heldAt(index) {
			s.reopen = true
		}
	}
	for _, p := range f.changes {
		s.heldLocked(p, index)
	}
}

// heldLocked notes that what p registers was held at index, but for the names
// that a later change waits for.
func (s *Session) heldLocked(p *pending, index uint64) {
	newer := s.box.topics[p.topic]
	topic := p.register
	for _, c := range p.channels {
		topic = topic || c.register
		if c.register && (newer == nil || !newer.touches(c.name)) {
			s.declared.heldAt(p.topic, c.name, index)
		}
	}
	if topic && (newer == nil || !newer.touches("")) {
		s.declared.heldAt(p.topic, "", index)
	}
}

// awaitRoom is the pause while the disk is low.
func (s *Session) awaitRoom(ctx context.Context) {
	t := time.NewTimer(retryAfter)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.hurry:
	case <-ctx.Done():
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
