package session_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/session"
)

// declare registers names on a new session.
func declare(t *testing.T, f *fake, names ...name) *session.Session {
	t.Helper()
	s := openSession(t, newManager(t, f, session.Limits{}), "h")
	for _, n := range names {
		check(t, "register", func() error { return s.Register(n.topic, n.channel) }, nil, 0)
	}
	return s
}

func TestOpenedAgainWithoutWhatTheFeedHasNotShown(t *testing.T) {
	start := []name{{"gone", "c"}, {"t", "gone"}, {"t", "c"}}
	del := []registry.Command{registry.DeleteTopic{Topic: "gone"}, registry.DeleteChannel{Topic: "t", Channel: "gone"}}
	want := []name{{"t", ""}, {"t", "c"}, {"u", ""}}
	t.Run("deleted before it was closed", func(t *testing.T) {
		run(t, func(t *testing.T, f *fake) {
			s := declare(t, f, start...)
			f.lag(true)
			f.commit(del...)
			closeIt(f, s.Producer())
			check(t, "refused", func() error { return s.Register("u", "") }, nil, 0)
			wantHeld(t, f, s.Producer(), want...)
			f.lag(false)
			wantHeld(t, f, s.Producer(), want...)
		})
	})
	t.Run("deleted after it was closed", func(t *testing.T) {
		run(t, func(t *testing.T, f *fake) {
			s := declare(t, f, append(start, name{"u", ""})...)
			f.lag(true)
			closeIt(f, s.Producer())
			f.commit(del...)
			f.lag(false)
			wantHeld(t, f, s.Producer(), want...)
		})
	})
	t.Run("in one entry", func(t *testing.T) {
		run(t, func(t *testing.T, f *fake) {
			s := declare(t, f, append(start, name{"u", ""}, name{"e#ephemeral", ""})...)
			open, _ := f.session(s.Producer())
			f.commit(append(del, registry.CloseSession{Session: open.ID, Producer: s.Producer()})...)
			wantHeld(t, f, s.Producer(), append([]name{{"e#ephemeral", ""}}, want...)...)
		})
	})
	t.Run("once a barrier succeeds", func(t *testing.T) {
		run(t, func(t *testing.T, f *fake) {
			s := declare(t, f, start...)
			f.lag(true)
			f.commit(del...)
			closeIt(f, s.Producer())
			f.be(func() { f.deaf = true })
			check(t, "refused", func() error { return s.Register("u", "") }, session.ErrUnavailable, limit)
			time.Sleep(time.Hour)
			wantHeld(t, f, s.Producer())
			f.be(func() { f.deaf = false })
			time.Sleep(time.Second)
			wantHeld(t, f, s.Producer(), want...)
		})
	})
	t.Run("or never, if the connection ends", func(t *testing.T) {
		run(t, func(t *testing.T, f *fake) {
			s := declare(t, f)
			f.be(func() { f.deaf = true })
			closeIt(f, s.Producer())
			synctest.Wait()
			s.Close()
			time.Sleep(2 * time.Second)
			wantLog(t, f, "open/1, close/1, close/1")
		})
	})
}

// An ephemeral topic goes when its last producer does. The one that the state
// believed lost has not given it up.
func TestOpenedAgainWithItsEphemerals(t *testing.T) {
	run(t, func(t *testing.T, f *fake) {
		m := newManager(t, f, session.Limits{})
		s := openSession(t, m, "h")
		last := openSession(t, m, "i")
		for _, s := range []*session.Session{s, last} {
			check(t, "register", func() error { return s.Register("e#ephemeral", "c") }, nil, 0)
			check(t, "register", func() error { return s.Register("t", "e#ephemeral") }, nil, 0)
		}
		f.lag(true)
		closeIt(f, s.Producer())
		last.Close()
		synctest.Wait()
		f.lag(false)
		wantHeld(t, f, s.Producer(), name{"e#ephemeral", ""}, name{"e#ephemeral", "c"}, name{"t", ""}, name{"t", "e#ephemeral"})
	})
}

