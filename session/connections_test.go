package session_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/session"
)

// The state is what the newest connection declared, whatever the older ones of
// the same nsqd do late.

func TestTwoConnectionsOfOneAddress(t *testing.T) {
	run(t, func(t *testing.T, f *fake) {
		m := newManager(t, f, session.Limits{})
		first := openSession(t, m, "h")
		check(t, "first", func() error { return first.Register("first", "") }, nil, 0)
		check(t, "both", func() error { return first.Register("both", "") }, nil, 0)
		second := openSession(t, m, "h")
		check(t, "second", func() error { return second.Register("second", "c") }, nil, 0)
		check(t, "both", func() error { return second.Register("both", "") }, nil, 0)
		check(t, "on the first", func() error { return first.Register("late", "") }, session.ErrUnavailable, 0)
		check(t, "on the first", func() error { return first.Unregister("both", "") }, session.ErrUnavailable, 0)
		for range 3 {
			time.Sleep(15 * time.Second)
			ping(t, first) // of no effect
			if m.Sessions()[0].PingAge < 15*time.Second {
				t.Error("the PING of a replaced connection counts")
			}
			ping(t, second)
		}
		wantHeld(t, f, second.Producer(), name{"both", ""}, name{"second", ""}, name{"second", "c"})
	})
}

func TestHalfOpenConnectionEndsLater(t *testing.T) {
	run(t, func(t *testing.T, f *fake) {
		m := newQuietManager(t, f, 20*time.Second)
		old := openSession(t, m, "h")
		check(t, "t", func() error { return old.Register("t", "") }, nil, 0)
		time.Sleep(time.Minute) // nothing comes of the first connection any more
		wantShows(t, f, old, false)
		s := openSession(t, m, "h")
		wantShows(t, f, s, true)
		check(t, "t", func() error { return s.Register("t", "") }, nil, 0)
		for range 5 {
			time.Sleep(15 * time.Second)
			ping(t, s)
		}
		old.Close()
		time.Sleep(15 * time.Second)
		wantShows(t, f, s, true)
		wantHeld(t, f, s.Producer(), name{"t", ""})
		wantLog(t, f, "open/1, +t, suspend/1, open/2")
	})
}

func TestDelayedCommandsOfAClosedSession(t *testing.T) {
	for _, reconnect := range []bool{false, true} {
		t.Run(map[bool]string{false: "stays away", true: "connects again"}[reconnect], func(t *testing.T) {
			run(t, func(t *testing.T, f *fake) {
				m := newManager(t, f, session.Limits{})
				old := openSession(t, m, "h")
				check(t, "t", func() error { return old.Register("t", "") }, nil, 0)
				f.be(func() { f.sent, f.quorum = true, false })
				check(t, "late", func() error { return old.Register("late", "") }, session.ErrUnavailable, limit)
				check(t, "withdrawn", func() error { return old.Unregister("t", "") }, session.ErrUnavailable, limit)
				f.delay()
				old.Close()
				f.set(true, true)
				var want []name
				if reconnect {
					s := openSession(t, m, "h")
					check(t, "t", func() error { return s.Register("t", "") }, nil, 0)
					time.Sleep(15 * time.Second)
					ping(t, s)
					want = []name{{"t", ""}}
				}
				f.deliver()
				time.Sleep(time.Minute)
				wantHeld(t, f, old.Producer(), want...)
				if _, open := f.session(old.Producer()); open != reconnect {
					t.Errorf("a session is open: %v", open)
				}
			})
		})
	}
}

// The peer dies; what it had sent arrives when nsqd has long been back.
func TestDelayedCommandsOfAnEarlierStart(t *testing.T) {
	run(t, func(t *testing.T, f *fake) {
		m := newManager(t, f, session.Limits{})
		s := openSession(t, m, "h")
		check(t, "t", func() error { return s.Register("t", "") }, nil, 0)
		f.be(func() { f.sent, f.quorum = true, false })
		check(t, "late", func() error { return s.Register("late", "") }, session.ErrUnavailable, limit)
		f.delay()
		m = restart(t, f, m, 2)
		f.set(true, true)
		s = openSession(t, m, "h")
		check(t, "u", func() error { return s.Register("u", "") }, nil, 0)
		f.deliver()
		time.Sleep(15 * time.Second)
		ping(t, s)
		wantHeld(t, f, s.Producer(), name{"u", ""})
		synctest.Wait()
		if open, _ := f.session(s.Producer()); open.ID != (registry.SessionID{Node: self, Epoch: 2, Seq: 1}) {
			t.Errorf("session %v is open", open.ID)
		}
	})
}
