package store

import "github.com/lookupd/lookupd/registry"

// Tombstone hides from topic the producers that node names; set again, it
// counts from this entry.
func (c *Change) Tombstone(topic, node string) registry.Result {
	changed := false
	if !registry.ValidName(topic) {
		return result(changed)
	}
	name := Name{Topic: topic}
	for _, p := range c.offerers(name) {
		_, info, _ := c.sessions(p)
		if !c.info(p, info).IsNode(node) {
			continue
		}
		key := registrationKey(topic, "", p)
		h, old, _ := c.holding(topicsTable, key)
		if h.setAt == c.meta.index {
			continue
		}
		if h.setAt == 0 {
			c.put(tombstonesTable, tombstoneKey(topic, p), nil, []byte(noFlags))
		}
		h.setAt = c.meta.index
		c.putHolding(key, name, p, old, h)
		c.emit(registry.Event{Kind: registry.TombstoneSet, Topic: topic, Producer: p})
		changed = true
	}
	return result(changed)
}

// EndTombstone shows the producer again, unless its tombstone was set at
// another index than setAt or is gone.
func (c *Change) EndTombstone(topic string, p registry.ProducerID, setAt uint64) registry.Result {
	key := registrationKey(topic, "", p)
	h, old, _ := c.holding(topicsTable, key)
	if h.setAt == 0 || h.setAt != setAt {
		return registry.ResultUnchanged
	}
	h.setAt = 0
	c.putHolding(key, Name{Topic: topic}, p, old, h)
	c.remove(tombstonesTable, tombstoneKey(topic, p), []byte(noFlags))
	c.emit(registry.Event{Kind: registry.TombstoneEnded, Topic: topic, Producer: p})
	return registry.ResultChanged
}
