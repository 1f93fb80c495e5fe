package session_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/session"
)

// limit is how long nsqd may have to wait.
const limit = 800 * time.Millisecond

// run tests in a bubble with virtual time.
func run(t *testing.T, fn func(t *testing.T, f *fake)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { fn(t, newFake(t)) })
}

func wantHeld(t *testing.T, f *fake, p registry.ProducerID, want ...name) {
	t.Helper()
	synctest.Wait()
	if diff := cmp.Diff(want, f.held(self, p), cmp.AllowUnexported(name{})); diff != "" {
		t.Errorf("held by %s (-want +got):\n%s", p, diff)
	}
}

// words are the log's commands, short.
func words(f *fake) string {
	var all []string
	for _, c := range f.committed() {
		switch c := c.(type) {
		case registry.OpenSession:
			all = append(all, fmt.Sprintf("open/%d", c.Session.Seq))
		case registry.CloseSession:
			all = append(all, fmt.Sprintf("close/%d", c.Session.Seq))
		case registry.SuspendSession:
			all = append(all, fmt.Sprintf("suspend/%d", c.Session.Seq))
		case registry.ResumeSession:
			all = append(all, fmt.Sprintf("resume/%d", c.Session.Seq))
		case registry.Register:
			all = append(all, strings.TrimSpace("+"+c.Topic+" "+c.Channel))
		case registry.Unregister:
			all = append(all, strings.TrimSpace("-"+c.Topic+" "+c.Channel))
		default:
			all = append(all, strings.TrimPrefix(fmt.Sprintf("%T", c), "registry."))
		}
	}
	return strings.Join(all, ", ")
}

func wantLog(t *testing.T, f *fake, want string) {
	t.Helper()
	synctest.Wait()
	if got := words(f); got != want {
		t.Errorf("log:\n got %s\nwant %s", got, want)
	}
}

func TestCommittedIsNil(t *testing.T) {
	run(t, func(t *testing.T, f *fake) {
		m := newManager(t, f, session.Limits{})
		s := openSession(t, m, "h")
		check(t, "register topic", func() error { return s.Register("t", "") }, nil, 0)
		check(t, "register channel", func() error { return s.Register("u", "c") }, nil, 0)
		check(t, "unregister channel", func() error { return s.Unregister("u", "c") }, nil, 0)
		wantHeld(t, f, s.Producer(), name{"t", ""}, name{"u", ""})
		check(t, "unregister topic", func() error { return s.Unregister("u", "") }, nil, 0)
		wantHeld(t, f, s.Producer(), name{"t", ""})
		wantLog(t, f, "open/1, +t, +u c, -u c, -u")
		if got := m.Stats(); got != (session.Stats{Sessions: 1}) {
			t.Errorf("stats: %+v", got)
		}
	})
}

func TestNoEntryForWhatIsHeldOrUnknown(t *testing.T) {
	run(t, func(t *testing.T, f *fake) {
		m := newManager(t, f, session.Limits{})
		s := openSession(t, m, "h")
		check(t, "register", func() error { return s.Register("t", "c") }, nil, 0)
		f.lag(true)
		check(t, "again", func() error { return s.Register("t", "c") }, nil, 0)
		check(t, "its topic", func() error { return s.Register("t", "") }, nil, 0)
		check(t, "unknown channel", func() error { return s.Unregister("t", "d") }, nil, 0)
		check(t, "unknown topic", func() error { return s.Unregister("x", "") }, nil, 0)
		wantLog(t, f, "open/1, +t c")
		// An ephemeral name without a producer goes by anybody's UNREGISTER.
		check(t, "ephemeral", func() error { return s.Unregister("t", "d#ephemeral") }, nil, 0)
		wantLog(t, f, "open/1, +t c, -t d#ephemeral")
	})
}

