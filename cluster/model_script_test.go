package cluster_test

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/registry/reference"
	"github.com/lookupd/lookupd/store"
)

// step has one thing happen.
func (s script) step() {
	n := s.nsqds[s.rng.IntN(len(s.nsqds))]
	p := s.peers[s.rng.IntN(len(s.peers))]
	switch dice := s.rng.IntN(100); {
	case dice < 10:
		n.connect(p, s.names()...)
	case dice < 32:
		s.onConn(func(c *simConn) {
			for _, name := range s.names() {
				c.register(name)
			}
		})
	case dice < 44:
		s.onConn(func(c *simConn) {
			for range 1 + s.rng.IntN(2) {
				c.unregister(s.name())
			}
			if s.rng.IntN(2) == 0 {
				c.register(s.name())
			}
		})
	case dice < 47:
		s.onConn((*simConn).close)
	case dice < 49:
		s.onConn(s.reconnect)
	case dice < 51:
		s.dieOrReturn(n)
	case dice < 57:
		s.onConn(func(c *simConn) { c.setSilent(s.rng.IntN(2) == 0) })
	case dice < 66:
		s.partition(p)
	case dice < 72:
		s.restart(p)
	case dice < 77:
		s.changeLeader()
	case dice < 80:
		s.setSlow(s.rng.IntN(2) == 0)
	case dice < 89:
		s.write(p, s.name())
	case dice < 93:
		s.clash()
	case dice < 98:
		s.meet(p)
	default:
		s.cutAfterReturn(p)
	}
}

func (s script) name() store.Name {
	topics := []string{"t", "u", "v", "e#ephemeral"}
	channels := []string{"", "", "c", "d", "x#ephemeral"}
	return store.Name{Topic: topics[s.rng.IntN(len(topics))], Channel: channels[s.rng.IntN(len(channels))]}
}

func (s script) names() []store.Name {
	names := make([]store.Name, 1+s.rng.IntN(5))
	for i := range names {
		names[i] = s.name()
	}
	return names
}

// onConn does something on a connection to a living peer. Mostly that is the
// newest of its nsqd, else one that was replaced and is not closed yet.
func (s script) onConn(do func(*simConn)) {
	s.mu.Lock()
	var newest, all []*simConn
	for _, n := range s.nsqds {
		for _, c := range n.all {
			if c.live() {
				newest = append(newest, c)
			}
			if !c.over && !c.peer.dead {
				all = append(all, c)
			}
		}
	}
	s.mu.Unlock()
	if len(newest) > 0 && s.rng.IntN(10) > 0 {
		all = newest
	}
	if len(all) > 0 {
		do(all[s.rng.IntN(len(all))])
	}
}

// reconnect ends a connection with a command still on its way, and opens another.
func (s script) reconnect(c *simConn) {
	s.setSlow(true)
	c.register(s.name())
	s.wait(time.Second) // it was answered by now
	c.close()
	s.wait(time.Duration(s.rng.Int64N(int64(500 * time.Millisecond))))
	c.nsqd.connect(c.peer.simPeer, s.names()...)
	s.setSlow(s.rng.IntN(4) == 0)
}

// dieOrReturn ends an nsqd with all its connections, or lets it come back.
func (s script) dieOrReturn(n *simNsqd) {
	s.mu.Lock()
	alive := n.alive
	n.alive = true
	s.mu.Unlock()
	if alive {
		n.stop()
	}
}

func (s script) partition(p *simPeer) {
	s.mu.Lock()
	cut := p.cut
	s.mu.Unlock()
	p.setCut(!cut, s.rng.IntN(3) == 0)
}

// restart kills the peer, or starts it if it is dead: then its nsqds come back,
// mostly within the 30 s that nsqd needs at most, and declare some of what they
// did before.
func (s script) restart(p *simPeer) {
	s.mu.Lock()
	alive := p.runs != nil
	s.mu.Unlock()
	if alive {
		p.kill()
		return
	}
	s.comeBack(p)
}

func (s script) comeBack(p *simPeer) {
	p.begin()
	s.mu.Lock()
	defer s.mu.Unlock()
	runs := p.runs
	for _, n := range s.nsqds {
		c := s.current[holderOf(n.info.ID(), p.node)]
		if c == nil || c.over || s.rng.IntN(8) == 0 {
			continue
		}
		after := time.Duration(s.rng.Int64N(int64(29 * time.Second)))
		if s.rng.IntN(10) == 0 {
			after *= 3
		}
		again := s.names()
		for _, name := range slices.SortedFunc(maps.Keys(c.declared), reference.CompareNames) {
			if s.rng.IntN(5) > 0 {
				again = append(again, name)
			}
		}
		s.start(func() {
			time.Sleep(after)
			s.mu.Lock()
			still := p.runs == runs && s.current[c.holder()] == c
			s.mu.Unlock()
			if still {
				n.connect(p, again...)
			}
		})
	}
}

