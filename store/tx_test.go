package store_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/lookupd/lookupd/store"
)

// begin begins a transaction that ends with the test at the latest.
func (w *world) begin() *store.Tx {
	w.t.Helper()
	tx, err := w.state.Begin()
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := tx.Rollback(); err != nil {
			w.t.Error(err)
		}
	})
	return tx
}

// in applies ops in tx, each as an entry of its own and by a call of its own.
func (w *world) in(tx *store.Tx, ops ...op) {
	w.t.Helper()
	for _, o := range ops {
		w.index++
		err := tx.Apply(func(c *store.Change) error {
			c.Entry(w.index, 1, nodeA)
			o(c)
			return nil
		})
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

func TestTransactionIsVisibleAtItsCommit(t *testing.T) {
	w := newWorld(t)
	w.must(createTopic("before"))
	before, from := w.dump(), w.index
	var read store.Footprint
	w.view(func(v *store.View) error {
		v.Topics()
		read = v.Footprint()
		return nil
	})
	tx := w.begin()
	w.in(tx, createTopic("a"), createTopic("b"))
	if got := w.dump(); got != before || !w.state.Unchanged(read, from) {
		t.Errorf("visible before the commit: %s", got)
	}
	err := tx.Apply(func(c *store.Change) error { // it sees itself
		if got := c.Counts().Topics; got != 3 {
			return fmt.Errorf("%d topics", got)
		}
		return nil
	})
	if err = errors.Join(err, tx.Commit(), tx.Rollback()); err != nil {
		t.Fatal(err)
	}
	if w.state.Unchanged(read, from) || !w.state.Unchanged(read, w.index) {
		t.Error("readers are told of another change")
	}
	w.view(func(v *store.View) error {
		if at, _ := v.Applied(); at != w.index || len(v.Topics()) != 3 {
			t.Errorf("%v at %d", v.Topics(), at)
		}
		return v.Check()
	})
	w.must(createTopic("after"))
}

func TestRollbackForgetsAll(t *testing.T) {
	w := newWorld(t)
	w.must(createTopic("before"))
	before, at := w.dump(), w.index
	tx := w.begin()
	w.in(tx, createTopic("a"))
	if err := errors.Join(tx.Rollback(), tx.Rollback()); err != nil {
		t.Fatal(err)
	}
	if got := w.dump(); got != before {
		t.Errorf("left: %s", got)
	}
	w.index = at
	w.must(createTopic("after"))
}

// A command that cannot be applied is told at once: what follows would rest on it.
func TestFailureIsToldByApply(t *testing.T) {
	w := newWorld(t)
	w.must(createTopic("before"))
	before := w.dump()
	tx := w.begin()
	w.in(tx, createTopic("a"))
	err := tx.Apply(func(c *store.Change) error {
		c.CreateTopic("no name\x00")
		return nil
	})
	if !errors.Is(err, store.ErrBadCommand) {
		t.Errorf("apply: %v", err)
	}
	if err := tx.Commit(); !errors.Is(err, store.ErrBadCommand) {
		t.Errorf("commit: %v", err)
	}
	if got := w.dump(); got != before {
		t.Errorf("left: %s", got)
	}
	w.begin() // nothing holds it up
}