func TestLaggingStateIsNotBelieved(t *testing.T) {
	run(t, func(t *testing.T, f *fake) {
		m := newManager(t, f, session.Limits{})
		s := openSession(t, m, "h")
		check(t, "register", func() error { return s.Register("t", "") }, nil, 0)
		f.lag(true)
		f.commit(registry.DeleteTopic{Topic: "t"})
		check(t, "deleted meanwhile", func() error { return s.Register("t", "") }, nil, 0)
		wantHeld(t, f, s.Producer(), name{"t", ""})
		check(t, "register unseen", func() error { return s.Register("u", "") }, nil, 0)
		check(t, "unregister unseen", func() error { return s.Unregister("u", "") }, nil, 0)
		wantHeld(t, f, s.Producer(), name{"t", ""})
	})
}

func TestUnavailableThenCommitted(t *testing.T) {
	for _, leader := range []bool{true, false} {
		t.Run(fmt.Sprintf("leader=%v", leader), func(t *testing.T) {
			run(t, func(t *testing.T, f *fake) {
				wait := limit
				if !leader {
					wait = 0 // at once
				}
				f.set(leader, false)
				m := newManager(t, f, session.Limits{})
				var s *session.Session
				check(t, "open", func() error { s = openSession(t, m, "h"); return nil }, nil, wait)
				check(t, "register", func() error { return s.Register("t", "c") }, session.ErrUnavailable, wait)
				check(t, "another", func() error { return s.Register("u", "") }, session.ErrUnavailable, wait)
				check(t, "unregister", func() error { return s.Unregister("v", "") }, session.ErrUnavailable, wait)
				if got := m.Stats(); got.Sessions != 1 || got.DeclaredPending != 3 || got.PendingFor != 3*wait {
					t.Errorf("stats: %+v", got)
				}
				wantHeld(t, f, s.Producer())
				time.Sleep(time.Hour)
				f.set(true, true)
				wantHeld(t, f, s.Producer(), name{"t", ""}, name{"t", "c"}, name{"u", ""})
				if got := m.Stats(); got != (session.Stats{Sessions: 1, Suspended: 1}) {
					t.Errorf("stats after heal: %+v", got)
				}
			})
		})
	}
}

// A topic with more changes than a proposal holds goes in parts. What waits behind
// the first is no reason to take that back.
func TestPartsWaitForAQuorum(t *testing.T) {
	for _, reopened := range []bool{false, true} {
		t.Run(fmt.Sprintf("reopened=%v", reopened), func(t *testing.T) {
			run(t, func(t *testing.T, f *fake) {
				m := newManager(t, f, session.Limits{})
				s := openSession(t, m, "h")
				want := []name{{"t", ""}}
				f.set(reopened, reopened)
				for i := range 2*cluster.MaxProposalCommands + 10 {
					want = append(want, name{"t", fmt.Sprintf("c%03d", i)})
					if err := s.Register("t", want[i+1].channel); (err == nil) != reopened {
						t.Fatal(err)
					}
				}
				if reopened {
					f.be(func() { f.slow = true })
					closeIt(f, s.Producer())
				}
				synctest.Wait()
				before, _ := f.proposals()
				time.Sleep(time.Hour)
				if after, _ := f.proposals(); after != before {
					t.Errorf("%d proposals in an hour", after-before)
				}
				f.be(func() { f.leader, f.quorum, f.slow = true, true, false })
				wantHeld(t, f, s.Producer(), want...)
				if got := m.Stats(); got != (session.Stats{Sessions: 1, Suspended: 1}) {
					t.Errorf("stats: %+v", got)
				}
			})
		})
	}
}

// A change of a topic whose parts are on their way counts all the same.
func TestPartsAreTakenBack(t *testing.T) {
	run(t, func(t *testing.T, f *fake) {
		s := openSession(t, newManager(t, f, session.Limits{}), "h")
		f.set(false, false)
		for i := range cluster.MaxProposalCommands + 10 {
			check(t, "register", func() error { return s.Register("t", fmt.Sprint("c", i)) }, session.ErrUnavailable, 0)
		}
		check(t, "unregister", func() error { return s.Unregister("t", "") }, session.ErrUnavailable, 0)
		synctest.Wait()
		f.set(true, true)
		wantHeld(t, f, s.Producer())
		wantLog(t, f, "open/1, -t")
	})
}

