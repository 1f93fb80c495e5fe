package load

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

const (
	pingEvery     = 15 * time.Second // as nsqd does
	atOnce        = 64               // connections that are being made
	repeatedNames = 16
)

// pool is the sessions of one load process.
type pool struct {
	name      string
	producers int
	sessions  []*Session // producer i has sessions[i*per] and the per-1 after it
	per       int
}

// openPool connects all sessions.
func openPool(ctx context.Context, job *Connect) (*pool, Result) {
	p := &pool{name: job.Name, producers: job.Producers, per: 1}
	if job.Everywhere {
		p.per = len(job.Addresses)
	}
	p.sessions = make([]*Session, p.producers*p.per)
	for i := range p.sessions {
		p.sessions[i] = &Session{address: job.Addresses[i%len(job.Addresses)], host: ProducerHost(job.Name, i/p.per)}
	}
	return p, p.connect(ctx)
}

func (p *pool) connect(ctx context.Context) Result {
	var next atomic.Int64
	start := time.Now()
	return sum(each(min(atOnce, len(p.sessions)), func(_ int, t *tally) {
		for {
			i := int(next.Add(1)) - 1
			if i >= len(p.sessions) {
				return
			}
			began := time.Now()
			err := p.sessions[i].reopen(ctx)
			t.add(time.Since(began), err)
		}
	}), time.Since(start))
}

// ping sends PINGs, each session in its turn, until ctx ends.
func (p *pool) ping(ctx context.Context) {
	ticker := time.NewTicker(pingEvery / time.Duration(len(p.sessions)))
	defer ticker.Stop()
	for i := 0; ; i = (i + 1) % len(p.sessions) {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			_ = p.sessions[i].Ping() // one that is lost stays lost
		}
	}
}

// declare registers the data set's topics, each producer its own.
func (p *pool) declare(job *Declare) Result {
	names := make([][][2]string, len(p.sessions))
	for topic := job.From; topic < job.To; topic++ {
		for i := range job.Holders {
			session := Holder(topic, i, job.Holders, p.producers)*p.per + topic%p.per
			for c := range job.Channels {
				names[session] = append(names[session], [2]string{Topic(topic), Channel(c)})
			}
		}
	}
	start := time.Now()
	tallies := each(len(p.sessions), func(i int, t *tally) {
		late, err := p.sessions[i].registerAll(names[i])
		if late > 0 {
			err = fmt.Errorf("%d of %d registrations came late", late, len(names[i]))
		}
		t.add(0, err)
	})
	r := sum(tallies, time.Since(start))
	r.Ops = (job.To - job.From) * job.Holders * job.Channels
	return r
}

// register is the closed loop of REGISTERs.
func (p *pool) register(ctx context.Context, job *Register) Result {
	sessions := p.sessions
	if job.Sessions > 0 {
		sessions = sessions[:job.Sessions]
	}
	names := func(session, n int) (topic, channel string) {
		if job.Shared > 0 {
			return sharedTopic(session, n, job.Shared), ""
		}
		if job.Fresh == "" {
			return freshNames(p.name+".again", session, n%repeatedNames)
		}
		return freshNames(job.Fresh, session, n)
	}
	register := func(session, n int) error { return sessions[session].Register(names(session, n)) }
	if job.PerSession > 0 {
		return p.registerCounted(ctx, job, len(sessions), register)
	}
	if job.Fresh == "" {
		if r := counted(len(sessions), repeatedNames, register); r.Failed > 0 {
			return r
		}
	}
	next := make([]int, len(sessions))
	return inWindow(len(sessions), job.Window, func(session int) error {
		next[session]++
		return register(session, next[session])
	})
}

// registerCounted registers a fixed number of names through each session, if
// asked for on new connections, and measures the whole.
func (p *pool) registerCounted(ctx context.Context, job *Register, sessions int, register func(session, n int) error) Result {
	start := time.Now()
	if job.Reconnect {
		if r := p.connect(ctx); r.Failed > 0 {
			return r
		}
	}
	r := counted(sessions, job.PerSession, register)
	r.Took = time.Since(start)
	return r
}
