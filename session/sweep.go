package session

import (
	"time"

	"github.com/lookupd/lookupd/store"
)

// sweepAfter is how long after its last IDENTIFY or REGISTER a session has surely
// declared all: an nsqd that connects declares everything in a row.
const sweepAfter = 5 * time.Second

// sweep is how far an opening of a session is with letting go of what an earlier
// one has left.
type sweep struct {
	declared time.Duration // of the last IDENTIFY or REGISTER, since Manager.began
	done     bool
}

// sweepLocked sweeps if that is due, at a PING: it comes in turn with REGISTERs, so
// none is on its way that was sent before. What earlier sessions of this producer
// have left was there when this one was opened, since the state takes nothing from
// a session that is replaced. So a state that has seen the opening has it all; one
// that has seen the last answered change too seldom shows what was withdrawn since.
// Until then a later PING tries again.
func (s *Session) sweepLocked(now time.Duration) {
	if s.sweep.done || now-s.sweep.declared < sweepAfter || s.opening || s.reopen {
		return
	}
	known, held := false, []store.Name(nil)
	err := s.m.cfg.Cluster.View(func(v View) error {
		if index, _ := v.Applied(); index >= max(s.opened.since, s.answered) {
			known, held = true, v.Held(s.m.cfg.Node, s.producer)
		}
		return nil
	})
	switch {
	case err != nil:
		s.m.log.Debug("cannot sweep yet", "producer", text(s.producer), "err", err)
	case known:
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