func TestCommittedWhileWaiting(t *testing.T) {
	run(t, func(t *testing.T, f *fake) {
		m := newManager(t, f, session.Limits{})
		s := openSession(t, m, "h")
		check(t, "held before", func() error { return s.Register("t", "") }, nil, 0)
		for _, name := range []string{"new", "t"} {
			f.set(true, false)
			time.AfterFunc(300*time.Millisecond, func() { f.set(true, true) })
			check(t, name, func() error { return s.Register(name, "") }, nil, 300*time.Millisecond)
		}
		wantLog(t, f, "open/1, +t, +new")
	})
}

func TestBarrierFailsThenProposed(t *testing.T) {
	run(t, func(t *testing.T, f *fake) {
		m := newManager(t, f, session.Limits{})
		s := openSession(t, m, "h")
		check(t, "register", func() error { return s.Register("t", "") }, nil, 0)
		f.set(true, false)
		check(t, "held", func() error { return s.Register("t", "") }, session.ErrUnavailable, limit)
		f.set(true, true)
		wantHeld(t, f, s.Producer(), name{"t", ""})
	})
}

func TestWithdrawnBeforeItWasSent(t *testing.T) {
	run(t, func(t *testing.T, f *fake) {
		m := newManager(t, f, session.Limits{})
		s := openSession(t, m, "h")
		f.set(false, false)
		for _, n := range []name{{"t", ""}, {"u", "c"}, {"u", "d"}, {"w", "c"}} {
			check(t, "register", func() error { return s.Register(n.topic, n.channel) }, session.ErrUnavailable, 0)
		}
		synctest.Wait() // the first proposal is in the queue of the cluster
		check(t, "withdraw topic", func() error { return s.Unregister("t", "") }, session.ErrUnavailable, 0)
		check(t, "withdraw channels", func() error { return s.Unregister("u", "") }, session.ErrUnavailable, 0)
		check(t, "withdraw channel", func() error { return s.Unregister("w", "c") }, session.ErrUnavailable, 0)
		synctest.Wait() // what was on its way into the queue is out of it again
		f.set(true, true)
		wantHeld(t, f, s.Producer(), name{"w", ""})
		for _, c := range f.committed() {
			if r, ok := c.(registry.Register); ok && (r.Topic != "w" || r.Channel != "") {
				t.Errorf("withdrawn, but committed: %+v", r)
			}
		}
	})
}

func TestCoalesced(t *testing.T) {
	run(t, func(t *testing.T, f *fake) {
		m := newManager(t, f, session.Limits{Registrations: 50})
		s := openSession(t, m, "h")
		f.mu.Lock()
		f.sent = true
		f.mu.Unlock()
		f.set(false, false)
		check(t, "under way", func() error { return s.Register("first", "") }, session.ErrUnavailable, 0)
		synctest.Wait()
		for range 1000 {
			check(t, "register", func() error { return s.Register("t", "c") }, session.ErrUnavailable, 0)
			check(t, "unregister", func() error { return s.Unregister("t", "") }, session.ErrUnavailable, 0)
			check(t, "register", func() error { return s.Register("t", "") }, session.ErrUnavailable, 0)
			check(t, "register", func() error { return s.Register("t", "d") }, session.ErrUnavailable, 0)
			check(t, "unregister", func() error { return s.Unregister("t", "d") }, session.ErrUnavailable, 0)
		}
		f.set(true, true)
		wantHeld(t, f, s.Producer(), name{"first", ""}, name{"t", ""})
		wantLog(t, f, "open/1, +first, -t, +t, -t d")
	})
}

