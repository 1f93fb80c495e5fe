package tcpproto

import (
	"net/netip"
	"time"
)

// bucket is a token bucket. It is not safe for concurrent use.
type bucket struct {
	perSecond, burst float64
	tokens           float64
	last             time.Time
}

func newBucket(perSecond, burst int) bucket {
	return bucket{perSecond: float64(perSecond), burst: float64(burst), tokens: float64(burst)}
}

// take takes a token and returns how long to wait until it is there.
func (b *bucket) take(now time.Time) time.Duration {
	b.refill(now)
	b.tokens--
	if b.tokens >= 0 {
		return 0
	}
	return time.Duration(-b.tokens / b.perSecond * float64(time.Second))
}

// try takes a token if there is one.
func (b *bucket) try(now time.Time) bool {
	b.refill(now)
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

func (b *bucket) refill(now time.Time) {
	if !b.last.IsZero() {
		b.tokens = min(b.burst, b.tokens+now.Sub(b.last).Seconds()*b.perSecond)
	}
	b.last = now
}

// addressRates bounds how often each address may connect. Only the accepting
// goroutine uses it.
type addressRates struct {
	perSecond, burst int
	of               map[netip.Addr]*bucket
}

// mostRates is how many addresses are remembered.
const mostRates = 4096

// newAddressRates gives one address half of what all may do, so that it cannot
// keep the others waiting, but lets its connections all come at once.
func newAddressRates(l Limits) *addressRates {
	return &addressRates{
		perSecond: max(1, l.Accepts/2), burst: max(1, l.AcceptBurst/2, l.ConnectionsPerAddress),
		of: make(map[netip.Addr]*bucket),
	}
}

// try reports whether address may connect once more.
func (r *addressRates) try(address netip.Addr, now time.Time) bool {
	b := r.of[address]
	if b == nil {
		if len(r.of) >= mostRates {
			r.forget(now)
		}
		fresh := newBucket(r.perSecond, r.burst)
		b = &fresh
		r.of[address] = b
	}
	return b.try(now)
}

// forget makes room: first those who connect seldom go.
func (r *addressRates) forget(now time.Time) {
	for address, b := range r.of {
		if b.refill(now); b.tokens >= b.burst {
			delete(r.of, address)
		}
	}
	if len(r.of) >= mostRates {
		clear(r.of)
	}
}
