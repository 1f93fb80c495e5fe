package fsm_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
)

func TestWaitApplied(t *testing.T) {
	m := newMachine(t)
	m.apply(batch(nodeA, 1, registry.CreateTopic{Topic: "t"}))
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, index := range []uint64{0, 1} { // reached: the context does not matter
		if err := m.WaitApplied(canceled, index); err != nil {
			t.Errorf("index %d: %v", index, err)
		}
	}
	if err := m.WaitApplied(canceled, 2); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := m.WaitApplied(short, 2); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("deadline: %v", err)
	}
}

// TestWaitersSeeTheirIndex: who waited finds state and feed at the index.
func TestWaitersSeeTheirIndex(t *testing.T) {
	m := newMachine(t)
	const entries = 200
	var waiters sync.WaitGroup
	for i := range uint64(entries) {
		index := (i*37)%entries + 1 // in no order
		waiters.Go(func() {
			if err := m.WaitApplied(t.Context(), index); err != nil {
				t.Error(err)
			}
			changes, ok := m.Feed().Since(index - 1)
			if !ok || len(changes) == 0 || changes[0].Index != index {
				t.Errorf("index %d: the feed has not got it", index)
			}
			err := m.View(func(v *store.View) error {
				if applied, _ := v.Applied(); applied < index {
					return fmt.Errorf("waited for %d, state is at %d", index, applied)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	for i := range uint64(entries) {
		m.apply(batch(nodeA, i+1, registry.CreateTopic{Topic: fmt.Sprint("t", i)}))
	}
	waiters.Wait()
}

// TestWaitersThatGiveUp do not hold up the others, in a bubble so that all are waiting when one is canceled.
func TestWaitersThatGiveUp(t *testing.T) {
	m := newMachine(t)
	synctest.Test(t, func(t *testing.T) {
		var waiters sync.WaitGroup
		for i := range uint64(20) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if i%3 != 0 {
				ctx = context.WithoutCancel(t.Context())
			}
			waiters.Go(func() {
				err := m.WaitApplied(ctx, i%5+1)
				if gaveUp := errors.Is(err, context.DeadlineExceeded); gaveUp != (i%3 == 0) {
					t.Errorf("waiter %d: %v", i, err)
				}
			})
		}
		time.Sleep(2 * time.Second) // of the bubble's clock
		synctest.Wait()
		for i := range uint64(5) {
			m.apply(batch(nodeA, i+1, registry.CreateTopic{Topic: fmt.Sprint("t", i)}))
		}
		waiters.Wait()
	})
}

func TestRestoreWakesWaiters(t *testing.T) {
	m, snapshot := newMachine(t), filled(t).snapshot()
	woken := make(chan error, 1)
	go func() { woken <- m.WaitApplied(t.Context(), 4) }()
	if err := m.restore(snapshot); err != nil {
		t.Fatal(err)
	}
	if err := <-woken; err != nil {
		t.Error(err)
	}
}
