package peer

import (
	"io"
	"net"
	"time"

	"github.com/lookupd/lookupd/peer/peerpb"
)

// Wire parts of the handshake, for tests that speak it by hand.
const (
	MaxHello     = maxHello
	HelloMagic   = helloMagic
	MaxTermAhead = maxTermAhead
	UserTimeout  = userTimeout
)

// SetTimings shortens what tests wait for; zero keeps a time. Before Open only.
func (n *Network) SetTimings(handshake, redial, grace time.Duration) {
	for _, t := range []struct {
		to    *time.Duration
		value time.Duration
	}{{&n.timings.handshake, handshake}, {&n.timings.redial, redial}, {&n.timings.grace, grace}} {
		if t.value != 0 {
			*t.to = t.value
		}
	}
	n.timings.sweep = min(n.timings.sweep, n.timings.grace)
}

// SetRenewal shortens the times of certificates and connections. Before Open only.
func (n *Network) SetRenewal(renew, age, retire time.Duration) {
	n.timings.renew, n.timings.age, n.timings.retire = renew, age, retire
}

// SetTell sets how long a commit waits for a request of raft's. Before Open only.
func (n *Network) SetTell(d time.Duration) { n.timings.tell = d }

// Recycle has raft replace its connections.
func (n *Network) Recycle() { n.transport.recycle() }

// Look tells followers what waits to be told, as if the time that SetTell sets
// were over.
func (n *Network) Look() { n.transport.teller.look() }

// HandshakesUnderWay counts those of connections that came in.
func (n *Network) HandshakesUnderWay() int { return len(n.handshakes) }

// Take serves c as if the listener had accepted it.
func (n *Network) Take(c net.Conn) { n.take(c) }

// Accept does the handshake of a connection that came in.
func (n *Network) Accept(c net.Conn) error {
	_, err := n.accept(c)
	return err
}

// Connections returns the open connections, after their handshake, of both
// directions.
func (n *Network) Connections() []net.Conn {
	n.conns.mu.Lock()
	defer n.conns.mu.Unlock()
	var open []net.Conn
	for _, of := range n.conns.byNode {
		for c := range of {
			open = append(open, c.Conn)
		}
	}
	return open
}

// WriteHello and ReadWelcome are the dialling side of a handshake.
func WriteHello(w io.Writer, h *peerpb.Hello) error { return writeHello(w, h) }

// WriteWelcome is what a listener answers.
func WriteWelcome(w io.Writer, m *peerpb.Welcome) error { return writeHello(w, m) }

// ReadWelcome reads the answer to a Hello.
func ReadWelcome(r io.Reader) (*peerpb.Welcome, error) {
	w := &peerpb.Welcome{}
	return w, readHello(r, w)
}

// ReadHello is what a listener does first with bytes from anybody.
func ReadHello(r io.Reader) (*peerpb.Hello, error) {
	h := &peerpb.Hello{}
	return h, readHello(r, h)
}