func TestDeletedInAGapOfTheFeed(t *testing.T) {
	start := []name{{"back", ""}, {"e#ephemeral", ""}, {"gone", "c"}, {"gone#ephemeral", ""}, {"t", "gone"}, {"t", "c"}}
	del := []registry.Command{
		registry.DeleteTopic{Topic: "back"},
		registry.DeleteTopic{Topic: "gone"},
		registry.DeleteTopic{Topic: "gone#ephemeral"},
		registry.DeleteChannel{Topic: "t", Channel: "gone"},
	}
	want := []name{{"back", ""}, {"e#ephemeral", ""}, {"t", ""}, {"t", "c"}}
	t.Run("then closed", func(t *testing.T) {
		run(t, func(t *testing.T, f *fake) {
			s := declare(t, f, start...)
			f.lag(true)
			f.commit(del...)
			f.restore()
			f.lag(false)
			synctest.Wait()
			check(t, "back", func() error { return s.Register("back", "") }, nil, 0)
			closeIt(f, s.Producer())
			wantHeld(t, f, s.Producer(), want...)
		})
	})
	t.Run("while it waits to be committed", func(t *testing.T) {
		run(t, func(t *testing.T, f *fake) {
			s := declare(t, f, start...)
			f.lag(true)
			f.commit(del...)
			f.be(func() { f.sent, f.quorum = true, false })
			check(t, "back", func() error { return s.Register("back", "") }, session.ErrUnavailable, limit)
			f.restore()
			f.lag(false)
			synctest.Wait()
			f.set(true, true)
			synctest.Wait()
			closeIt(f, s.Producer())
			wantHeld(t, f, s.Producer(), want...)
		})
	})
	t.Run("and closed in it", func(t *testing.T) {
		run(t, func(t *testing.T, f *fake) {
			s := declare(t, f, start...)
			f.lag(true)
			f.commit(del...)
			closeIt(f, s.Producer())
			f.restore()
			f.lag(false)
			synctest.Wait()
			check(t, "back", func() error { return s.Register("back", "") }, nil, 0)
			// Whether an ephemeral name was deleted or went with the session, the
			// state cannot tell.
			wantHeld(t, f, s.Producer(), append([]name{want[0], want[1], {"gone#ephemeral", ""}}, want[2:]...)...)
		})
	})
}

// A proposal was committed, and its answer comes only after a snapshot that
// has left it behind.
func TestAnsweredAfterAGapOfTheFeed(t *testing.T) {
	for _, c := range []struct {
		what   string
		closed bool
	}{{"open", false}, {"closed", true}} {
		t.Run(c.what, func(t *testing.T) {
			run(t, func(t *testing.T, f *fake) {
				f.lag(true)
				f.be(func() { f.quorum = false })
				m := newManager(t, f, session.Limits{})
				s := openSession(t, m, "h")
				for _, topic := range []string{"gone", "t"} {
					if err := s.Register(topic, ""); !errors.Is(err, session.ErrUnavailable) {
						t.Errorf("register: %v", err)
					}
				}
				f.be(func() { f.mute, f.quorum = true, true })
				synctest.Wait()
				f.deliver() // OpenSession; what was declared goes next
				f.be(func() { f.mute = true })
				f.set(true, true)
				synctest.Wait()
				f.commit(registry.DeleteTopic{Topic: "gone"})
				if c.closed {
					closeIt(f, s.Producer())
				}
				f.restore()
				f.lag(false)
				synctest.Wait()
				f.deliver()
				synctest.Wait()
				if !c.closed {
					closeIt(f, s.Producer())
				}
				wantHeld(t, f, s.Producer(), name{"t", ""})
				if open, _ := f.session(s.Producer()); open.ID.Seq != 2 {
					t.Errorf("session %v is open", open.ID)
				}
			})
		})
	}
}

// The state closes a session before this peer learns that it was opened.
func TestClosedInAGapBeforeItsOpeningIsKnown(t *testing.T) {
	run(t, func(t *testing.T, f *fake) {
		f.lag(true)
		f.be(func() { f.mute = true })
		m := newManager(t, f, session.Limits{})
		s := openSession(t, m, "h")
		closeIt(f, s.Producer())
		f.restore()
		f.lag(false)
		synctest.Wait()
		f.deliver()
		wantLog(t, f, "open/1, close/1, open/2")
	})
}

// A session that is about to be opened again is not open yet, and not closed either.
func TestGapBeforeItIsOpenedAgain(t *testing.T) {
	run(t, func(t *testing.T, f *fake) {
		s := declare(t, f, name{"t", ""})
		f.be(func() { f.slow = true })
		closeIt(f, s.Producer())
		synctest.Wait()
		f.lag(true)
		f.commit(registry.CreateTopic{Topic: "x"})
		f.restore()
		synctest.Wait()
		f.lag(false)
		f.be(func() { f.slow = false })
		wantLog(t, f, "open/1, +t, close/1, CreateTopic, open/2, +t")
	})
}

