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
}

func (a *applied) get() (index, term uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.index, a.term
}

// publish sets the index and wakes those who wait for it or a lower one.
func (a *applied) publish(index, term uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.index, a.term = index, term
	for len(a.waiters) > 0 && a.waiters[0].index <= index {
		close(heap.Pop(&a.waiters).(*waiter).done)
	}
}

// wait returns when the index is reached, or with ctx's error.
func (a *applied) wait(ctx context.Context, index uint64) error {
	a.mu.Lock()
	if a.index >= index {
		a.mu.Unlock()
		return nil
	}
	w := &waiter{index: index, done: make(chan struct{})}
	heap.Push(&a.waiters, w)
	a.mu.Unlock()
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

// waiter is one call of wait.
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