func TestManyWaitingGoInBatches(t *testing.T) {
	run(t, func(t *testing.T, f *fake) {
		m := newManager(t, f, session.Limits{})
		f.set(false, false)
		s := openSession(t, m, "h")
		want := 0
		for i := range 700 {
			check(t, "register", func() error { return s.Register(fmt.Sprint("t", i), "") }, session.ErrUnavailable, 0)
			check(t, "register", func() error { return s.Register("big", fmt.Sprint("c", i)) }, session.ErrUnavailable, 0)
			want += 2
		}
		f.set(true, true)
		synctest.Wait()
		if got := len(f.held(self, s.Producer())); got != want+1 {
			t.Errorf("held %d names, want %d", got, want+1)
		}
	})
}

func TestLimits(t *testing.T) {
	run(t, func(t *testing.T, f *fake) {
		m := newManager(t, f, session.Limits{Registrations: 4, Topics: 3, Channels: 2})
		s := openSession(t, m, "h")
		check(t, "t c", func() error { return s.Register("t", "c") }, nil, 0)
		check(t, "t d", func() error { return s.Register("t", "d") }, nil, 0)
		check(t, "third channel", func() error { return s.Register("t", "e") }, session.ErrLimit, 0)
		check(t, "T33 two names, one free", func() error { return s.Register("u", "c") }, session.ErrLimit, 0)
		check(t, "fourth name", func() error { return s.Register("u", "") }, nil, 0)
		check(t, "fifth name", func() error { return s.Register("v", "") }, session.ErrLimit, 0)
		check(t, "old name", func() error { return s.Register("t", "c") }, nil, 0)
		wantHeld(t, f, s.Producer(), name{"t", ""}, name{"t", "c"}, name{"t", "d"}, name{"u", ""})
		other := openSession(t, m, "i")
		check(t, "third topic", func() error { return other.Register("v", "") }, nil, 0)
		check(t, "fourth topic", func() error { return other.Register("w", "") }, session.ErrLimit, 0)
		check(t, "known topic", func() error { return other.Register("u", "") }, nil, 0)
	})
}

func TestLimitsInAll(t *testing.T) {
	run(t, func(t *testing.T, f *fake) {
		m := newManager(t, f, session.Limits{InAll: 4})
		s, other := openSession(t, m, "h"), openSession(t, m, "i")
		check(t, "two registrations", func() error { return s.Register("t", "c") }, nil, 0)
		check(t, "two more", func() error { return other.Register("t", "c") }, nil, 0)
		check(t, "fifth", func() error { return other.Register("u", "") }, session.ErrLimit, 0)
		check(t, "one that is there", func() error { return other.Register("t", "c") }, nil, 0)
		for i := range 3 { // channels stay, so they are bounded too
			check(t, "withdraw", func() error { return other.Unregister("t", "") }, nil, 0)
			check(t, "another channel", func() error { return other.Register("t", fmt.Sprint("d", i)) }, nil, 0)
		}
		check(t, "withdraw", func() error { return other.Unregister("t", "") }, nil, 0)
		check(t, "fifth channel", func() error { return other.Register("t", "e") }, session.ErrLimit, 0)
		check(t, "old channel", func() error { return other.Register("t", "d1") }, nil, 0)
	})
}

func TestDiskLow(t *testing.T) {
	run(t, func(t *testing.T, f *fake) {
		m := newManager(t, f, session.Limits{})
		s, ends := openSession(t, m, "h"), openSession(t, m, "i")
		check(t, "enough", func() error { return ends.Register("t", "") }, nil, 0)
		f.setDiskLow(true)
		check(t, "low", func() error { return s.Register("t", "c") }, session.ErrDiskLow, 0)
		late := openSession(t, m, "late")
		ends.Close()
		synctest.Wait()
		wantHeld(t, f, ends.Producer())
		wantHeld(t, f, s.Producer())
		f.setDiskLow(false)
		time.Sleep(2 * time.Second) // the fake clock's; what was refused is tried again by then
		wantHeld(t, f, s.Producer(), name{"t", ""}, name{"t", "c"})
		check(t, "the session that began meanwhile", func() error { return late.Register("t", "") }, nil, 0)
	})
}

