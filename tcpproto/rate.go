package tcpproto

import "time"

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
