package session_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/session"
)

// short is the timeout of NSQ's own tests.
const short = 200 * time.Millisecond

func newQuietManager(t *testing.T, f *fake, timeout time.Duration) *session.Manager {
	t.Helper()
	return startManager(t, session.Config{InactiveTimeout: timeout, Cluster: f, Feed: f})
}

func ping(t *testing.T, s *session.Session) {
	t.Helper()
	check(t, "ping", func() error { s.Ping(); return nil }, nil, 0)
	synctest.Wait()
}

func wantShows(t *testing.T, f *fake, s *session.Session, want bool) {
	t.Helper()
	synctest.Wait()
	if got := f.shows(s.Producer()); got != want {
		t.Errorf("%s shows: %v, want %v", s.Producer(), got, want)
	}
}

func TestSilentIsHiddenUntilItsPing(t *testing.T) {
	for _, timeout := range []struct{ after, shows, hidden time.Duration }{
		{short, short, 250 * time.Millisecond},
		{0, 300 * time.Second, 301 * time.Second}, // the default
	} {
		t.Run(fmt.Sprint(timeout.after), func(t *testing.T) {
			run(t, func(t *testing.T, f *fake) {
				s := openSession(t, newQuietManager(t, f, timeout.after), "h")
				time.Sleep(timeout.shows)
				wantShows(t, f, s, true)
				time.Sleep(timeout.hidden - timeout.shows)
				wantShows(t, f, s, false)
				time.Sleep(10 * time.Minute)
				wantLog(t, f, "open/1, suspend/1")
				ping(t, s)
				wantShows(t, f, s, true)
				for range 10 {
					time.Sleep(timeout.shows)
					ping(t, s)
				}
				wantLog(t, f, "open/1, suspend/1, resume/1")
			})
		})
	}
}

func TestRegisterIsNoPing(t *testing.T) {
	run(t, func(t *testing.T, f *fake) {
		s := openSession(t, newQuietManager(t, f, short), "h")
		time.Sleep(short / 2)
		check(t, "register", func() error { return s.Register("t", "") }, nil, 0)
		time.Sleep(short * 3 / 4)
		wantShows(t, f, s, false)
		check(t, "while hidden", func() error { return s.Register("u", "") }, nil, 0)
		wantLog(t, f, "open/1, +t, suspend/1, +u")
		ping(t, s)
		wantShows(t, f, s, true)
	})
}

func TestPingsWriteNothing(t *testing.T) {
	run(t, func(t *testing.T, f *fake) {
		m := newQuietManager(t, f, 0)
		sessions := make([]*session.Session, 1000)
		for i := range sessions {
			sessions[i] = openSession(t, m, fmt.Sprint("h", i))
			check(t, "register", func() error { return sessions[i].Register("t", "c") }, nil, 0)
		}
		before, _ := f.proposals()
		for began := time.Now(); time.Since(began) < time.Hour; time.Sleep(15 * time.Second) {
			for _, s := range sessions {
				s.Ping()
			}
		}
		synctest.Wait()
		if after, _ := f.proposals(); after != before {
			t.Errorf("%d proposals in an hour of PINGs", after-before)
		}
	})
}

func TestSuspendIsTriedUntilItsOutcomeIsKnown(t *testing.T) {
	for _, c := range []struct {
		what   string
		sent   bool
		ping   bool
		after  string
		hidden bool
	}{
		{"silent", false, false, "open/1, suspend/1", true},
		{"heard again before it was sent", false, true, "open/1", false},
		{"heard again after it was sent", true, true, "open/1, suspend/1, resume/1", false},
	} {
		t.Run(c.what, func(t *testing.T) {
			run(t, func(t *testing.T, f *fake) {
				s := openSession(t, newQuietManager(t, f, short), "h")
				f.be(func() { f.sent = c.sent })
				f.set(true, false)
				time.Sleep(250 * time.Millisecond)
				if c.ping {
					ping(t, s)
				}
				f.set(true, true)
				wantLog(t, f, c.after)
				wantShows(t, f, s, !c.hidden)
			})
		})
	}
}

func TestResumeIsTriedUntilItsOutcomeIsKnown(t *testing.T) {
	run(t, func(t *testing.T, f *fake) {
		s := openSession(t, newQuietManager(t, f, short), "h")
		time.Sleep(time.Second)
		f.set(false, false)
		ping(t, s)
		time.Sleep(time.Minute) // silent again: what waits has become needless
		f.set(true, true)
		wantLog(t, f, "open/1, suspend/1")
		f.set(true, false)
		ping(t, s)
		f.set(true, true)
		wantLog(t, f, "open/1, suspend/1, resume/1")
		wantShows(t, f, s, true)
	})
}

func TestSuspendAfterTheQueueWasFull(t *testing.T) {
	for _, pinged := range []bool{false, true} {
		t.Run(fmt.Sprintf("pinged=%v", pinged), func(t *testing.T) {
			run(t, func(t *testing.T, f *fake) {
				s := openSession(t, newQuietManager(t, f, short), "h")
				f.be(func() { f.refuse = cluster.ErrOverloaded })
				time.Sleep(250 * time.Millisecond)
				f.be(func() { f.refuse = nil })
				want := "open/1, suspend/1"
				if pinged {
					ping(t, s)
					want = "open/1"
				}
				time.Sleep(time.Second - 250*time.Millisecond)
				for range 10 {
					if pinged {
						ping(t, s)
					}
					time.Sleep(short / 2)
				}
				wantLog(t, f, want)
			})
		})
	}
}

