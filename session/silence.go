package session

import (
	"time"

	"github.com/lookupd/lookupd/registry"
)

const (
	// checksPerTimeout is how often, within Config.InactiveTimeout, sessions
	// are asked how long they have been silent, but for these bounds.
	checksPerTimeout = 20
	minCheckEvery    = 10 * time.Millisecond
	maxCheckEvery    = time.Second
	// lateChecks is how many checks must have been missed to say that this peer
	// stood still.
	lateChecks = 3
)

// standing is what the state says of an open session.
type standing uint8

const (
	shown     standing = iota // as OpenSession leaves it
	suspended                 // hidden by SuspendSession
	unsure                    // a proposal failed and may be done all the same
)

// command returns what brings a session into the standing.
func (st standing) command(id registry.SessionID, p registry.ProducerID) registry.Command {
	if st == suspended {
		return registry.SuspendSession{Session: id, Producer: p}
	}
	return registry.ResumeSession{Session: id, Producer: p}
}

// liveness is whether a session is heard, and whether the state knows.
type liveness struct {
	silent bool     // no PING for longer than Config.InactiveTimeout
	told   standing // what the state surely says, but for the proposal under way
}

// Ping notes that the producer is alive. It does not wait for the cluster.
func (s *Session) Ping() {
	now := s.m.now()
	s.lastPing.Store(int64(now))
	s.mu.Lock()
	if s.over {
		s.mu.Unlock()
		return
	}
	id, resumed := s.id, s.live.silent
	if resumed {
		s.setSilentLocked(false)
	}
	s.sweepLocked(now)
	s.mu.Unlock()
	if resumed {
		s.m.log.Info("session resumed: a PING came", "producer", text(s.producer), "session", id, "remote", s.info.RemoteAddress)
	}
}

// silence returns for how long there has been no PING.
func (s *Session) silence(now time.Duration) time.Duration {
	return now - time.Duration(s.lastPing.Load())
}

// suspendIfSilent asks again, as a PING may have come since.
func (s *Session) suspendIfSilent() {
	s.mu.Lock()
	silence := s.silence(s.m.now())
	if s.over || s.live.silent || silence <= s.m.cfg.InactiveTimeout {
		s.mu.Unlock()
		return
	}
	id := s.id
	s.setSilentLocked(true)
	s.mu.Unlock()
	s.m.log.Info("session suspended: no PING", "producer", text(s.producer), "session", id, "remote", s.info.RemoteAddress, "silent", silence)
}

// setSilentLocked has the state told. What says the opposite and was not sent
// yet is taken back, so that a session that changes its mind writes nothing.
func (s *Session) setSilentLocked(silent bool) {
	s.live.silent = silent
	if s.flight != nil && s.outdatedLocked(s.flight) {
		s.withdrawLocked()
	}
	s.hurryLocked()
}

// standingLocked is what the state should say; of a session that is over it
// need not say anything.
func (s *Session) standingLocked() standing {
	switch {
	case s.over:
		return s.live.told
	case s.live.silent:
		return suspended
	}
	return shown
}

// checkEvery keeps the error small against the timeout, and the checks rare.
func checkEvery(timeout time.Duration) time.Duration {
	return min(max(timeout/checksPerTimeout, minCheckEvery), maxCheckEvery)
}

// watchSilence suspends the sessions that fall silent, until the peer stops.
func (m *Manager) watchSilence() {
	every := checkEvery(m.cfg.InactiveTimeout)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	last, waited := m.now(), false
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-ticker.C:
		}
		late := m.now()-last > lateChecks*every
		last = m.now()
		// A peer that stood still has not read its sockets either: the PINGs may
		// be there. One check is left out, not more, or a slow peer would
		// suspend nobody.
		if waited = late && !waited; waited {
			ticker.Reset(every)
			continue
		}
		for _, s := range m.silentFor(m.cfg.InactiveTimeout) {
			s.suspendIfSilent()
		}
	}
}

// silentFor returns the sessions without a PING for longer than d.
func (m *Manager) silentFor(d time.Duration) []*Session {
	now := m.now()
	m.mu.Lock()
	defer m.mu.Unlock()
	var silent []*Session
	for _, s := range m.sessions {
		if s.silence(now) > d {
			silent = append(silent, s)
		}
	}
	return silent
}
