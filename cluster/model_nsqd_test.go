package cluster_test

import (
	"errors"
	"fmt"
	"time"

	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/session"
	"github.com/lookupd/lookupd/store"
)

// simNsqd is a producer, with a connection to some of the peers.
type simNsqd struct {
	w    *simWorld
	info registry.ProducerInfo
	// Guarded by the world's lock.
	alive bool
	all   []*simConn
}

func newNsqd(w *simWorld, i int) *simNsqd {
	host := fmt.Sprint("h", i)
	return &simNsqd{w: w, alive: true, info: registry.ProducerInfo{
		Hostname: host, BroadcastAddress: host, TCPPort: 4150, HTTPPort: 4151, Version: "1.3.0",
	}}
}

// declaration is a name that was registered on a connection.
type declaration struct {
	turn    uint64 // of the latest REGISTER
	pending bool   // that is not in the log yet
	deleted bool   // by others, while it was pending
}

type deletion struct {
	index  uint64
	closed bool // the session was, by a leader
}

// simConn is a connection. One goroutine does what its nsqd says on it.
type simConn struct {
	w      *simWorld
	nsqd   *simNsqd
	number int
	peer   *simStart
	to     chan func(*session.Session)

	// Guarded by the world's lock.
	began    time.Time
	over     bool // it has ended
	silent   bool
	gap      bool      // there was no PING for so long that it was suspended
	acted    time.Time // the latest event that needs some time to take effect
	pinged   time.Time
	declared map[store.Name]*declaration
	last     time.Time // the latest IDENTIFY or REGISTER
	swept    time.Time // the first PING that surely sweeps
	dropped  map[store.Name]uint64
	deleted  map[store.Name]deletion
}

func (c *simConn) String() string {
	if c == nil {
		return "nobody"
	}
	return fmt.Sprintf("%s#%d at %s", c.nsqd.info.BroadcastAddress, c.number, c.peer.node)
}

func (c *simConn) holder() holder { return holderOf(c.nsqd.info.ID(), c.peer.node) }

// live reports whether c is the newest connection of its nsqd to a living peer.
func (c *simConn) live() bool {
	return c != nil && !c.over && !c.peer.dead && c.w.current[c.holder()] == c
}

// connect opens a connection, which declares names; nil if the peer is dead.
func (n *simNsqd) connect(p *simPeer, names ...store.Name) *simConn {
	w := n.w
	w.mu.Lock()
	if p.runs == nil || !n.alive {
		w.mu.Unlock()
		return nil
	}
	c := &simConn{
		w: w, nsqd: n, number: len(n.all) + 1, peer: p.runs, to: make(chan func(*session.Session), 256),
		began: time.Now(), acted: time.Now(), pinged: time.Now(), last: time.Now(),
		declared: map[store.Name]*declaration{}, dropped: map[store.Name]uint64{}, deleted: map[store.Name]deletion{},
	}
	n.all = append(n.all, c)
	w.current[c.holder()] = c
	w.noteLocked("%s connects", c)
	w.mu.Unlock()
	for _, name := range names {
		c.register(name)
	}
	info := n.info
	info.RemoteAddress = fmt.Sprintf("10.0.0.1:%d", 40000+c.number)
	w.start(func() { c.run(info) })
	return c
}

func (c *simConn) run(info registry.ProducerInfo) {
	s, err := c.peer.manager.Open(info, func(string) { c.w.note("%s is replaced", c) })
	if err != nil {
		return
	}
	ping := time.NewTicker(simPing)
	defer ping.Stop()
	for {
		select {
		case <-c.peer.ctx.Done():
			return
		case <-ping.C:
			c.ping(s)
		case do := <-c.to:
			do(s)
		}
		c.w.mu.Lock()
		over := c.over
		c.w.mu.Unlock()
		if over {
			return
		}
	}
}

// tell has the connection's goroutine do something.
func (c *simConn) tell(do func(*session.Session)) {
	select {
	case c.to <- do:
	default:
	}
}

func (c *simConn) ping(s *session.Session) {
	w := c.w
	w.mu.Lock()
	if c.silent {
		w.mu.Unlock()
		return
	}
	now := time.Now()
	if now.Sub(c.pinged) > simInactive {
		c.gap, c.acted = true, now
		w.noteLocked("%s pings again", c)
	}
	c.pinged = now
	if h := c.holder(); c.live() && now.Sub(c.last) >= 5*time.Second {
		for name := range w.must[h] {
			if c.declared[name] == nil {
				delete(w.must[h], name)
			}
		}
		if w.wellLocked(c.peer.simPeer) > simSettle && now.Sub(w.opened[h]) > 5*time.Second+simSettle && c.swept.IsZero() {
			c.swept = now
		}
	}
	w.mu.Unlock()
	s.Ping()
}

