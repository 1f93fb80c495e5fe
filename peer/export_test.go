package peer

import (
	"io"
	"time"

	"github.com/lookupd/lookupd/peer/peerpb"
)

// Wire parts of the handshake, for tests that speak it by hand.
const (
	MaxHello     = maxHello
	HelloMagic   = helloMagic
	MaxTermAhead = maxTermAhead
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
