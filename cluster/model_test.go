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
	"github.com/lookupd/lookupd/registry/reference"
	"github.com/lookupd/lookupd/store"
)

// TestSessionsAgainstModel lets random histories run: nsqds that come, declare,
// fall silent and go, peers that die, return and are cut off, leaders that
// change, commits that take long. Throughout, and when all has healed, the
// registry is held against rules that know nothing of how it is done.
//
//	LOOKUPD_MODEL_SEED=7 LOOKUPD_MODEL_RUNS=1000 go test -run SessionsAgainstModel ./cluster
//
// A failure tells its story and its seed, which mostly has the same story again:
// goroutines that run at the same moment may differ in their order.
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
				s.wait(0)
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
		if diff := cmp.Diff(answersOfModel(s.model), answersOf(v)); diff != "" {
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
	for topic, of := range s.model.Tombs {
		if len(of) > 0 {
			s.failLocked("tombstones of %s did not end: %v", topic, of)
		}
	}
}

// idle: PINGs, and REGISTERs of what is declared, write nothing.
func (s script) idle() {
	s.mu.Lock()
	before := s.index
	s.mu.Unlock()
	for _, n := range s.nsqds {
		for _, c := range n.all {
			s.mu.Lock()
			names := slices.SortedFunc(maps.Keys(c.declared), reference.CompareNames)
			live := c.live()
			s.mu.Unlock()
			if !live {
				continue
			}
			for _, name := range names {
				c.register(name)
			}
			s.wait(0)
		}
	}
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
	for h, state := range s.model.Sessions {
		s.failLocked("%v has left, and has %v", h, state)
	}
	for name, holders := range s.model.Names {
		if len(holders) > 0 {
			s.failLocked("all have left, and %v is held by %v", name, holders)
		}
	}
}