// What ends something does not wait behind a REGISTER that the disk has no room for.
func TestDiskLowHoldsUpNothingThatEnds(t *testing.T) {
	run(t, func(t *testing.T, f *fake) {
		s := openSession(t, startManager(t, session.Config{Cluster: f, Feed: f, InactiveTimeout: 10 * time.Second}), "h")
		for _, n := range []name{{"t", "c"}, {"t", "d"}, {"u", "c"}, {"v", ""}} {
			check(t, "enough", func() error { return s.Register(n.topic, n.channel) }, nil, 0)
		}
		f.setDiskLow(true)
		for _, n := range []name{{"new", ""}, {"t", "new"}, {"v", "c"}} {
			check(t, "low", func() error { return s.Register(n.topic, n.channel) }, session.ErrDiskLow, 0)
		}
		time.Sleep(500 * time.Millisecond) // amid the pause
		check(t, "UNREGISTER of a topic", func() error { return s.Unregister("u", "") }, nil, 0)
		check(t, "UNREGISTER of a channel beside one that waits", func() error { return s.Unregister("t", "c") }, session.ErrUnavailable, limit)
		check(t, "UNREGISTER of what waits", func() error { return s.Unregister("v", "") }, nil, 0)
		check(t, "once more", func() error { return s.Register("v", "") }, session.ErrDiskLow, 0)
		wantHeld(t, f, s.Producer(), name{"t", ""}, name{"t", "d"})
		time.Sleep(10 * time.Second)
		if f.shows(s.Producer()) {
			t.Error("the silent producer shows")
		}
		ping(t, s)
		if !f.shows(s.Producer()) {
			t.Error("the producer does not show after its PING")
		}
		if submits, _ := f.proposals(); submits > 60 {
			t.Errorf("%d proposals", submits)
		}
		f.setDiskLow(false)
		time.Sleep(2 * time.Second)
		wantHeld(t, f, s.Producer(), name{"new", ""}, name{"t", ""}, name{"t", "d"}, name{"t", "new"}, name{"v", ""})
	})
}

// A topic with more UNREGISTERs than a proposal holds, and a REGISTER among them.
func TestDiskLowEndsInParts(t *testing.T) {
	run(t, func(t *testing.T, f *fake) {
		m := newManager(t, f, session.Limits{})
		s := openSession(t, m, "h")
		f.set(false, false)
		for i := range 2 * cluster.MaxProposalCommands {
			_ = s.Register("t", fmt.Sprint("c", i))
		}
		f.set(true, true)
		synctest.Wait()
		f.set(false, false)
		f.setDiskLow(true)
		_ = s.Register("t", "new")
		for i := range 2 * cluster.MaxProposalCommands {
			_ = s.Unregister("t", fmt.Sprint("c", i))
		}
		f.set(true, true)
		wantHeld(t, f, s.Producer(), name{"t", ""})
		f.setDiskLow(false)
		time.Sleep(2 * time.Second)
		wantHeld(t, f, s.Producer(), name{"t", ""}, name{"t", "new"})
		if got := m.Stats(); got != (session.Stats{Sessions: 1}) {
			t.Errorf("stats: %+v", got)
		}
	})
}

func TestOutboxIsBoundedWithoutALeader(t *testing.T) {
	run(t, func(t *testing.T, f *fake) {
		m := newManager(t, f, session.Limits{Registrations: 10})
		f.set(false, false)
		s := openSession(t, m, "h")
		refused := 0
		for i := range 100 {
			topic := fmt.Sprint("t", i)
			for _, err := range []error{s.Register(topic, ""), s.Unregister(topic, "")} {
				if errors.Is(err, session.ErrLimit) {
					refused++
				}
			}
		}
		if got := m.Stats().DeclaredPending; refused == 0 || got > 30 {
			t.Errorf("%d changes wait, %d refused", got, refused)
		}
	})
}

