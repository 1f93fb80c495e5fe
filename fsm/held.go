package fsm

import (
	"fmt"
	"time"

	"github.com/hashicorp/raft"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
	"github.com/lookupd/lookupd/witness"
)

const (
	// holdFor is how long a transaction takes in further entries, and so how late
	// they may be seen by who does not wait for them. docs/adr/0009 has what it is worth.
	holdFor = 20 * time.Millisecond
	// maxTransaction is how many commands one transaction takes, or one entry if
	// that has more. bbolt splits pages only at the commit, so a page that takes n
	// rows costs n^2 (150,000 REGISTERs in one transaction took 30 s, in small ones 3).
	maxTransaction = 2048
)

// held is the open transaction, and what is to be told once it is committed.
type held struct {
	tx       *store.Tx
	commands int
	took     time.Duration // so far
	timed    bool          // the timer will end it

	first                      uint64 // entry
	index, term, configuration uint64 // of the state in it
	configured                 bool   // a configuration is among the entries

	changes []registry.Change
	marked  []HashMark
	noted   []*raft.Log // for the witness
}

// add applies an entry in the open transaction, and begins one if there is none.
func (f *FSM) add(e entry) (response any, err error) {
	began := time.Now()
	if f.held == nil {
		tx, err := f.state.Load().Begin()
		if err != nil {
			return nil, err
		}
		f.held = &held{tx: tx, first: e.Index}
	}
	h := f.held
	err = h.tx.Apply(func(c *store.Change) error {
		response = applyEntry(c, e)
		if events := c.TakeEvents(); len(events) > 0 {
			h.changes = append(h.changes, registry.Change{Index: e.Index, Events: events})
		}
		// A skipped entry is not where the state is.
		if at, _ := c.Applied(); at == e.Index && at%markEvery == 0 {
			h.marked = append(h.marked, HashMark{Index: at, Hash: c.Hash()})
		}
		h.index, h.term = c.Applied()
		h.configuration = c.ConfigurationIndex()
		return nil
	})
	h.commands += len(e.batch.Commands)
	h.configured = h.configured || e.Type == raft.LogConfiguration
	if witness.On {
		h.noted = append(h.noted, e.Log)
	}
	h.took += time.Since(began)
	return response, err
}

// settle commits the open transaction at the end of a raft batch if somebody waits
// for it or the last commit is long ago. Else later batches may go into it, and
// the timer ends it. Whoever changes the members names the configuration that the
// change is meant for, and they change seldom: it is not held.
func (f *FSM) settle() error {
	h := f.held
	if h == nil {
		return nil
	}
	awaited := f.applied.hold(h.index)
	if awaited || h.configured || time.Since(f.flushed) >= f.holdFor {
		return f.commit()
	}
	if !h.timed {
		h.timed = true
		f.timer.Reset(f.holdFor)
	}
	return nil
}

// commit ends the open transaction, if there is one, and publishes what it did.
// The caller holds mu.
func (f *FSM) commit() error {
	h := f.held
	if h == nil {
		return nil
	}
	f.flushed = time.Now()
	if err := h.tx.Commit(); err != nil {
		return fmt.Errorf("commit log entries %d to %d: %w", h.first, h.index, err)
	}
	f.held = nil
	if f.config.Took != nil {
		f.config.Took(h.took + time.Since(f.flushed))
	}
	f.unsaved.Add(int64(h.commands))
	for _, log := range h.noted {
		witness.Applied(log.Index, log.Term, uint8(log.Type), log.Data)
	}
	// The feed before the index, so that who waited for it finds its changes there.
	f.configuration.Store(h.configuration)
	f.marks.add(h.marked)
	f.feed.publish(h.changes)
	f.applied.publish(h.index, h.term)
	return nil
}

// drop forgets the open transaction. The caller holds mu.
func (f *FSM) drop() error {
	h := f.held
	f.held = nil
	f.applied.drop()
	if h == nil {
		return nil
	}
	return h.tx.Rollback()
}

// change runs fn with mu held. Its error is fatal: what is not committed by then
// never will be, and all later calls return the error.
func (f *FSM) change(fn func() error) error {
	f.mu.Lock()
	if f.failed != nil {
		defer f.mu.Unlock()
		return f.failed
	}
	err := fn()
	if err != nil {
		f.failed = err
		_ = f.drop() // the file is given up
	}
	f.mu.Unlock()
	if err != nil {
		f.config.OnFatal(err)
	}
	return err
}

// flush makes all that is applied visible.
func (f *FSM) flush() error { return f.change(f.commit) }

// flushApart is flush for callers that are not raft: if bbolt panics the process
// has to end, whatever the caller recovers from.
func (f *FSM) flushApart() error {
	done := make(chan error, 1)
	go func() { done <- f.flush() }()
	return <-done
}
