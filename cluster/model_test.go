package cluster_test

import (
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
)

// TestSessionsAgainstModel lets random histories run: nsqds that come, declare,
// fall silent and go, peers that die, return and are cut off, leaders that
// change, commits that take long. Throughout, and when all has healed, the
// registry is held against rules that know nothing of how it is done.
//
//	LOOKUPD_MODEL_SEED=7 LOOKUPD_MODEL_RUNS=1000 go test -run SessionsAgainstModel ./cluster
//
// A failure names its seed: the same with LOOKUPD_MODEL_RUNS=1 tells its story.
func TestSessionsAgainstModel(t *testing.T) {
	first, runs := setting(t, "LOOKUPD_MODEL_SEED", 1), setting(t, "LOOKUPD_MODEL_RUNS", 100)
	var next, entries atomic.Uint64
	var failed atomic.Bool
	next.Store(first)
	for worker := range runtime.GOMAXPROCS(0) {
		t.Run(fmt.Sprint("worker ", worker), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for !failed.Load() {
				seed := next.Add(1) - 1
				if seed >= first+runs {
					break
				}
				synctest.Test(t, func(t *testing.T) {
					defer func() { failed.CompareAndSwap(false, t.Failed()) }()
					entries.Add(runHistory(t, seed, dir))
				})
			}
		})
	}
	t.Cleanup(func() { t.Logf("%d histories with %d log entries", min(next.Load()-first, runs), entries.Load()) })
}

func setting(t *testing.T, name string, value uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return value
	}
	value, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return value
}

// runHistory returns how many log entries the history with this seed has.
func runHistory(t *testing.T, seed uint64, dir string) uint64 {
	t.Helper()
	w, err := newWorld(seed, dir)
	if err != nil {
		t.Fatal(err)
	}
	script{w}.run()
	if err := w.close(); err != nil {
		t.Error(err)
	}
	if w.failed != "" {
		t.Errorf("seed %d: %s\n%s", seed, w.failed, strings.Join(w.story, "\n"))
	}
	return w.index
}

// script draws what happens in a world.
type script struct{ *simWorld }

func (s script) run() {
	for i := range 3 {
		s.peers = append(s.peers, &simPeer{w: s.simWorld, node: registry.NodeID(fmt.Sprintf("p%d-0000000%d", i+1, i+1))})
	}
	for i := range 2 + s.rng.IntN(3) {
		s.nsqds = append(s.nsqds, newNsqd(s.simWorld, i+1))
	}
	for _, p := range s.peers {
		p.begin()
		s.wait(time.Second)
	}
	for _, n := range s.nsqds {
		for _, p := range s.peers {
			if s.rng.IntN(2) == 0 {
				n.connect(p, s.names()...)
			}
		}
	}
	s.wait(5 * time.Second)
	for range 20 + s.rng.IntN(60) {
		s.step()
		s.pass()
		s.check()
		if s.rng.IntN(8) == 0 {
			s.compare()
		}
		if s.hasFailed() {
			return
		}
	}
	s.heal()
	s.check()
	s.compare()
	s.noTombstones()
	s.idle()
	s.forget()
	s.leave()
}

func (s script) hasFailed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed != ""
}

// wait lets a time pass that is no round number, so that what happens in it does
// not meet the tick of a clock.
func (s script) wait(d time.Duration) {
	time.Sleep(d + time.Duration(s.rng.IntN(int(time.Millisecond))))
	synctest.Wait()
}

// pass lets some time pass: mostly little.
func (s script) pass() {
	longest := 100 * time.Millisecond
	switch n := s.rng.IntN(20); {
	case n == 0:
		longest = 100 * time.Second
	case n < 3:
		longest = 30 * time.Second
	case n < 10:
		longest = 5 * time.Second
	}
	s.wait(time.Duration(s.rng.Int64N(int64(longest))))
}

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
	case dice < 49:
		s.onConn((*simConn).close)
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
		c := s.current[holder{n.info.ID(), p.node}]
		if c == nil || c.over || s.rng.IntN(8) == 0 {
			continue
		}
		after := time.Duration(s.rng.Int64N(int64(29 * time.Second)))
		if s.rng.IntN(10) == 0 {
			after *= 3
		}
		again := s.names()
		for _, name := range slices.SortedFunc(maps.Keys(c.declared), compareNames) {
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
		if s.rng.IntN(2) == 0 {
			s.wait(time.Duration(s.rng.Int64N(int64(500 * time.Millisecond))))
		}
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

// heal ends all faults and gives everything the time that it may take.
func (s script) heal() {
	s.note("all heals")
	s.mu.Lock()
	s.outage = false
	s.mu.Unlock()
	s.setSlow(false)
	for _, p := range s.peers {
		s.mu.Lock()
		dead, cut := p.runs == nil, p.cut
		s.mu.Unlock()
		if dead {
			s.comeBack(p)
		} else if cut {
			p.setCut(false, s.rng.IntN(3) == 0)
		}
	}
	s.mu.Lock()
	s.electLocked()
	for _, n := range s.nsqds {
		for _, c := range n.all {
			c.silent = c.silent && s.rng.IntN(4) == 0
		}
	}
	s.mu.Unlock()
	for range 10 {
		s.wait(15 * time.Second)
		s.check()
	}
}

// compare asks the state what the model knows.
func (s script) compare() {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.fsm.View(func(v *store.View) error {
		if diff := cmp.Diff(s.model.answers(), answersOf(v)); diff != "" {
			s.failLocked("the state differs from the model (-model +state):\n%s", diff)
		}
		return v.Check()
	})
	if err != nil {
		s.failLocked("%v", err)
	}
}

func (s script) noTombstones() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for topic, of := range s.model.tombs {
		if len(of) > 0 {
			s.failLocked("tombstones of %s did not end: %v", topic, of)
		}
	}
}

// idle: PINGs, and REGISTERs of what is declared, write nothing.
func (s script) idle() {
	s.mu.Lock()
	before := s.index
	for _, c := range s.current {
		for name := range c.declared {
			if c.live() {
				c.register(name)
			}
		}
	}
	s.mu.Unlock()
	s.wait(2 * simPing)
	s.check()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.index != before {
		s.failLocked("%d entries while nothing changed", s.index-before)
	}
}

// forget has the cluster forget a peer, which must remember exactly what was
// declared there.
func (s script) forget() {
	p := s.peers[s.rng.IntN(len(s.peers))]
	p.setCut(true, false)
	s.wait(simInactive + 2*simLate)
	s.check()
	p.setCut(false, s.rng.IntN(3) == 0)
	s.wait(2 * simSettle)
	s.check()
	s.compare()
}

// leave ends all nsqds: nothing of theirs stays.
func (s script) leave() {
	for _, n := range s.nsqds {
		n.stop()
	}
	s.wait(simSettle)
	s.compare()
	s.mu.Lock()
	defer s.mu.Unlock()
	for h, state := range s.model.sessions {
		s.failLocked("%v has left, and has %v", h, state)
	}
	for name, holders := range s.model.names {
		if len(holders) > 0 {
			s.failLocked("all have left, and %v is held by %v", name, holders)
		}
	}
}
