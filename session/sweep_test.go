package session_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/session"
)

const other registry.NodeID = "b-00000002"

// restart ends the peer's manager as its process ends: no session is closed.
func restart(t *testing.T, f *fake, old *session.Manager, epoch uint64) *session.Manager {
	t.Helper()
	old.Close()
	return startManager(t, session.Config{Epoch: epoch, Cluster: f, Feed: f})
}

// left opens a session on a peer that was restarted, with names held since before.
func left(t *testing.T, f *fake, names ...name) *session.Session {
	t.Helper()
	m := newManager(t, f, session.Limits{})
	s := openSession(t, m, "h")
	for _, n := range names {
		check(t, "register", func() error { return s.Register(n.topic, n.channel) }, nil, 0)
	}
	return openSession(t, restart(t, f, m, 2), "h")
}

// haunt makes this peer hold a name that no session declares.
func haunt(f *fake, p registry.ProducerID, topic string) {
	open, _ := f.session(p)
	f.commit(registry.Register{Session: open.ID, Producer: p, Topic: topic})
}

func TestSweep(t *testing.T) {
	run(t, func(t *testing.T, f *fake) {
		s := left(t, f, name{"a", "c"}, name{"a", "d"}, name{"a", "e#ephemeral"}, name{"b", "c"}, name{"b", "d"}, name{"x#ephemeral", "c"})
		elsewhere := registry.SessionID{Node: other, Epoch: 1, Seq: 1}
		f.commit(
			registry.OpenSession{Session: elsewhere, Producer: producer("h")},
			registry.Register{Session: elsewhere, Producer: s.Producer(), Topic: "b", Channel: "d"},
		)
		check(t, "register", func() error { return s.Register("a", "c") }, nil, 0)
		before := len(f.committed())
		time.Sleep(5*time.Second - 1)
		ping(t, s)
		if got := len(f.committed()) - before; got != 0 {
			t.Errorf("swept before its time: %s", words(f))
		}
		time.Sleep(time.Nanosecond)
		ping(t, s)
		wantHeld(t, f, s.Producer(), name{"a", ""}, name{"a", "c"})
		if diff := cmp.Diff([]name{{"b", ""}, {"b", "d"}}, f.held(other, s.Producer()), cmp.AllowUnexported(name{})); diff != "" {
			t.Errorf("held by the other peer (-want +got):\n%s", diff)
		}
		if got := len(f.committed()) - before; got != 4 { // a d, a e#ephemeral, b, x#ephemeral
			t.Errorf("%d commands: %s", got, words(f))
		}
	})
}

func TestSweepOfNothingWritesNothing(t *testing.T) {
	run(t, func(t *testing.T, f *fake) {
		names := make([]name, 100)
		for i := range names {
			names[i] = name{fmt.Sprint("t", i), "c"}
		}
		s := left(t, f, names...)
		before := len(f.committed())
		for _, n := range names {
			check(t, "register", func() error { return s.Register(n.topic, n.channel) }, nil, 0)
		}
		for range 100 {
			time.Sleep(15 * time.Second)
			ping(t, s)
		}
		if got := len(f.committed()); got != before {
			t.Errorf("%d commands", got-before)
		}
	})
}

func TestSweepWaitsForTheLastRegister(t *testing.T) {
	run(t, func(t *testing.T, f *fake) {
		s := left(t, f, name{"old", ""}, name{"t", ""})
		for range 10 {
			time.Sleep(4 * time.Second)
			check(t, "register", func() error { return s.Register("t", "") }, nil, 0)
			time.Sleep(4 * time.Second)
			ping(t, s)
		}
		wantHeld(t, f, s.Producer(), name{"old", ""}, name{"t", ""})
		time.Sleep(time.Second)
		wantHeld(t, f, s.Producer(), name{"old", ""}, name{"t", ""}) // only a PING begins it
		check(t, "unregister", func() error { return s.Unregister("other", "") }, nil, 0)
		ping(t, s)
		wantHeld(t, f, s.Producer(), name{"t", ""})
	})
}

func TestSweepOncePerOpening(t *testing.T) {
	run(t, func(t *testing.T, f *fake) {
		s := left(t, f, name{"old", ""})
		time.Sleep(5 * time.Second)
		ping(t, s)
		wantHeld(t, f, s.Producer())
		haunt(f, s.Producer(), "ghost")
		check(t, "register", func() error { return s.Register("t", "") }, nil, 0)
		time.Sleep(time.Minute)
		ping(t, s)
		wantHeld(t, f, s.Producer(), name{"ghost", ""}, name{"t", ""})
		closeIt(f, s.Producer())
		wantHeld(t, f, s.Producer(), name{"t", ""})
		haunt(f, s.Producer(), "ghost")
		time.Sleep(5*time.Second - 1) // it was opened again 5 s ago, almost
		ping(t, s)
		wantHeld(t, f, s.Producer(), name{"ghost", ""}, name{"t", ""})
		time.Sleep(time.Nanosecond)
		ping(t, s)
		wantHeld(t, f, s.Producer(), name{"t", ""})
	})
}

