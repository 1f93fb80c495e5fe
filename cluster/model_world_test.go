package cluster_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/fsm"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/registry/reference"
	"github.com/lookupd/lookupd/store"
)

// The times of the simulated cluster. The inactive time is shorter than the
// default, so that a run needs less of it.
const (
	simInactive  = 60 * time.Second
	simGrace     = 45 * time.Second
	simTombstone = 45 * time.Second
	simPing      = 15 * time.Second
	// simSettle is how soon all is as declared once nothing is in the way.
	simSettle = 2 * time.Second
	// simLate is how late at most a batch arrives that is on its way.
	simLate = 5 * time.Second
)

// simWorld is a cluster of three peers on the fake clock, and the nsqds that are
// connected to them. What runs for real is the state machine, on each peer the
// sessions, and on the leader the duty that ends orphans. The log, the leaders
// and the network between the peers are simulated here.
//
// Each peer sees the one state as of an entry of its own: it lags behind.
type simWorld struct {
	seed  uint64
	rng   *rand.Rand // the script's
	began time.Time
	fsm   *fsm.FSM
	peers []*simPeer
	nsqds []*simNsqd
	// background is what outlives the call that started it, always for a short while.
	background sync.WaitGroup

	mu     sync.Mutex
	failed string
	story  []string
	index  uint64
	term   uint64
	reign  *simReign     // nil while there is no leader
	outage bool          // there shall be none
	slow   bool          // the network, and so commits
	wellAt time.Time     // when the network was fast again
	moved  chan struct{} // closed when a peer's contact or the leader changes
	frozen *frozenView   // the latest
	model  *reference.Registry
	rules
}

func newWorld(seed uint64, dir string) (*simWorld, error) {
	w := &simWorld{
		seed: seed, rng: rand.New(rand.NewPCG(seed, 0)), began: time.Now(),
		moved: make(chan struct{}), model: reference.New(), rules: newRules(),
	}
	var err error
	w.fsm, err = fsm.New(fsm.Config{
		Dir: dir, ClusterID: func() string { return "c" }, Logger: slog.New(slog.DiscardHandler),
		OnFatal: func(err error) { w.failLocked("the state machine stops: %v", err) },
	})
	return w, err
}

// close waits until nothing runs any more.
func (w *simWorld) close() error {
	for _, n := range w.nsqds {
		n.stop()
	}
	w.mu.Lock()
	w.dethroneLocked(0)
	w.outage = true
	w.mu.Unlock()
	for _, p := range w.peers {
		p.kill()
	}
	w.background.Wait()
	return w.fsm.Close()
}

// start runs f in the background.
func (w *simWorld) start(f func()) { w.background.Go(f) }

// after runs f later, with the world locked.
func (w *simWorld) after(d time.Duration, f func()) {
	w.start(func() {
		time.Sleep(d)
		w.mu.Lock()
		defer w.mu.Unlock()
		f()
	})
}

func (w *simWorld) failLocked(format string, args ...any) {
	if w.failed == "" {
		w.failed = fmt.Sprintf(format, args...)
		w.noteLocked("FAILED: %s", w.failed)
	}
}

func (w *simWorld) noteLocked(format string, args ...any) {
	w.story = append(w.story, fmt.Sprintf("%11.6f  ", time.Since(w.began).Seconds())+fmt.Sprintf(format, args...))
}

func (w *simWorld) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.noteLocked(format, args...)
}

// draw returns a number below n that depends on the seed, the clock and salt:
// not on the order in which goroutines ask.
func (w *simWorld) draw(n int, salt string) int {
	x := w.seed*0x9e3779b97f4a7c15 ^ uint64(time.Since(w.began))
	for _, c := range []byte(salt) {
		x = (x ^ uint64(c)) * 0x100000001b3
	}
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	x ^= x >> 31
	return int(x % uint64(n))
}

// between draws a duration.
func (w *simWorld) between(low, high time.Duration, salt string) time.Duration {
	return low + time.Duration(w.draw(int(high-low), salt))
}

// delay is how long a message takes.
func (w *simWorld) delay(salt string) time.Duration {
	if w.slow {
		return w.between(100*time.Millisecond, 1500*time.Millisecond, salt)
	}
	return w.between(time.Millisecond, 20*time.Millisecond, salt)
}

func (w *simWorld) setSlow(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.slow && !on {
		w.wellAt = time.Now().Add(2 * 1500 * time.Millisecond)
	}
	w.slow = on
	w.noteLocked("slow: %v", on)
}

func (w *simWorld) movedLocked() {
	close(w.moved)
	w.moved = make(chan struct{})
}

// simReign is one leadership.
type simReign struct {
	term   uint64
	leader *simStart
	since  time.Time
	cancel context.CancelFunc
	tombs  map[registry.EndTombstone]time.Time // when this leader saw it first
	told   map[*simPeer]*simTold
}

