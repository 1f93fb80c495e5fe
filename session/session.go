package session

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/seeded"
)

// Session is one connection of a producer, from IDENTIFY to its end.
type Session struct {
	m        *Manager
	info     registry.ProducerInfo
	producer registry.ProducerID
	end      func(reason string) // closes the connection
	lastPing atomic.Int64        // since Manager.began
	settled  chan struct{}       // one slot; set when a proposal has ended
	hurry    chan struct{}       // one slot; see hurryLocked

	mu       sync.Mutex
	id       registry.SessionID
	over     bool   // closed or replaced; nothing is declared any more
	opening  bool   // OpenSession of id is not known to be committed
	reopen   bool   // the state has closed id: a new one must be opened
	closing  bool   // CloseSession is to be proposed
	draining bool   // a goroutine runs drain
	refusals int    // proposals refused in a row
	waiting  string // topic of the change that is waited for
	answered uint64 // see AnsweredAt
	opened   mark   // where in the log id was open, where it was not
	live     liveness
	sweep    sweep
	declared declared
	box      outbox
	progress time.Duration // when a change was last committed, or the first of those in box came
	flight   *flight       // the proposal under way
}

// Producer returns the producer's id.
func (s *Session) Producer() registry.ProducerID { return s.producer }

// Register declares a topic, and a channel of it unless that is "". It returns
// nil once that is committed, else ErrUnavailable, ErrDiskLow or ErrLimit.
func (s *Session) Register(topic, channel string) error {
	ctx := s.m.answerWithin.Next()
	seen, room := s.m.look(s.producer, topic, channel)
	s.mu.Lock()
	s.sweep.declared = s.m.now()
	if s.over {
		s.mu.Unlock()
		return ErrUnavailable
	}
	missing := s.declared.missing(topic, channel)
	if missing > 0 && (!room || s.fullLocked(missing)) {
		s.mu.Unlock()
		return ErrLimit
	}
	known := seen.held && s.idleLocked() && s.m.cfg.Cluster.HasLeader()
	s.declared.add(topic, channel, false)
	s.mu.Unlock()
	if known {
		if held, index := s.m.confirm(ctx, s.producer, topic, channel, seen); held {
			s.mu.Lock()
			if channel != "" {
				s.declared.heldAt(topic, channel, index)
			}
			s.declared.heldAt(topic, "", index)
			s.answered = index
			s.mu.Unlock()
			return nil
		}
	}
	return s.propose(ctx, topic, channel, true)
}

// Unregister withdraws a channel, or a topic with all its channels if channel
// is "". It returns nil once that is committed, else ErrUnavailable or ErrLimit.
func (s *Session) Unregister(topic, channel string) error {
	ctx := s.m.answerWithin.Next()
	seen, _ := s.m.look(s.producer, topic, channel)
	s.mu.Lock()
	if s.over {
		s.mu.Unlock()
		return ErrUnavailable
	}
	wasDeclared := s.declared.has(topic, channel)
	if !wasDeclared && s.fullLocked(0) {
		s.mu.Unlock()
		return ErrLimit
	}
	s.declared.remove(topic, channel)
	// An ephemeral name that nobody holds goes by its UNREGISTER, whoever sends it.
	unknown := !seen.held && !wasDeclared && !registry.IsEphemeral(topic) && !registry.IsEphemeral(channel) &&
		s.idleLocked() && s.m.cfg.Cluster.HasLeader()
	s.mu.Unlock()
	if unknown {
		if held, index := s.m.confirm(ctx, s.producer, topic, channel, seen); index > 0 && !held {
			s.mu.Lock()
			s.answered = index
			s.mu.Unlock()
			return nil
		}
	}
	return s.propose(ctx, topic, channel, false)
}

// AnsweredAt returns the log index at which what the last Register or Unregister
// answered with nil was committed, or known to be so already.
func (s *Session) AnsweredAt() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.answered
}

