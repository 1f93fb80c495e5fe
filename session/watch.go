package session

import (
	"context"
	"slices"

	"github.com/lookupd/lookupd/registry"
)

// watch follows the feed until the peer stops.
func (m *Manager) watch() {
	for m.cfg.Feed.Wait(m.ctx, m.position()) == nil {
		if err := m.follow(); err != nil {
			m.log.Error("sessions cannot follow the state any more", "err", err)
			return
		}
	}
}

func (m *Manager) position() uint64 {
	m.feedMu.Lock()
	defer m.feedMu.Unlock()
	return m.seen
}

// catchUp makes sure that the sessions have been told of every change that was
// answered before the call. If that cannot be done now it waits and returns false.
func (m *Manager) catchUp(ctx context.Context) bool {
	attempt, cancel := context.WithTimeout(ctx, barrierWithin)
	defer cancel()
	_, err := m.cfg.Cluster.ReadBarrier(attempt)
	if err == nil {
		err = m.follow()
	}
	if err != nil {
		m.log.Debug("a session cannot be opened again yet", "err", err)
		sleep(ctx, refusedAfter)
	}
	return err == nil
}

// follow tells the sessions what the feed has for them. It is called by any
// goroutine, with no lock held.
func (m *Manager) follow() error {
	m.feedMu.Lock()
	defer m.feedMu.Unlock()
	changes, ok := m.cfg.Feed.Since(m.seen)
	if !ok {
		return m.compareLocked()
	}
	for _, c := range changes {
		m.observe(c)
		m.seen = c.Index
	}
	return nil
}

// compareLocked catches up with a state that ran ahead of the feed, because a
// snapshot was restored: instead of what happened the sessions are told what is.
func (m *Manager) compareLocked() error {
	at, err := m.applied()
	if err != nil {
		return err
	}
	m.log.Warn("the state ran ahead of what sessions know: comparing", "index", m.seen, "state", at)
	for _, s := range m.all() {
		if err := s.compare(); err != nil {
			return err
		}
	}
	m.seen = at
	return nil
}

func (m *Manager) applied() (index uint64, err error) {
	err = m.cfg.Cluster.View(func(v View) error {
		index, _ = v.Applied()
		return nil
	})
	return index, err
}

// observe tells the sessions what an entry of the log changed for them. An
// ephemeral name that went because nobody held it any more is not deleted: who
// declares it, on a session that the state has closed, does so still.
func (m *Manager) observe(c registry.Change) {
	for _, e := range c.Events {
		if e.Kind != registry.SessionClosed {
			continue
		}
		if s := m.session(e.Producer); s != nil {
			s.stateClosed(e.Session)
		}
	}
	var sessions []*Session
	for _, e := range c.Events {
		if e.Kind != registry.TopicDeleted && e.Kind != registry.ChannelDeleted {
			continue
		}
		if sessions == nil {
			sessions = m.all()
		}
		for _, s := range sessions {
			s.deleted(e.Topic, e.Channel, c.Index)
		}
	}
}

// stateClosed is told that the state has closed session id. If that is this
// one, whose connection lives, it is opened again.
func (s *Session) stateClosed(id registry.SessionID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over || s.id != id {
		return
	}
	s.reopen = true
	s.drainLocked()
}

// deleted is told that a topic, or a channel of it, was deleted at index.
func (s *Session) deleted(topic, channel string, index uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.declared.deletedAt(topic, channel, index)
}

// compare does what stateClosed and deleted would have done, had this session
// been told of all that happened.
func (s *Session) compare() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return nil
	}
	return s.m.cfg.Cluster.View(func(v View) error {
		index, _ := v.Applied()
		if s.openIn(v) {
			s.declared.compare(index, func(topic, channel string) bool {
				return v.Holds(s.m.cfg.Node, s.producer, topic, channel)
			})
			return nil
		}
		// What it held has gone with it. Names stay unless they were deleted, but
		// for ephemeral ones, of which nobody can say.
		exists := namesIn(v)
		s.declared.compare(index, func(topic, channel string) bool {
			return registry.IsEphemeral(topic) || registry.IsEphemeral(channel) || exists(topic, channel)
		})
		if s.opened.endsAt(index) {
			s.reopen = true
			s.drainLocked()
		}
		return nil
	})
}

func (s *Session) openIn(v View) bool {
	_, sessions, _ := v.Producer(s.producer)
	return slices.ContainsFunc(sessions, func(open registry.SessionState) bool { return open.ID == s.id })
}

// namesIn returns a function that is quick if it is asked for the channels of
// one topic in a row.
func namesIn(v View) func(topic, channel string) bool {
	var of string
	var channels []string
	return func(topic, channel string) bool {
		if channel == "" {
			_, exists := v.Topic(topic)
			return exists
		}
		if of != topic {
			of, channels = topic, v.Channels(topic)
		}
		_, exists := slices.BinarySearch(channels, channel)
		return exists
	}
}
