package store

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/lookupd/lookupd/registry"
)

// maxProducerID keeps keys well below bbolt's limit; a valid one is far shorter.
const maxProducerID = 1024

// Change is a View whose state can be changed. Entry begins a log entry; each
// command returns its result and notes what it changed for TakeEvents. What the
// commands do depends on their arguments, the entry and the state alone.
//
// A failure is kept, makes the following commands meaningless and is returned
// by Tx.Apply. What a Change remembers of the state holds for its transaction.
type Change struct {
	*View
	origin registry.NodeID // of the entry
	events []registry.Event
	hasher rowHasher
	// touched is where rows change, with repetitions.
	touched []slot
}

// Entry begins the log entry at index; origin is named in its events.
func (c *Change) Entry(index, term uint64, origin registry.NodeID) {
	c.meta.index, c.meta.term = index, term
	c.origin = origin
	c.events = c.events[:0]
}

// SetConfiguration notes that the entry is a raft configuration.
func (c *Change) SetConfiguration() { c.meta.configuration = c.meta.index }

// SetOrigin stores the entry's batch as the last one of node.
func (c *Change) SetOrigin(node registry.NodeID, epoch, number uint64, results []registry.Result) {
	o := origin{epoch: epoch, number: number, index: c.meta.index, results: results}
	key := originKey(node)
	c.put(peersTable, key, c.get(peersTable, key), o.encode())
}

// TakeEvents returns what the entry changed, in order.
func (c *Change) TakeEvents() []registry.Event {
	if len(c.events) == 0 {
		return nil
	}
	events := slices.Clone(c.events) // they are kept for long, and c.events has grown beyond them
	c.events = c.events[:0]
	return events
}

// finish writes the meta row, once: what follows would not be in it.
func (c *Change) finish() error {
	if c.err != nil {
		return c.err
	}
	return c.tx.Bucket([]byte(metaBucket)).Put([]byte(stateRow), c.meta.encode())
}

func (c *Change) fail(err error) {
	if c.err == nil {
		c.err = err
	}
}

func (c *Change) emit(e registry.Event) {
	e.Origin = c.origin
	c.events = append(c.events, e)
}

// fillPercent is how full bbolt leaves the first of two pages into which it
// splits one. Rows of a producer come mostly in order, so that the second page
// fills up and the first does not. Rows of topics come in between as well, where
// many producers declare at the same time, and there the second page, if it is
// nearly empty, stays so. BenchmarkOpenSnapshotState has both: 196 and 201 bytes per
// registration, 169 and 224 with 0.8 for all, 219 and more with bbolt's 0.5.
func (t table) fillPercent() float64 {
	if t == topicsTable {
		return 0.6
	}
	return 0.8
}

// put writes a row over old, which is nil if there was none. The value must not be changed after.
func (c *Change) put(t table, key, old, value []byte) {
	b := c.bucket(t)
	if b == nil {
		return
	}
	b.FillPercent = t.fillPercent()
	if err := b.Put(key, value); err != nil {
		c.fail(fmt.Errorf("write %s %q: %w", t, key, err))
		return
	}
	c.touch(t, key)
	if old != nil {
		c.meta.hash -= c.hasher.row(t, key, old)
	}
	c.meta.hash += c.hasher.row(t, key, value)
}

// remove deletes a row that is there.
func (c *Change) remove(t table, key, old []byte) {
	b := c.bucket(t)
	if b == nil {
		return
	}
	c.touch(t, key)
	c.meta.hash -= c.hasher.row(t, key, old)
	if err := b.Delete(key); err != nil {
		c.fail(fmt.Errorf("delete %s %q: %w", t, key, err))
	}
}

// checkNames fails the change unless the names can be keys; channel may be "".
func (c *Change) checkNames(topic, channel string) bool {
	if registry.ValidName(topic) && (channel == "" || registry.ValidName(channel)) {
		return true
	}
	c.fail(fmt.Errorf("%w: name %q or %q", ErrBadCommand, topic, channel))
	return false
}

// assignNumber returns the peer's number and gives it the next one at first sight.
func (c *Change) assignNumber(node registry.NodeID) uint32 {
	if n := c.number(node); n != 0 {
		return n
	}
	var last uint32
	for number := range c.rows(peersTable, []byte{nodeTag}) {
		last = binary.BigEndian.Uint32(number)
	}
	n := last + 1
	c.put(peersTable, numberKey(node), nil, binary.AppendUvarint(nil, uint64(n)))
	c.put(peersTable, nodeKey(n), nil, []byte(node))
	c.remember(node, n)
	return n
}

func validProducerID(p registry.ProducerID) bool {
	return p != "" && len(p) <= maxProducerID && !strings.Contains(string(p), "\x00")
}

func result(changed bool) registry.Result {
	if changed {
		return registry.ResultChanged
	}
	return registry.ResultUnchanged
}