// changeLeader has another leader elected, after a while without one.
func (s script) changeLeader() {
	unaware := time.Duration(s.rng.Int64N(int64(time.Second)))
	without := time.Duration(0)
	switch s.rng.IntN(4) {
	case 0:
		without = time.Duration(s.rng.Int64N(int64(20 * time.Second)))
	case 1:
		without = time.Duration(s.rng.Int64N(int64(time.Second)))
	}
	s.mu.Lock()
	s.dethroneLocked(unaware)
	s.outage = without > 0
	s.electLocked()
	s.mu.Unlock()
	if without > 0 {
		s.wait(without)
		s.mu.Lock()
		s.outage = false
		s.electLocked()
		s.mu.Unlock()
	}
}

// clash has one topic declared, withdrawn and deleted at about one time, mostly
// through one peer, and sometimes then ends its sessions.
func (s script) clash() {
	topic := s.name().Topic
	name := func() store.Name {
		n := s.name()
		n.Topic = topic
		return n
	}
	p := s.peers[s.rng.IntN(len(s.peers))]
	for range 3 + s.rng.IntN(8) {
		switch s.rng.IntN(5) {
		case 0, 1:
			s.onConn(func(c *simConn) { c.register(name()); p = c.peer.simPeer })
		case 2:
			s.onConn(func(c *simConn) { c.unregister(name()) })
		default:
			s.write(p, name())
		}
		longest := time.Nanosecond
		if s.rng.IntN(2) == 0 {
			longest = 500 * time.Millisecond
		}
		s.wait(time.Duration(s.rng.Int64N(int64(longest))))
	}
	if s.rng.IntN(3) == 0 {
		p.setCut(true, false)
		s.wait(simInactive + time.Duration(s.rng.Int64N(int64(simLate))))
		s.write(s.peers[s.rng.IntN(len(s.peers))], name())
		s.pass()
		p.setCut(false, s.rng.IntN(3) == 0)
	}
}

// write is a write by HTTP.
func (s script) write(p *simPeer, name store.Name) {
	s.mu.Lock()
	runs := p.runs
	s.mu.Unlock()
	if runs == nil {
		return
	}
	var command registry.Command
	switch dice := s.rng.IntN(10); {
	case dice < 2:
		command = registry.CreateTopic{Topic: name.Topic}
	case dice < 5:
		command = registry.DeleteTopic{Topic: name.Topic}
	case name.Channel == "" || dice < 7:
		command = registry.Tombstone{Topic: name.Topic, Node: fmt.Sprintf("h%d:4151", 1+s.rng.IntN(len(s.nsqds)))}
	case dice < 8:
		command = registry.CreateChannel(name)
	default:
		command = registry.DeleteChannel(name)
	}
	_, _ = runs.Submit(runs.ctx, command)
}

// meet waits until just before, or just after, the end of p's sessions is due if
// p is lost, or of its earlier start's if it is back, and has something else
// happen at that moment.
func (s script) meet(p *simPeer) {
	s.mu.Lock()
	due := time.Duration(0)
	if s.reign != nil {
		if p.inContact() {
			due = simGrace - time.Since(latest(p.started, s.reign.since))
		} else {
			due = simInactive - time.Since(latest(p.lost, s.reign.since))
		}
	}
	s.mu.Unlock()
	if due += time.Duration(s.rng.Int64N(int64(3*time.Second))) - time.Second; due < 0 {
		return
	}
	if s.rng.IntN(2) == 0 {
		s.setSlow(true) // so that the end is long on its way
	}
	s.wait(due)
	switch s.rng.IntN(4) {
	case 0, 1:
		s.changeLeader()
	case 2:
		s.partition(p)
	case 3:
		s.restart(p)
	}
	s.setSlow(s.rng.IntN(4) == 0)
}

// cutAfterReturn starts the peer anew and cuts it off before all of its nsqds
// are back, for a shorter time than makes orphans.
func (s script) cutAfterReturn(p *simPeer) {
	p.kill()
	s.pass()
	s.comeBack(p)
	s.wait(time.Duration(s.rng.Int64N(int64(30 * time.Second))))
	p.setCut(true, false)
	s.wait(time.Duration(s.rng.Int64N(int64(simInactive))))
	p.setCut(false, s.rng.IntN(3) == 0)
}