// simTold is what a leader was told of a peer.
type simTold struct {
	alive  bool
	looked time.Time
	// The latest time without an answer; until is zero while it lasts.
	missed, until time.Time
	// For how long it was heard since it said this epoch first.
	heard map[uint64]time.Duration
}

func (r *simReign) tell(p *simPeer, alive bool, epoch uint64) {
	t, now := r.told[p], time.Now()
	if t == nil {
		t = &simTold{alive: true, looked: now, heard: map[uint64]time.Duration{}}
		r.told[p] = t
	}
	for epoch := range t.heard {
		if t.alive {
			t.heard[epoch] += now.Sub(t.looked)
		}
	}
	if _, known := t.heard[epoch]; !known && epoch > 0 {
		t.heard[epoch] = 0
	}
	switch {
	case t.alive && !alive:
		t.missed, t.until = now, time.Time{}
	case !t.alive && alive:
		t.until = now
	}
	t.alive, t.looked = alive, now
}

// lost reports whether the leader may take the peer's sessions for orphans.
func (t *simTold) lost() bool {
	if t == nil || t.missed.IsZero() {
		return false
	}
	if t.until.IsZero() {
		return time.Since(t.missed) >= simInactive
	}
	return t.until.Sub(t.missed) >= simInactive && time.Since(t.until) < simLate
}

// back is for how long the peer was heard since a start after epoch.
func (t *simTold) back(epoch uint64) (longest time.Duration) {
	if t != nil {
		for e, d := range t.heard {
			if e > epoch {
				longest = max(longest, d)
			}
		}
	}
	return longest
}

// dethroneLocked ends the reign; the old leader does not know for a while.
func (w *simWorld) dethroneLocked(unaware time.Duration) {
	r := w.reign
	if r == nil {
		return
	}
	w.noteLocked("%s leads no more", r.leader.node)
	w.reign = nil
	w.movedLocked()
	if unaware == 0 {
		r.cancel()
		return
	}
	w.after(unaware, r.cancel)
}

// electLocked makes one of the peers lead that reach each other, if most do.
func (w *simWorld) electLocked() {
	var able []*simStart
	for _, p := range w.peers {
		if p.inContact() {
			able = append(able, p.runs)
		}
	}
	if w.reign != nil || w.outage || len(able) <= len(w.peers)/2 {
		return
	}
	w.term++
	ctx, cancel := context.WithCancel(context.Background())
	r := &simReign{
		term: w.term, leader: able[w.draw(len(able), "elect")], since: time.Now(), cancel: cancel,
		tombs: map[registry.EndTombstone]time.Time{}, told: map[*simPeer]*simTold{},
	}
	w.reign = r
	w.noteLocked("%s leads in term %d", r.leader.node, r.term)
	w.commitLocked(fsm.Batch{Commands: []registry.Command{registry.Noop{}}}, nil)
	w.movedLocked()
	w.start(func() {
		cluster.OrphanDuty{
			Term: r.term, Timeout: simInactive, Grace: simGrace, Log: slog.New(slog.DiscardHandler),
			Listen: func(ctx context.Context) map[registry.NodeID]cluster.Contact {
				w.endTombstones(ctx, r)
				return w.listen(r)
			},
			Publish: func([]cluster.OrphanGroup) {},
			View:    r.leader.view,
			End:     r.leader.commit,
		}.Run(ctx)
	})
}

// electSoon has a leader elected as raft would.
func (w *simWorld) electSoon(salt string) {
	w.after(w.between(300*time.Millisecond, 3*time.Second, salt), w.electLocked)
}

// listen is what the leader hears. One answer in twenty is lost, but not two in
// a row, and one in ten does not say the epoch.
func (w *simWorld) listen(r *simReign) map[registry.NodeID]cluster.Contact {
	w.mu.Lock()
	defer w.mu.Unlock()
	heard := map[registry.NodeID]cluster.Contact{}
	for _, p := range w.peers {
		alive, epoch := p.inContact(), p.epoch
		dice := w.draw(20, "listen"+string(p.node))
		if r.leader == p.runs {
			dice = 19
		}
		p.unheard = dice == 0 && !p.unheard
		alive = alive && !p.unheard
		if !alive || dice < 3 {
			epoch = 0
		}
		r.tell(p, alive, epoch)
		heard[p.node] = cluster.NewContact(alive, epoch)
	}
	return heard
}

