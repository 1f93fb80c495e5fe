package peer_test

import (
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/lookupd/lookupd/peer"
	"github.com/lookupd/lookupd/peer/peerpb"
	"github.com/lookupd/lookupd/registry"
)

func from(node string) func(*peerpb.Hello) {
	return func(h *peerpb.Hello) { h.From = node }
}

func TestConnectionsPerNode(t *testing.T) {
	n := newAddresses().open(t, "a-00000001", &handler{})
	var last net.Conn
	for i := range peer.DefaultLimits().ConnectionsPerPeer {
		var w *peerpb.Welcome
		w, last = greetOn(t, n, func(h *peerpb.Hello) { h.Kind = []peerpb.Kind{peerpb.Kind_KIND_CALLS, peerpb.Kind_KIND_RAFT}[i%2] })
		if w.GetRefusal() != peerpb.Refusal_REFUSAL_NONE {
			t.Fatalf("connection %d: %v", i, w)
		}
	}
	if w := greet(t, n, from("b-00000002")); w.GetRefusal() != peerpb.Refusal_REFUSAL_BUSY {
		t.Fatalf("one above the limit: %v", w)
	}
	for name, change := range map[string]func(*peerpb.Hello){
		"another peer":            from("c-00000003"),
		"a foreigner with its id": func(h *peerpb.Hello) { h.ClusterId = "" },
	} {
		if w := greet(t, n, change); w.GetRefusal() != peerpb.Refusal_REFUSAL_NONE {
			t.Fatalf("%s: %v", name, w)
		}
	}
	if err := last.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if w := greet(t, n, from("b-00000002")); w.GetRefusal() != peerpb.Refusal_REFUSAL_NONE {
			return fmt.Errorf("after one ended: %v", w)
		}
		return nil
	})
	if w := greet(t, n, func(h *peerpb.Hello) { h.Epoch, h.RunId = 2, runID('B') }); w.GetRefusal() != peerpb.Refusal_REFUSAL_NONE {
		t.Fatalf("a later start: %v", w)
	}
}

func TestConnectionsInAll(t *testing.T) {
	n := newAddresses().open(t, "a-00000001", &handler{})
	fill := func(count int, change func(*peerpb.Hello)) {
		t.Helper()
		for i := range count {
			w := greet(t, n, func(h *peerpb.Hello) {
				change(h)
				h.From = fmt.Sprintf("%s%d-00000002", h.From, i/peer.DefaultLimits().ConnectionsPerPeer)
			})
			if w.GetRefusal() != peerpb.Refusal_REFUSAL_NONE {
				t.Fatalf("connection %d: %v", i, w)
			}
		}
	}
	fresh := func(h *peerpb.Hello) { h.From, h.ClusterId = "fresh", "" }
	fill(peer.DefaultLimits().Connections/2, fresh)
	if w := greet(t, n, fresh); w.GetRefusal() != peerpb.Refusal_REFUSAL_BUSY {
		t.Fatalf("one fresh above the limit: %v", w)
	}
	fill(peer.DefaultLimits().Connections/2, from("ours"))
	if w := greet(t, n, from("z-00000009")); w.GetRefusal() != peerpb.Refusal_REFUSAL_BUSY {
		t.Fatalf("one above the limit: %v", w)
	}
	if got := n.Refused(); got < 1 {
		t.Fatalf("%d were counted", got)
	}
	if got, want := n.Inbound(), peer.DefaultLimits().Connections; got != want {
		t.Fatalf("%d are open, not %d", got, want)
	}
}

// handshakesUnderWay: one above the limit waits, and is served when another
// has had its time.
func handshakesUnderWay(t *testing.T) {
	n := newAddresses().open(t, "a-00000001", &handler{})
	for i := range peer.DefaultLimits().Handshakes {
		dialFrom(t, []string{"127.0.0.2", "127.0.0.3"}[i%2], n.Addr())
	}
	eventually(t, func() error {
		if under := n.HandshakesUnderWay(); under < peer.DefaultLimits().Handshakes {
			return fmt.Errorf("%d handshakes are under way", under)
		}
		return nil
	})
	begin := time.Now()
	eventually(t, func() error { // whoever waits as long as a handshake may take is closed: the machine may be slow
		conn := dialRaw(t, n.Addr())
		if err := peer.WriteHello(conn, hello(from("b-00000002"))); err != nil {
			return err
		}
		w, err := peer.ReadWelcome(conn)
		if err == nil && w.GetRefusal() != peerpb.Refusal_REFUSAL_NONE {
			err = fmt.Errorf("got %v", w)
		}
		return err
	})
	if took := time.Since(begin); took < time.Second { // of 2.5
		t.Fatalf("served after %v", took)
	}
}

