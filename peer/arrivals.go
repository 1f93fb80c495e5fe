package peer

import (
	"net"
	"net/netip"
	"sync"
)

// arrivals counts the connections that came in and whose handshake is not over.
// Whoever connects and says nothing holds a place for as long as a handshake
// may take, so one address gets three quarters of the places and half of the
// handshakes that may be under way; all peers may live at one address, though.
type arrivals struct {
	most      int // places
	mostOfOne int // address
	turns     int // of one address: handshakes under way

	mu  sync.Mutex
	all int
	of  map[netip.Addr]*arrivalsOf
}

// arrivalsOf is what came from one address.
type arrivalsOf struct {
	from  netip.Addr
	count int           // guarded by arrivals.mu
	turns chan struct{} // holds one per handshake under way
}

func newArrivals(handshakes int) *arrivals {
	most := arrivalsPerHandshake * handshakes
	return &arrivals{most: most, mostOfOne: most - handshakes, turns: max(1, handshakes/2), of: map[netip.Addr]*arrivalsOf{}}
}

// add gives c a place, which remove frees; ok is false if there is none.
func (a *arrivals) add(c net.Conn) (of *arrivalsOf, ok bool) {
	var from netip.Addr
	if tcp, is := c.RemoteAddr().(*net.TCPAddr); is {
		from = tcp.AddrPort().Addr().Unmap()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	of = a.of[from]
	if of == nil {
		of = &arrivalsOf{from: from, turns: make(chan struct{}, a.turns)}
	}
	if a.all >= a.most || of.count >= a.mostOfOne {
		return nil, false
	}
	a.of[from] = of
	a.all++
	of.count++
	return of, true
}

func (a *arrivals) remove(of *arrivalsOf) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all--
	if of.count--; of.count == 0 {
		delete(a.of, of.from)
	}
}
