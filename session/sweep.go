package session

import (
	"context"
	"time"

	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
)

const (
	// sweepAfter is how long after its last IDENTIFY or REGISTER a session has
	// surely declared all: an nsqd that connects declares everything in a row.
	sweepAfter = 5 * time.Second
	// sweepWithin bounds one attempt.
	sweepWithin = 5 * time.Second
)

// sweep is how far an opening of a session is with letting go of what an earlier
// one has left.
type sweep struct {
	declared time.Duration // of the last IDENTIFY or REGISTER, since Manager.began
	running  bool
	done     bool
}

// sweepLocked begins the sweep if it is due, at a PING: that comes in turn with
// REGISTERs, so none is on its way that was sent before.
func (s *Session) sweepLocked(now time.Duration) {
	w := &s.sweep
	if w.done || w.running || now-w.declared < sweepAfter || s.opening || s.reopen {
		return
	}
	id, declared := s.id, w.declared
	w.running = s.m.start(func() { s.runSweep(id, declared) })
}

// runSweep lets go of what this peer holds for the producer and session id does
// not declare. If that cannot be known, or id declares more meanwhile, a later
// PING tries again.
func (s *Session) runSweep(id registry.SessionID, declared time.Duration) {
	held, err := s.m.held(s.producer)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.id != id || s.over {
		return
	}
	s.sweep.running = false
	switch {
	case err != nil:
		s.m.log.Debug("cannot sweep yet", "producer", text(s.producer), "err", err)
	case s.sweep.declared == declared:
		s.letGoLocked(held)
	}
}

// letGoLocked queues the UNREGISTER of what is held and not declared now.
func (s *Session) letGoLocked(held []store.Name) {
	n := 0
	s.sweep.done = true
	for _, name := range held {
		switch {
		case s.declared.has(name.Topic, name.Channel):
			continue
		case s.flight.has(name.Topic): // which may say so already
			s.sweep.done = false
			continue
		case !s.declared.has(name.Topic, ""):
			name.Channel = "" // all of the topic at once, or a large one takes long
		}
		s.addLocked(name.Topic, name.Channel, false)
		n++
	}
	if n == 0 {
		return
	}
	s.m.log.Info("letting go of what nsqd did not declare again", "producer", text(s.producer), "session", s.id, "names", n)
	s.hurryLocked()
}

// held returns what this peer holds for the producer, as of the call or later.
func (m *Manager) held(p registry.ProducerID) (held []store.Name, err error) {
	ctx, cancel := context.WithTimeout(m.ctx, sweepWithin)
	defer cancel()
	if _, err := m.cfg.Cluster.ReadBarrier(ctx); err != nil {
		return nil, err
	}
	err = m.cfg.Cluster.View(func(v View) error {
		held = v.Held(m.cfg.Node, p)
		return nil
	})
	return held, err
}
