package fsm

import (
	"container/heap"
	"context"
	"sync"
)

// applied is the index that readers wait for. The zero value is ready for use.
type applied struct {
	mu          sync.Mutex
	index, term uint64
	waiters     waiters
	// held is the index that is applied and not committed, 0 if there is none.
	// A waiter for it finds it here, or is found by hold: neither is missed.
	held  uint64
	asked bool // for the commit of what is held
}

func (a *applied) get() (index, term uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.index, a.term
}

// hold notes what is applied and will be committed, and reports whether somebody waits for that.
func (a *applied) hold(index uint64) (awaited bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.held = index
	return len(a.waiters) > 0 && a.waiters[0].index <= index
}

// drop takes back what hold noted.
func (a *applied) drop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.held, a.asked = 0, false
}

// publish sets the index and wakes those who wait for it or a lower one.
func (a *applied) publish(index, term uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.index, a.term = index, term
	a.held, a.asked = 0, false
	for len(a.waiters) > 0 && a.waiters[0].index <= index {
		close(heap.Pop(&a.waiters).(*waiter).done)
	}
}

// await returns who waits for the index, nil if it is reached. If it is held, one
// of those who wait for what is held is to have it committed.
func (a *applied) await(index uint64) (w *waiter, commit bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.index >= index {
		return nil, false
	}
	w = &waiter{index: index, done: make(chan struct{})}
	heap.Push(&a.waiters, w)
	commit = a.held >= index && !a.asked
	a.asked = a.asked || commit
	return w, commit
}

// wait returns when the index of w is reached, or with ctx's error.
func (a *applied) wait(ctx context.Context, w *waiter) error {
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if w.at >= 0 {
		heap.Remove(&a.waiters, w.at)
	}
	return ctx.Err()
}

// waiter is one call of await.
type waiter struct {
	index uint64
	done  chan struct{}
	at    int // in the heap, -1 once it has left
}

// waiters is a heap, the lowest index first.
type waiters []*waiter

func (w waiters) Len() int           { return len(w) }
func (w waiters) Less(i, j int) bool { return w[i].index < w[j].index }
func (w waiters) Swap(i, j int) {
	w[i], w[j] = w[j], w[i]
	w[i].at, w[j].at = i, j
}

func (w *waiters) Push(x any) {
	added := x.(*waiter)
	added.at = len(*w)
	*w = append(*w, added)
}

func (w *waiters) Pop() any {
	last := len(*w) - 1
	removed := (*w)[last]
	(*w)[last] = nil
	*w = (*w)[:last]
	removed.at = -1
	return removed
}