func TestSilentBeforeItIsOpen(t *testing.T) {
	run(t, func(t *testing.T, f *fake) {
		f.set(false, false)
		s := openSession(t, newQuietManager(t, f, short), "h")
		time.Sleep(time.Second)
		f.set(true, true)
		wantShows(t, f, s, false)
		ping(t, s)
		wantShows(t, f, s, true)
	})
}

func TestOpenedAgainWhileSilent(t *testing.T) {
	for _, lag := range []bool{false, true} {
		t.Run(fmt.Sprintf("lag=%v", lag), func(t *testing.T) {
			run(t, func(t *testing.T, f *fake) {
				s := openSession(t, newQuietManager(t, f, short), "h")
				check(t, "register", func() error { return s.Register("t", "") }, nil, 0)
				want := "open/1, +t, suspend/1, close/1, open/2, suspend/2, +t"
				if lag { // the SuspendSession is what finds the session closed
					want = "open/1, +t, close/1, suspend/1, open/2, suspend/2, +t"
				} else {
					time.Sleep(time.Second)
				}
				f.lag(lag)
				closeIt(f, s.Producer())
				time.Sleep(time.Second)
				wantLog(t, f, want)
				f.lag(false)
				wantShows(t, f, s, false)
				wantHeld(t, f, s.Producer(), name{"t", ""})
				ping(t, s)
				wantShows(t, f, s, true)
			})
		})
	}
}

func TestOpenedAgainWhenResumeIsRefused(t *testing.T) {
	run(t, func(t *testing.T, f *fake) {
		s := openSession(t, newQuietManager(t, f, short), "h")
		time.Sleep(time.Second)
		f.lag(true)
		closeIt(f, s.Producer())
		ping(t, s)
		wantLog(t, f, "open/1, suspend/1, close/1, resume/1, open/2")
		wantShows(t, f, s, true)
	})
}

func TestHeldIsKnownWhileASuspendIsUnderWay(t *testing.T) {
	run(t, func(t *testing.T, f *fake) {
		s := openSession(t, newQuietManager(t, f, short), "h")
		check(t, "register", func() error { return s.Register("t", "") }, nil, 0)
		f.be(func() { f.mute = true })
		time.Sleep(time.Second)
		check(t, "again", func() error { return s.Register("t", "") }, nil, 0)
		f.deliver()
		wantLog(t, f, "open/1, +t, suspend/1")
	})
}

func TestSilentAndReplaced(t *testing.T) {
	run(t, func(t *testing.T, f *fake) {
		m := newQuietManager(t, f, short)
		openSession(t, m, "h")
		f.be(func() { f.sent, f.quorum = true, false })
		time.Sleep(250 * time.Millisecond)
		f.delay() // the SuspendSession of the first
		f.set(true, true)
		s := openSession(t, m, "h")
		f.deliver()
		wantLog(t, f, "open/1, open/2, suspend/1")
		wantShows(t, f, s, true)
		s.Close()
		time.Sleep(time.Second)
		wantLog(t, f, "open/1, open/2, suspend/1, close/2")
	})
}

// listener is a log handler that counts a message, and stops who says it first.
type listener struct {
	slog.Handler
	message string
	delay   time.Duration
	heard   atomic.Int64
}

func (l *listener) Enabled(context.Context, slog.Level) bool { return true }

func (l *listener) Handle(_ context.Context, r slog.Record) error {
	if r.Message == l.message && l.heard.Add(1) == 1 {
		time.Sleep(l.delay)
	}
	return nil
}

// A peer that stood still finds all its sessions silent; the PINGs are in its
// sockets.
func TestPeerThatStoodStill(t *testing.T) {
	run(t, func(t *testing.T, f *fake) {
		log := &listener{Handler: slog.DiscardHandler, message: "session suspended: no PING", delay: time.Minute}
		m := startManager(t, session.Config{InactiveTimeout: 10 * time.Second, Cluster: f, Feed: f, Logger: slog.New(log)})
		openSession(t, m, "silent")
		time.Sleep(5 * time.Second)
		s := openSession(t, m, "alive")
		time.Sleep(5*time.Second + time.Minute + 700*time.Millisecond) // the checks go on
		s.Ping()
		time.Sleep(9 * time.Second)
		wantShows(t, f, s, true)
		wantLog(t, f, "open/1, open/2, suspend/1")
		if got := log.heard.Load(); got != 1 {
			t.Errorf("said %d times that a session is suspended", got)
		}
	})
}

func TestSessionsList(t *testing.T) {
	run(t, func(t *testing.T, f *fake) {
		m := newQuietManager(t, f, short)
		openSession(t, m, "b")
		time.Sleep(time.Second)
		a := openSession(t, m, "a")
		f.set(false, false)
		if err := a.Register("t", "c"); !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("register: %v", err)
		}
		time.Sleep(time.Millisecond)
		want := []session.Status{
			{Producer: "a:4150", PingAge: time.Millisecond, Pending: 1},
			{Producer: "b:4150", PingAge: time.Second + time.Millisecond, Suspended: true},
		}
		want[0].ID.Seq, want[1].ID.Seq = 2, 1
		for i := range want {
			want[i].ID.Node, want[i].ID.Epoch = self, 1
		}
		if diff := cmp.Diff(want, m.Sessions()); diff != "" {
			t.Errorf("sessions (-want +got):\n%s", diff)
		}
		if got := m.Stats(); got.Sessions != 2 || got.Suspended != 1 {
			t.Errorf("stats: %+v", got)
		}
	})
}