// Close ends the session because its connection has ended. What was not sent is
// dropped, and CloseSession is proposed until it is committed; Close does not
// wait for that. After Manager.Close, and on a replaced session, it does nothing.
func (s *Session) Close() {
	s.m.forget(s)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	s.endLocked()
	s.closing = true
	s.hurryLocked()
	s.m.log.Info("session closed: its connection ended", "producer", text(s.producer), "session", s.id, "remote", s.info.RemoteAddress)
}

// replace ends the session without CloseSession: the OpenSession of the newer
// one replaces it in the state. It returns false if it had ended already.
func (s *Session) replace() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return false
	}
	s.endLocked()
	return true
}

func (s *Session) endLocked() {
	s.withdrawLocked()
	s.over, s.opening, s.reopen = true, false, false
	s.declared, s.box = declared{}, outbox{}
	s.signal()
}

// propose queues a change and waits until it is committed or ctx ends.
func (s *Session) propose(ctx context.Context, topic, channel string, register bool) error {
	s.mu.Lock()
	if s.over {
		s.mu.Unlock()
		return ErrUnavailable
	}
	if s.flight.has(topic) {
		s.withdrawLocked()
	}
	if register {
		s.declared.add(topic, channel, true)
	}
	s.addLocked(topic, channel, register)
	s.waiting = topic
	if register {
		s.drainLocked()
	} else {
		s.hurryLocked()
	}
	s.mu.Unlock()
	if register && s.m.cfg.Cluster.DiskLow() {
		return ErrDiskLow
	}
	err := s.wait(ctx, topic)
	if seeded.UnavailableForgotten && err != nil {
		s.mu.Lock()
		s.withdrawLocked()
		s.box = outbox{}
		s.mu.Unlock()
	}
	return err
}

// wait returns nil once nothing is outstanding for topic ("" for OpenSession).
// Without a leader it does not wait.
func (s *Session) wait(ctx context.Context, topic string) error {
	if !s.m.cfg.Cluster.HasLeader() {
		return ErrUnavailable
	}
	if seeded.OKBeforeCommit {
		return nil
	}
	for {
		s.mu.Lock()
		over, quiet := s.over, s.quietLocked(topic)
		s.mu.Unlock()
		switch {
		case over:
			return ErrUnavailable
		case quiet:
			return nil
		}
		select {
		case <-s.settled:
		case <-ctx.Done():
			return ErrUnavailable
		}
	}
}

func (s *Session) quietLocked(topic string) bool {
	return !s.opening && !s.reopen && s.box.topics[topic] == nil && !s.flight.has(topic)
}

// idleLocked reports whether nothing is on its way that decides what is held.
func (s *Session) idleLocked() bool {
	return !s.opening && !s.reopen && len(s.box.queue) == 0 && (s.flight == nil || len(s.flight.changes) == 0)
}

// fullLocked reports whether more names would exceed the limits of a session.
// An UNREGISTER for each name that was declared may wait as well.
func (s *Session) fullLocked(more int) bool {
	limit := s.m.cfg.Limits.Registrations
	return s.declared.names+more > limit || s.pendingLocked() >= 2*limit
}

func (s *Session) signal() {
	select {
	case s.settled <- struct{}{}:
	default:
	}
}

func (s *Session) status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Status{
		Producer: s.producer, ID: s.id, PingAge: max(0, s.silence(s.m.now())),
		Suspended: s.live.silent, Pending: s.pendingLocked(),
	}
}

// stats returns how many changes are not known to be committed, for how long none
// of them was, and whether the session has been silent for too long.
func (s *Session) stats() (pending int, since time.Duration, suspended bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if pending = s.pendingLocked(); pending > 0 {
		since = s.m.now() - s.progress
	}
	return pending, since, s.live.silent
}

// addLocked adds a change to what is to be proposed.
func (s *Session) addLocked(topic, channel string, register bool) {
	if s.pendingLocked() == 0 {
		s.progress = s.m.now()
	}
	s.box.add(topic, channel, register)
}

// pendingLocked returns how many changes are not known to be committed.
func (s *Session) pendingLocked() int {
	n := s.box.size
	if s.flight != nil {
		for _, p := range s.flight.changes {
			n += p.size()
		}
	}
	return n
}