func TestClosing(t *testing.T) {
	run(t, func(t *testing.T, f *fake) {
		m := newManager(t, f, session.Limits{})
		s := openSession(t, m, "h")
		check(t, "register", func() error { return s.Register("t", "") }, nil, 0)
		s.Close()
		s.Close()
		wantLog(t, f, "open/1, +t, close/1")
		if got := m.Stats(); got != (session.Stats{}) {
			t.Errorf("stats: %+v", got)
		}
		check(t, "after the end", func() error { return s.Register("u", "") }, session.ErrUnavailable, 0)
		wantLog(t, f, "open/1, +t, close/1")
	})
}

func TestClosingWhileUnsent(t *testing.T) {
	for _, sent := range []bool{false, true} {
		t.Run(fmt.Sprintf("sent=%v", sent), func(t *testing.T) {
			run(t, func(t *testing.T, f *fake) {
				m := newManager(t, f, session.Limits{})
				s := openSession(t, m, "h")
				f.sent = sent
				f.set(true, false)
				check(t, "first", func() error { return s.Register("t", "") }, session.ErrUnavailable, limit)
				check(t, "second", func() error { return s.Register("u", "") }, session.ErrUnavailable, limit)
				s.Close()
				time.Sleep(time.Hour)
				f.set(true, true)
				wantHeld(t, f, s.Producer())
				want := "open/1, close/1"
				if sent {
					want = "open/1, +t, close/1"
				}
				wantLog(t, f, want)
			})
		})
	}
}

func TestReplacedOnTheSamePeer(t *testing.T) {
	run(t, func(t *testing.T, f *fake) {
		m := newManager(t, f, session.Limits{})
		var reasons []string
		info := producer("h")
		old, err := m.Open(info, func(reason string) { reasons = append(reasons, reason) })
		if err != nil {
			t.Fatal(err)
		}
		check(t, "register", func() error { return old.Register("t", "") }, nil, 0)
		f.set(true, false)
		waiting := make(chan error, 1)
		go func() { waiting <- old.Register("late", "") }()
		synctest.Wait()
		info.RemoteAddress = "10.0.0.2:2"
		time.AfterFunc(time.Millisecond, func() { f.set(true, true) })
		s, err := m.Open(info, func(string) { t.Error("the newer session ended") })
		if err != nil {
			t.Fatal(err)
		}
		if err := <-waiting; !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("on the replaced session: %v", err)
		}
		if diff := cmp.Diff([]string{"replaced by a newer connection from 10.0.0.2:2"}, reasons); diff != "" {
			t.Error(diff)
		}
		old.Close() // its connection ends late
		check(t, "on the new one", func() error { return s.Register("u", "") }, nil, 0)
		wantLog(t, f, "open/1, +t, open/2, +u")
		if got := m.Stats().Sessions; got != 1 {
			t.Errorf("%d sessions", got)
		}
		s.Close()
		wantHeld(t, f, s.Producer())
	})
}

// closeIt closes the session as the leader does with those of a lost peer.
func closeIt(f *fake, p registry.ProducerID) {
	open, _ := f.session(p)
	f.commit(registry.CloseSession{Session: open.ID, Producer: p})
}

