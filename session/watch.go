package session

import (
	"slices"

	"github.com/lookupd/lookupd/registry"
)

// watch follows the feed from index after on, until the peer stops.
func (m *Manager) watch(after uint64) {
	for m.cfg.Feed.Wait(m.ctx, after) == nil {
		changes, ok := m.cfg.Feed.Since(after)
		if !ok {
			// A deletion in the gap stays declared. It matters only to a
			// session that must be opened again.
			m.log.Warn("the state ran ahead of what sessions know", "index", after)
			var err error
			if after, err = m.applied(); err != nil {
				m.log.Error("sessions cannot follow the state any more", "err", err)
				return
			}
			continue
		}
		for _, c := range changes {
			m.observe(c)
			after = c.Index
		}
	}
}

func (m *Manager) applied() (index uint64, err error) {
	err = m.cfg.Cluster.View(func(v View) error {
		index, _ = v.Applied()
		return nil
	})
	return index, err
}

// observe tells the sessions what an entry of the log changed for them.
func (m *Manager) observe(c registry.Change) {
	var closed []*Session
	for _, e := range c.Events {
		if e.Kind != registry.SessionClosed {
			continue
		}
		if s := m.session(e.Producer); s != nil && s.stateClosed(e.Session) {
			closed = append(closed, s)
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
			// The end of a session takes its ephemeral names along; they are
			// declared all the same.
			if !slices.Contains(closed, s) {
				s.deleted(e.Topic, e.Channel, c.Index)
			}
		}
	}
}
