package cluster

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/lookupd/lookupd/fsm"
	"github.com/lookupd/lookupd/store"
)

// Consistency is what a reader asks for.
type Consistency int

// Kinds of reads.
const (
	// Linearizable: the answer shows every change acknowledged before the call.
	Linearizable Consistency = iota
	// Stale: the answer is this peer's state as it is; ReadInfo says how old.
	Stale
)

// ReadInfo says what an answer was read from.
type ReadInfo struct {
	Index    uint64 // log index of the state
	Leader   string // name of the leader this peer knows, or ""
	Stale    bool
	StaleFor time.Duration // upper bound of a stale answer's age
}

// freshEvery is how often an idle peer runs a read barrier, so that stale
// answers know their age.
const freshEvery = time.Second

// Await returns when this peer's state may be read: Linearizable, once it covers
// every write answered before the call, or ErrNoQuorum if ctx ends first; Stale, at
// once. Both: ErrNotReady until this peer has completed a read barrier since its
// start. The state's index is ReadInfo's or, when it is read later, a higher one.
func (n *Node) Await(ctx context.Context, c Consistency) (ReadInfo, error) {
	info := ReadInfo{Stale: c == Stale, Leader: n.Leader()}
	var noQuorum error
	if c == Linearizable {
		_, noQuorum = n.ReadBarrier(ctx)
	}
	began, ready := n.barrierBegan.get()
	switch {
	case !ready:
		return info, ErrNotReady
	case noQuorum != nil:
		return info, noQuorum
	}
	info.StaleFor, info.Leader = time.Since(began), n.Leader()
	info.Index, _ = n.fsm.Applied()
	return info, nil
}

// Read runs fn on one state of the registry, when Await returns. fn must not keep
// the View.
func (n *Node) Read(ctx context.Context, c Consistency, fn func(*store.View) error) (ReadInfo, error) {
	info, err := n.Await(ctx, c)
	if err != nil {
		return info, err
	}
	return info, n.View(func(v *store.View) error {
		info.Index, _ = v.Applied()
		return fn(v)
	})
}

// Unchanged reports whether what was read from footprint at index reads the same
// now; called after Await, also at the index that Await told.
func (n *Node) Unchanged(footprint store.Footprint, index uint64) bool {
	return n.fsm.Unchanged(footprint, index)
}

// View runs fn on this peer's state as it is now, whatever its age.
func (n *Node) View(fn func(*store.View) error) error { return n.fsm.View(fn) }

// Save begins a snapshot of the registry, after a read barrier unless it is to
// be Stale; its errors are Read's. The caller must Release it.
func (n *Node) Save(ctx context.Context, c Consistency) (*fsm.Saved, ReadInfo, error) {
	info, err := n.Read(ctx, c, func(*store.View) error { return nil })
	if err != nil {
		return nil, info, err
	}
	saved, err := n.fsm.Save()
	return saved, info, err
}

// Ready returns nil once this peer has completed a read barrier since its
// start, else ErrNotReady.
func (n *Node) Ready() error {
	if _, ok := n.barrierBegan.get(); !ok {
		return ErrNotReady
	}
	return nil
}

// ReadyAt returns the index of this peer's state when it became ready, or false
// before.
func (n *Node) ReadyAt() (index uint64, ok bool) {
	index = n.readyAt.Load()
	return index, index > 0
}

// NoQuorumSince returns for how long this peer has known no leader, 0 if it knows one.
func (n *Node) NoQuorumSince() time.Duration {
	if leader, since := n.leader.current(); leader == "" {
		return time.Since(since)
	}
	return 0
}

func (n *Node) barrierDone(began time.Time) {
	if _, ready := n.barrierBegan.get(); !ready {
		index, _ := n.fsm.Applied()
		n.readyAt.CompareAndSwap(0, index)
	}
	n.barrierBegan.advance(began)
	n.metrics.barrierDone(time.Since(began))
}

// keepFresh runs a read barrier whenever none began for freshEvery. The first
// makes the peer ready.
func (n *Node) keepFresh(ctx context.Context) {
	for ctx.Err() == nil {
		began, ready := n.barrierBegan.get()
		if rest := freshEvery - time.Since(began); ready && rest > 0 {
			select {
			case <-ctx.Done():
			case <-time.After(rest):
			}
			continue
		}
		attempt, cancel := context.WithTimeout(ctx, freshEvery)
		_, err := n.ReadBarrier(attempt)
		cancel()
		if err == nil && !ready {
			n.log.Info("ready: this peer's state covers every acknowledged change", "leader", n.Leader())
		}
	}
}

// atomicTime is a time that many goroutines share; its zero value is unset.
type atomicTime struct{ p atomic.Pointer[time.Time] }

func (a *atomicTime) get() (time.Time, bool) {
	if t := a.p.Load(); t != nil {
		return *t, true
	}
	return time.Time{}, false
}

func (a *atomicTime) clear() {
	if a.p.Load() != nil {
		a.p.Store(nil)
	}
}

// advance sets it to t unless it is later already.
func (a *atomicTime) advance(t time.Time) {
	for {
		old := a.p.Load()
		if old != nil && !old.Before(t) || a.p.CompareAndSwap(old, &t) {
			return
		}
	}
}

// setIfZero sets it to t unless it is set, and returns what it is.
func (a *atomicTime) setIfZero(t time.Time) time.Time {
	if a.p.CompareAndSwap(nil, &t) {
		return t
	}
	if old := a.p.Load(); old != nil {
		return *old
	}
	return t
}