func TestSweepWaitsForAStateThatKnows(t *testing.T) {
	run(t, func(t *testing.T, f *fake) {
		m := newManager(t, f, session.Limits{})
		s := openSession(t, m, "h")
		check(t, "register", func() error { return s.Register("old", "") }, nil, 0)
		check(t, "register", func() error { return s.Register("t", "") }, nil, 0)
		m = restart(t, f, m, 2)
		f.lag(true) // what the old session left is not seen yet
		s = openSession(t, m, "h")
		for range 10 {
			time.Sleep(15 * time.Second)
			ping(t, s)
		}
		f.lag(false)
		wantLog(t, f, "open/1, +old, +t, open/1")
		f.lag(true)
		check(t, "unregister", func() error { return s.Unregister("t", "") }, nil, 0)
		ping(t, s) // t is still held in this peer's state
		wantLog(t, f, "open/1, +old, +t, open/1, -t")
		f.lag(false)
		ping(t, s)
		wantHeld(t, f, s.Producer())
		wantLog(t, f, "open/1, +old, +t, open/1, -t, -old")
	})
}

func TestSweepNeverUndoesARegister(t *testing.T) {
	for _, c := range []struct {
		what  string
		names []name // registered while what the sweep proposes waits
		log   string
		want  []name // after it
	}{
		{"topic", []name{{"t", ""}}, "-t, +t, -old", []name{{"t", ""}}},
		{"channel", []name{{"t", "c"}}, "-t, +t c, -old", []name{{"t", ""}, {"t", "c"}}},
		{"another topic", []name{{"new", ""}}, "-t, -old, +new", []name{{"new", ""}}},
	} {
		t.Run(c.what, func(t *testing.T) {
			run(t, func(t *testing.T, f *fake) {
				s := left(t, f, name{"t", "c"}, name{"t", "d"}, name{"old", ""})
				time.Sleep(5 * time.Second)
				f.be(func() { f.quorum = false })
				ping(t, s)
				for _, n := range c.names {
					check(t, "register", func() error { return s.Register(n.topic, n.channel) }, session.ErrUnavailable, limit)
				}
				f.set(true, true)
				synctest.Wait()
				wantLog(t, f, "open/1, +t c, +t d, +old, open/1, "+c.log)
				wantHeld(t, f, s.Producer(), c.want...)
				time.Sleep(5 * time.Second)
				ping(t, s)
				wantHeld(t, f, s.Producer(), c.want...)
			})
		})
	}
}

// What was declared before the sweep is safe even where the state does not know yet.
func TestSweepKeepsWhatIsUnderWay(t *testing.T) {
	run(t, func(t *testing.T, f *fake) {
		s := left(t, f, name{"t", "c"}, name{"t", "d"}, name{"old", ""})
		f.be(func() { f.mute = true })
		if err := s.Register("t", "new"); !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("register: %v", err)
		}
		if err := s.Register("u", ""); !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("register: %v", err)
		}
		time.Sleep(5 * time.Second)
		ping(t, s) // all but t, of which something is under way
		f.deliver()
		wantHeld(t, f, s.Producer(), name{"t", ""}, name{"t", "c"}, name{"t", "d"}, name{"t", "new"}, name{"u", ""})
		ping(t, s)
		wantHeld(t, f, s.Producer(), name{"t", ""}, name{"t", "new"}, name{"u", ""})
		wantLog(t, f, "open/1, +t c, +t d, +old, open/1, +t new, +u, -old, -t c, -t d")
	})
}

func TestSweepOfWhatWasDeletedMeanwhile(t *testing.T) {
	run(t, func(t *testing.T, f *fake) {
		s := left(t, f, name{"t", "c"}, name{"u", "c"}, name{"x#ephemeral", ""})
		f.commit(registry.DeleteTopic{Topic: "t"}, registry.DeleteChannel{Topic: "u", Channel: "c"}, registry.DeleteTopic{Topic: "x#ephemeral"})
		check(t, "register", func() error { return s.Register("u", "") }, nil, 0)
		before := len(f.committed())
		time.Sleep(5 * time.Second)
		ping(t, s)
		if got := len(f.committed()) - before; got != 0 {
			t.Errorf("%d commands: %s", got, words(f))
		}
	})
}

func TestSweepOfASessionThatEnds(t *testing.T) {
	for _, how := range []string{"closed", "replaced", "closed by the leader", "stopped"} {
		t.Run(how, func(t *testing.T) {
			run(t, func(t *testing.T, f *fake) {
				m := newManager(t, f, session.Limits{})
				s := openSession(t, m, "h")
				haunt(f, s.Producer(), "old")
				time.Sleep(5 * time.Second)
				f.be(func() { f.quorum = false })
				ping(t, s)
				want := "open/1, +old"
				switch how {
				case "closed":
					s.Close()
					want += ", close/1"
				case "replaced":
					go func() { _, _ = m.Open(producer("h"), func(string) {}) }()
					want += ", open/2"
				case "closed by the leader":
					closeIt(f, s.Producer())
					want += ", close/1, -old, open/2" // too late
				case "stopped":
					m.Close()
					want += ", -old" // under way
				}
				synctest.Wait()
				f.be(func() { f.quorum = true })
				time.Sleep(2 * time.Second)
				wantLog(t, f, want)
			})
		})
	}
}

func TestSweepOfManyNames(t *testing.T) {
	run(t, func(t *testing.T, f *fake) {
		s := openSession(t, newManager(t, f, session.Limits{}), "h")
		open, _ := f.session(s.Producer())
		var commands []registry.Command
		for i := range 700 {
			commands = append(commands,
				registry.Register{Session: open.ID, Producer: s.Producer(), Topic: fmt.Sprint("t", i), Channel: "c"},
				registry.Register{Session: open.ID, Producer: s.Producer(), Topic: "big", Channel: fmt.Sprint("c", i)})
		}
		f.commit(commands...)
		check(t, "register", func() error { return s.Register("big", "") }, nil, 0)
		time.Sleep(5 * time.Second)
		ping(t, s)
		wantHeld(t, f, s.Producer(), name{"big", ""})
	})
}
