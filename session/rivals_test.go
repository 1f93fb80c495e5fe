package session_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/session"
)

// of is an nsqd that announces n1:4150 and runs elsewhere.
func of(host, remote string) registry.ProducerInfo {
	p := producer("n1")
	p.Hostname, p.RemoteAddress = host, remote
	return p
}

func openOf(t *testing.T, m *session.Manager, p registry.ProducerInfo) *session.Session {
	t.Helper()
	s, err := m.Open(p, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func wantShared(t *testing.T, when string, m *session.Manager, want ...cluster.SharedAddress) {
	t.Helper()
	if diff := cmp.Diff(want, m.SharedAddresses()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", when, diff)
	}
}

// TestTwoNSQDsOfOneAddress take each other's place on one peer.
func TestTwoNSQDsOfOneAddress(t *testing.T) {
	run(t, func(t *testing.T, f *fake) {
		m := newManager(t, f, session.Limits{})
		first, second := of("h1", "10.0.0.1:5000"), of("h2", "10.0.0.2:5000")
		both := cluster.SharedAddress{Producer: first.ID(), First: "h1 (10.0.0.1)", Second: "h2 (10.0.0.2)"}
		openOf(t, m, first)
		openOf(t, m, of("h1", "10.0.0.1:5001"))
		openOf(t, m, of("h1", "10.0.0.1:5002"))
		wantShared(t, "one that connects again", m)
		openOf(t, m, second)
		wantShared(t, "one that moved", m)
		openOf(t, m, second)
		time.Sleep(15 * time.Second)
		openOf(t, m, first)
		wantShared(t, "the first comes back", m, both)
		time.Sleep(4 * time.Minute)
		wantShared(t, "four minutes later", m, both)
		time.Sleep(2 * time.Minute)
		wantShared(t, "long after", m)
		openOf(t, m, second)
		wantShared(t, "one that moved at another time", m)
	})
}

func TestTwoSourcesOfOneName(t *testing.T) {
	run(t, func(t *testing.T, f *fake) {
		m := newManager(t, f, session.Limits{})
		for _, remote := range []string{"10.0.0.1:1", "10.0.0.2:1", "10.0.0.1:2"} {
			openOf(t, m, of("h", remote))
		}
		wantShared(t, "two addresses", m, cluster.SharedAddress{Producer: of("h", "").ID(), First: "h (10.0.0.1)", Second: "h (10.0.0.2)"})
	})
}

// TestTwoNSQDsOnTwoPeers: the state shows another host than the one that is
// connected here, which is alive.
func TestTwoNSQDsOnTwoPeers(t *testing.T) {
	run(t, func(t *testing.T, f *fake) {
		m := newManager(t, f, session.Limits{})
		here := openOf(t, m, of("h1", "10.0.0.1:5000"))
		wantShared(t, "alone", m)
		f.commit(registry.OpenSession{Session: registry.SessionID{Node: other, Epoch: 1, Seq: 1}, Producer: of("h2", "10.0.0.2:5000")})
		time.Sleep(16 * time.Second)
		wantShared(t, "the one here may have moved", m)
		time.Sleep(time.Minute)
		wantShared(t, "it sends no PING", m)
		here.Ping()
		time.Sleep(16 * time.Second)
		wantShared(t, "it sends one", m, cluster.SharedAddress{Producer: here.Producer(), First: "h1 (10.0.0.1)", Second: "h2 (10.0.0.2)"})
	})
}

// TestManyRivalsAreForgotten: what is noted is bounded.
func TestManyRivalsAreForgotten(t *testing.T) {
	run(t, func(t *testing.T, f *fake) {
		m := newManager(t, f, session.Limits{})
		for i := range 1100 {
			for _, host := range []string{"h1", "h2", "h1"} {
				p := of(host, "10.0.0.1:1")
				p.TCPPort += i
				openOf(t, m, p)
			}
		}
		if n := len(m.SharedAddresses()); n != 1000 {
			t.Errorf("%d are told", n)
		}
		time.Sleep(10 * time.Minute)
		for _, host := range []string{"h1", "h2", "h1"} {
			p := of(host, "10.0.0.1:1")
			p.TCPPort = 9
			openOf(t, m, p)
		}
		if n := len(m.SharedAddresses()); n != 1 {
			t.Errorf("%d are told later", n)
		}
	})
}

// TestPendingFor grows while nothing is committed, and only then.
func TestPendingFor(t *testing.T) {
	run(t, func(t *testing.T, f *fake) {
		m := newManager(t, f, session.Limits{})
		s := openSession(t, m, "n1")
		if err := s.Register("t0", ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if got := m.Stats(); got.DeclaredPending != 0 || got.PendingFor != 0 {
			t.Errorf("all is committed: %+v", got)
		}
		f.set(false, false)
		_ = s.Register("t1", "") // unavailable
		time.Sleep(41 * time.Second)
		_ = s.Register("t2", "")
		if got := m.Stats(); got.DeclaredPending != 2 || got.PendingFor < 41*time.Second || got.PendingFor > 45*time.Second {
			t.Errorf("without a quorum: %+v", got)
		}
		f.set(true, true)
		time.Sleep(10 * time.Second)
		if got := m.Stats(); got.DeclaredPending != 0 || got.PendingFor != 0 {
			t.Errorf("with one again: %+v", got)
		}
	})
}