func TestOpenedAgain(t *testing.T) {
	t.Run("when a change is refused", func(t *testing.T) {
		run(t, func(t *testing.T, f *fake) {
			m := newManager(t, f, session.Limits{})
			s := openSession(t, m, "h")
			check(t, "t c", func() error { return s.Register("t", "c") }, nil, 0)
			check(t, "gone", func() error { return s.Register("gone", "") }, nil, 0)
			check(t, "gone", func() error { return s.Unregister("gone", "") }, nil, 0)
			f.lag(true) // so that the feed does not tell first
			closeIt(f, s.Producer())
			check(t, "u", func() error { return s.Register("u", "") }, nil, 0)
			wantHeld(t, f, s.Producer(), name{"t", ""}, name{"t", "c"}, name{"u", ""})
			f.lag(false)
			synctest.Wait()
			if open, _ := f.session(s.Producer()); open.ID.Seq != 2 {
				t.Errorf("session %v is open", open.ID)
			}
		})
	})
	t.Run("when the feed tells", func(t *testing.T) {
		run(t, func(t *testing.T, f *fake) {
			m := newManager(t, f, session.Limits{})
			s := openSession(t, m, "h")
			check(t, "t", func() error { return s.Register("t", "") }, nil, 0)
			check(t, "ephemeral", func() error { return s.Register("e#ephemeral", "") }, nil, 0)
			closeIt(f, s.Producer())
			wantHeld(t, f, s.Producer(), name{"e#ephemeral", ""}, name{"t", ""})
			check(t, "again", func() error { return s.Register("t", "") }, nil, 0)
		})
	})
	t.Run("not what others deleted", func(t *testing.T) {
		run(t, func(t *testing.T, f *fake) {
			m := newManager(t, f, session.Limits{})
			s := openSession(t, m, "h")
			for _, n := range []name{{"deleted", "c"}, {"back", ""}, {"t", "deleted"}, {"t", "c"}} {
				check(t, "register", func() error { return s.Register(n.topic, n.channel) }, nil, 0)
			}
			f.commit(registry.DeleteTopic{Topic: "deleted"})
			f.commit(registry.DeleteTopic{Topic: "back"})
			f.commit(registry.DeleteChannel{Topic: "t", Channel: "deleted"})
			check(t, "back", func() error { return s.Register("back", "") }, nil, 0)
			synctest.Wait()
			closeIt(f, s.Producer())
			wantHeld(t, f, s.Producer(), name{"back", ""}, name{"t", ""}, name{"t", "c"})
		})
	})
}

func TestLateFeedDropsNothingNew(t *testing.T) {
	run(t, func(t *testing.T, f *fake) {
		m := newManager(t, f, session.Limits{})
		s := openSession(t, m, "h")
		check(t, "register", func() error { return s.Register("t", "c") }, nil, 0)
		f.lag(true)
		f.commit(registry.DeleteTopic{Topic: "t"})
		check(t, "again", func() error { return s.Register("t", "d") }, nil, 0)
		f.lag(false) // now the deletion shows in the feed, after the REGISTER was answered
		synctest.Wait()
		closeIt(f, s.Producer())
		wantHeld(t, f, s.Producer(), name{"t", ""}, name{"t", "d"})
	})
}

func TestStopClosesNoSession(t *testing.T) {
	run(t, func(t *testing.T, f *fake) {
		m := newManager(t, f, session.Limits{})
		s := openSession(t, m, "h")
		f.set(true, false)
		waiting := make(chan error, 1)
		go func() { waiting <- s.Register("t", "") }()
		synctest.Wait()
		check(t, "close", func() error { m.Close(); return nil }, nil, 0)
		if err := <-waiting; !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("waiting: %v", err)
		}
		s.Close()
		m.Close()
		if _, err := m.Open(producer("i"), func(string) {}); !errors.Is(err, session.ErrStopped) {
			t.Errorf("open: %v", err)
		}
		wantLog(t, f, "open/1")
	})
}

func TestLastPing(t *testing.T) {
	run(t, func(t *testing.T, f *fake) {
		m := newManager(t, f, session.Limits{})
		if _, found := m.LastPing("h:4150"); found {
			t.Error("a ping of nobody")
		}
		s := openSession(t, m, "h")
		opened := time.Now()
		time.Sleep(time.Minute)
		if at, found := m.LastPing("h:4150"); !found || !at.Equal(opened) {
			t.Errorf("before the first ping: %v %v", at, found)
		}
		s.Ping()
		if at, _ := m.LastPing("h:4150"); !at.Equal(opened.Add(time.Minute)) {
			t.Errorf("after the ping: %v", at)
		}
	})
}