func (c *simConn) register(name store.Name) {
	c.tell(func(s *session.Session) {
		live, turn := c.declare(name)
		err := s.Register(name.Topic, name.Channel)
		c.answered(live, err)
		if err == nil {
			c.committed(name, turn)
		}
	})
}

func both(name store.Name) []store.Name {
	if name.Channel == "" {
		return []store.Name{name}
	}
	return []store.Name{{Topic: name.Topic}, name}
}

func (c *simConn) declare(name store.Name) (live bool, turn uint64) {
	w := c.w
	w.mu.Lock()
	defer w.mu.Unlock()
	w.turn++
	c.acted, c.last = time.Now(), time.Now()
	if time.Since(c.swept) < time.Second {
		c.swept = time.Time{} // this may have kept the sweep from its end
	}
	w.noteLocked("%s: REGISTER %v", c, name)
	for _, n := range both(name) {
		c.declared[n] = &declaration{turn: w.turn, pending: true}
	}
	return c.live(), w.turn
}

// committed: what needed no entry was there already.
func (c *simConn) committed(name store.Name, turn uint64) {
	w := c.w
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range both(name) {
		d := c.declared[n]
		switch {
		case d == nil || d.turn != turn || !d.pending:
		case d.deleted:
			c.deleteLocked(n, w.index, false)
		default:
			d.pending = false
			if c.live() && w.model.Names[n][c.holder()] {
				w.mustLocked(c.holder(), n)
			}
		}
	}
}

func (c *simConn) deleteLocked(name store.Name, index uint64, closed bool) {
	delete(c.declared, name)
	c.deleted[name] = deletion{index, closed}
}

func (c *simConn) unregister(name store.Name) {
	c.tell(func(s *session.Session) {
		w := c.w
		w.mu.Lock()
		w.turn++
		live := c.live()
		c.acted = time.Now()
		w.noteLocked("%s: UNREGISTER %v", c, name)
		c.dropped[name] = w.turn
		for n := range c.declared {
			if n == name || name.Channel == "" && n.Topic == name.Topic {
				delete(c.declared, n)
				c.dropped[n] = w.turn
			}
		}
		for n := range w.must[c.holder()] {
			if live && (n == name || name.Channel == "" && n.Topic == name.Topic) {
				delete(w.must[c.holder()], n)
			}
		}
		w.mu.Unlock()
		c.answered(live, s.Unregister(name.Topic, name.Channel))
	})
}

// answered: a command takes effect, or surely will, or it is said that it does not.
func (c *simConn) answered(live bool, err error) {
	w := c.w
	w.mu.Lock()
	defer w.mu.Unlock()
	c.acted = time.Now()
	switch {
	case err != nil && !errors.Is(err, session.ErrUnavailable):
		w.failLocked("%s: %v", c, err)
	case err == nil && !live:
		w.failLocked("%s was replaced, and its command was done", c)
	case err != nil && c.live() && w.wellLocked(c.peer.simPeer) > simSettle:
		w.failLocked("%s: %v, with nothing in the way", c, err)
	case err != nil:
		w.noteLocked("%s: %v", c, err)
	}
}

// setSilent stops the PINGs, as a network does that went dead.
func (c *simConn) setSilent(silent bool) {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	c.silent = silent
	c.w.noteLocked("%s silent: %v", c, silent)
}

// close ends the connection from nsqd's side, or its half-open rest.
func (c *simConn) close() {
	c.tell(func(s *session.Session) {
		w := c.w
		w.mu.Lock()
		w.noteLocked("%s closes", c)
		if c.live() {
			delete(w.must, c.holder())
		}
		c.over, c.acted = true, time.Now()
		w.mu.Unlock()
		s.Close()
	})
}

// connectionsLostLocked: the peer at the other end has died.
func (w *simWorld) connectionsLostLocked(s *simStart) {
	for _, c := range w.current {
		if c.peer == s {
			c.acted = time.Now()
		}
	}
}

// stop ends all connections.
func (n *simNsqd) stop() {
	n.w.mu.Lock()
	n.alive = false
	all := n.all
	n.w.noteLocked("%s ends", n.info.BroadcastAddress)
	n.w.mu.Unlock()
	for _, c := range all {
		c.close()
	}
}