// endTombstones ends those that this leader has seen for long enough.
func (w *simWorld) endTombstones(ctx context.Context, r *simReign) {
	var due []registry.Command
	w.mu.Lock()
	for topic, of := range w.model.Tombs {
		for p, at := range of {
			t := registry.EndTombstone{Topic: topic, Producer: p, SetAt: at}
			if r.tombs[t].IsZero() {
				r.tombs[t] = time.Now()
			}
			if time.Since(r.tombs[t]) >= simTombstone {
				due = append(due, t)
			}
		}
	}
	w.mu.Unlock()
	if len(due) > 0 {
		_, _ = r.leader.Submit(ctx, due...) // or at the next look
	}
}

// frozenView is the state at an entry, for the peers that have not applied more.
type frozenView struct {
	index   uint64
	view    *store.View
	holders int
	release chan struct{}
}

// freezeLocked returns a view of the present state.
func (w *simWorld) freezeLocked() *frozenView {
	if f := w.frozen; f != nil && f.index == w.index && f.holders > 0 {
		f.holders++
		return f
	}
	f := &frozenView{index: w.index, holders: 1, release: make(chan struct{})}
	ready := make(chan struct{})
	w.start(func() {
		err := w.fsm.View(func(v *store.View) error {
			f.view = v
			close(ready)
			<-f.release
			return nil
		})
		if err != nil {
			panic(err)
		}
	})
	<-ready
	w.frozen = f
	return f
}

func (f *frozenView) unhold() {
	if f == nil {
		return
	}
	if f.holders--; f.holders == 0 {
		close(f.release)
	}
}

// commitLocked appends an entry and applies it. The peers follow later.
func (w *simWorld) commitLocked(b fsm.Batch, sent []*simProposal) fsm.BatchResult {
	data, err := fsm.EncodeBatch(b)
	if err != nil {
		w.failLocked("a batch cannot be encoded: %v", err)
		return fsm.BatchResult{}
	}
	for _, p := range w.peers {
		if p.runs != nil && p.runs.lags == nil {
			p.runs.lags = w.freezeLocked()
		}
	}
	w.index++
	entry := &raft.Log{Index: w.index, Term: w.term, Type: raft.LogCommand, Data: data}
	result, ok := w.fsm.ApplyBatch([]*raft.Log{entry})[0].(fsm.BatchResult)
	if !ok {
		w.failLocked("entry %d cannot be applied", w.index)
		return fsm.BatchResult{}
	}
	// Views and the feed of a peer that has come so far show it; how far each has come is below.
	if err := w.fsm.WaitApplied(context.Background(), w.index); err != nil {
		w.failLocked("entry %d is not shown: %v", w.index, err)
	}
	w.noteEntryLocked(b, result)
	fresh := b.Origin == "" || w.model.Fresh(b.Origin, b.Epoch, b.Number)
	if fresh != (!result.Stale && result.Index == w.index) {
		w.failLocked("entry %d is %+v, fresh: %v", w.index, result, fresh)
	}
	if fresh && w.failed == "" {
		w.observeEntryLocked(b, result, sent)
	}
	for _, p := range w.peers {
		s := p.runs
		if s == nil {
			continue
		}
		most := 20 * time.Millisecond
		leads := w.reign != nil && w.reign.leader == s // it lags as long as a transaction is held
		if !leads && w.draw(8, "lag"+string(p.node)) == 0 {
			most = 400 * time.Millisecond
		}
		w.after(w.between(time.Millisecond, most, string(p.node)), s.followLocked)
	}
	return result
}

func (w *simWorld) noteEntryLocked(b fsm.Batch, result fsm.BatchResult) {
	var told []string
	for i, c := range b.Commands {
		outcome := "late"
		if i < len(result.Results) {
			outcome = [...]string{"unchanged", "changed", "not open", "not found", "foreign", "term ended"}[result.Results[i]]
		}
		told = append(told, fmt.Sprintf("%s%+v: %s", strings.TrimPrefix(fmt.Sprintf("%T", c), "registry."), c, outcome))
	}
	w.noteLocked("entry %d of %s/%d/%d: %s", w.index, b.Origin, b.Epoch, b.Number, strings.Join(told, "; "))
}

// observeEntryLocked applies a batch to the model, which has the same outcome,
// and holds it against the rules.
func (w *simWorld) observeEntryLocked(b fsm.Batch, result fsm.BatchResult, sent []*simProposal) {
	var by []*simProposal // of each command
	for _, p := range sent {
		by = append(by, slices.Repeat([]*simProposal{p}, len(p.commands))...)
	}
	for i, c := range b.Commands {
		var from *simProposal
		if i < len(by) {
			from = by[i]
		}
		got := result.Results[i]
		before := w.beforeLocked(c)
		if want := w.model.Apply(w.index, w.term, c); got.Err() != want {
			w.failLocked("entry %d, %+v: %v, want %v", w.index, c, got.Err(), want)
		}
		if got.Err() == nil {
			w.observeLocked(c, before, from)
		}
	}
	w.checkMustLocked()
}