// TestHandshakesOfOneAddress: whoever connects and says nothing takes neither all
// handshakes nor all places of those that wait for theirs.
func TestHandshakesOfOneAddress(t *testing.T) {
	n := newAddresses().open(t, "a-00000001", &handler{})
	n.SetTimings(soon, 0, 0)
	handshakes := peer.DefaultLimits().Handshakes
	for range 3 * handshakes {
		dialFrom(t, "127.0.0.2", n.Addr())
	}
	ends(t, dialFrom(t, "127.0.0.2", n.Addr())) // one too many
	eventually(t, func() error {
		if under := n.HandshakesUnderWay(); under != handshakes/2 {
			return fmt.Errorf("%d handshakes are under way", under)
		}
		return nil
	})
	begin := time.Now()
	if w := greet(t, n, from("b-00000002")); w.GetRefusal() != peerpb.Refusal_REFUSAL_NONE {
		t.Fatalf("from another address: %v", w)
	}
	if took := time.Since(begin); took > soon/2 {
		t.Fatalf("served after %v", took)
	}
}

// dialFrom dials from a source address.
func dialFrom(t *testing.T, source, addr string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
	c, err := d.DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(soon)); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestNineRafts: elections in the largest cluster stay below the limits.
func TestNineRafts(t *testing.T) {
	known := newAddresses()
	var ids []registry.NodeID
	for i := range 9 {
		ids = append(ids, registry.NodeID(fmt.Sprintf("%c-0000000%d", 'a'+i, i+1)))
	}
	var peers []*raftPeer
	for _, id := range ids {
		peers = append(peers, known.raft(t, id, members(ids...)))
	}
	for range 3 {
		leader := leaderOf(t, peers)
		eventually(t, func() error {
			if err := leader.Apply([]byte("x"), time.Second).Error(); err != nil {
				leader = leaderOf(t, peers)
				return err
			}
			return nil
		})
		for _, p := range peers { // all dial anew, at once
			for _, id := range ids {
				p.network.CloseConnections(id)
			}
		}
		eventually(t, func() error {
			leader = leaderOf(t, peers)
			return leader.VerifyLeader().Error()
		})
		if err := leader.LeadershipTransfer().Error(); err != nil {
			t.Log("no transfer:", err)
		}
	}
	eventually(t, func() error { return leaderOf(t, peers).Apply([]byte("y"), time.Second).Error() })
	for _, p := range peers {
		if refused := p.network.Refused(); refused != 0 {
			t.Errorf("%d connections were refused", refused)
		}
	}
}

// TestDialOfABlackHole: an attempt takes a second, and the next is made at once.
func TestDialOfABlackHole(t *testing.T) {
	known := newAddresses()
	a := known.open(t, "a-00000001", &handler{})
	a.SetTimings(5*time.Second, 100*time.Millisecond, 0) // as in production
	known.set("b-00000002", blackHole(t))
	begin := time.Now()
	if _, err := forward(within(t, soon), a, "b-00000002", "x"); !errors.Is(err, peer.ErrUnreachable) {
		t.Fatalf("got %v", err)
	}
	if took := time.Since(begin); took < 500*time.Millisecond || took > 2*time.Second {
		t.Fatalf("gave up after %v", took)
	}
	known.open(t, "b-00000002", &handler{}) // healed
	begin = time.Now()
	eventually(t, func() error {
		_, err := forward(within(t, soon), a, "b-00000002", "x")
		return err
	})
	if took := time.Since(begin); took > time.Second {
		t.Fatalf("back after %v", took)
	}
}
