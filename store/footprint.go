package store

import (
	"sync/atomic"

	"github.com/cespare/xxhash/v2"

	"github.com/lookupd/lookupd/registry"
)

// Footprint says which rows an answer was read from. Rows share a footprint by
// their hash, so it may be touched by a change elsewhere, and is never missed by one of its own.
type Footprint []slot

// slot is a place in State.changed.
type slot uint32

const (
	topicNamesSlot slot = iota // which topics there are
	nodesSlot                  // the producers, and the topics they offer
	firstSlot                  // of one topic or one producer each

	hashedSlots = 1 << 16
)

// changes has for each slot the index of the last log entry that changed one of its rows.
type changes [firstSlot + hashedSlots]atomic.Uint64

// topicSlot has the rows of a topic that /lookup shows: not the registrations of its channels.
func topicSlot(topic []byte) slot { return firstSlot + slot(xxhash.Sum64(topic)%hashedSlots) }

// producerSlot has the producer's row. No topic's name is like a producer's id, so they need no tag.
func producerSlot(p registry.ProducerID) slot {
	return firstSlot + slot(xxhash.Sum64String(string(p))%hashedSlots)
}

// Unchanged reports whether what was read from footprint at index reads the same in
// this state. If it was called after Applied's index was taken, the answer is that of this
// index too. It does not block.
func (s *State) Unchanged(footprint Footprint, index uint64) bool {
	for _, slot := range footprint {
		if s.changed[slot].Load() > index {
			return false
		}
	}
	return true
}

// Footprint returns where Topic, Topics and Nodes have read since the View began.
// Other questions leave none.
func (v *View) Footprint() Footprint { return v.footprint }

func (v *View) readFrom(s slot) { v.footprint = append(v.footprint, s) }

// touch notes that a row changes.
func (c *Change) touch(t table, key []byte) {
	switch t {
	case producersTable:
		c.touched = append(c.touched, nodesSlot, producerSlot(registry.ProducerID(key)))
	case byProducerTable:
		if _, offer := splitKey(key); len(offer) > 0 && offer[0] == offeredTopicTag {
			c.touched = append(c.touched, nodesSlot)
		}
	case topicsTable:
		topic, rest := splitKey(key)
		switch {
		case len(rest) == 0:
			c.touched = append(c.touched, topicNamesSlot, topicSlot(topic))
		case rest[0] != registrationTag:
			c.touched = append(c.touched, topicSlot(topic))
		}
	}
}

// publishTouched tells readers what changed. It comes before the commit: who sees the new
// rows never takes an older answer after.
func (s *State) publishTouched(c *Change) {
	for _, slot := range c.touched {
		s.changed[slot].Store(c.meta.index)
	}
}

// changedAll makes the state one of which nothing was read before.
func (s *State) changedAll(index uint64) {
	for i := range s.changed {
		s.changed[i].Store(index)
	}
}