// A snapshot may be older than what this peer has been answered.
func TestGapBeforeTheSession(t *testing.T) {
	run(t, func(t *testing.T, f *fake) {
		f.commit(registry.CreateTopic{Topic: "x"})
		f.lag(true)
		m := newManager(t, f, session.Limits{})
		f.commit(registry.CreateTopic{Topic: "y"})
		s := openSession(t, m, "h")
		check(t, "register", func() error { return s.Register("t", "") }, nil, 0)
		f.restoreTo(2)
		synctest.Wait()
		f.lag(false)
		wantLog(t, f, "CreateTopic, CreateTopic, open/1, +t")
		closeIt(f, s.Producer())
		wantHeld(t, f, s.Producer(), name{"t", ""})
	})
}

// REGISTER of a channel brings its topic, whatever becomes of the channel.
func TestTopicThatAChannelBroughtBack(t *testing.T) {
	for _, sent := range []bool{false, true} {
		t.Run(map[bool]string{false: "waiting", true: "sent"}[sent], func(t *testing.T) {
			run(t, func(t *testing.T, f *fake) {
				s := declare(t, f, name{"t", ""})
				f.lag(true)
				f.commit(registry.DeleteTopic{Topic: "t"})
				f.be(func() { f.sent, f.quorum = sent, false })
				check(t, "register", func() error { return s.Register("t", "c") }, session.ErrUnavailable, limit)
				check(t, "unregister", func() error { return s.Unregister("t", "c") }, session.ErrUnavailable, limit)
				f.lag(false) // the deletion shows
				synctest.Wait()
				f.set(true, true)
				wantHeld(t, f, s.Producer(), name{"t", ""})
				time.Sleep(5 * time.Second)
				ping(t, s)
				wantHeld(t, f, s.Producer(), name{"t", ""})
				closeIt(f, s.Producer())
				wantHeld(t, f, s.Producer(), name{"t", ""})
				f.commit(registry.DeleteTopic{Topic: "t"})
				synctest.Wait()
				closeIt(f, s.Producer())
				wantHeld(t, f, s.Producer())
			})
		})
	}
}

// Of a topic that a channel brought while another change of it waited, a later
// deletion is known.
func TestDeletedAfterAChannelBroughtIt(t *testing.T) {
	run(t, func(t *testing.T, f *fake) {
		s := openSession(t, newManager(t, f, session.Limits{}), "h")
		f.be(func() { f.mute = true })
		check(t, "register", func() error { return s.Register("t", "c") }, session.ErrUnavailable, limit)
		check(t, "unregister", func() error { return s.Unregister("t", "c") }, session.ErrUnavailable, limit)
		f.deliver()
		wantHeld(t, f, s.Producer(), name{"t", ""})
		f.commit(registry.DeleteTopic{Topic: "t"})
		synctest.Wait()
		closeIt(f, s.Producer())
		wantHeld(t, f, s.Producer())
	})
}

// atLine calls do when a session logs the message, once.
type atLine struct {
	slog.Handler
	message string
	do      func()
}

func (h *atLine) Handle(_ context.Context, r slog.Record) error {
	if do := h.do; r.Message == h.message && do != nil {
		h.do = nil
		do()
	}
	return nil
}

// The old connection's session is about to be opened again when a new connection
// takes its place: what it opened would be newer than the new one, and nobody's.
func TestNotOpenedAgainOnceItsPlaceIsTaken(t *testing.T) {
	run(t, func(t *testing.T, f *fake) {
		opened := &atLine{Handler: slog.Default().Handler(), message: "session opened"}
		m := startManager(t, session.Config{Cluster: f, Feed: f, Logger: slog.New(opened)})
		old := openSession(t, m, "h")
		check(t, "t", func() error { return old.Register("t", "") }, nil, 0)
		f.be(func() { f.deaf = true })
		closeIt(f, old.Producer())
		synctest.Wait()
		opened.do = func() { // before the old one is replaced
			f.be(func() { f.deaf = false })
			synctest.Wait()
		}
		s := openSession(t, m, "h")
		wantLog(t, f, "open/1, +t, close/1, open/2")
		s.Close()
		wantLog(t, f, "open/1, +t, close/1, open/2, close/2")
		if open, ok := f.session(s.Producer()); ok {
			t.Errorf("%v is open, and nobody's", open.ID)
		}
	})
}
