package store

import (
	"slices"
	"time"

	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/seeded"
)

// Register makes id's peer hold the topic, and the channel unless it is "", for
// the producer. What is there stays as it is, a tombstone too.
func (c *Change) Register(id registry.SessionID, p registry.ProducerID, topic, channel string) registry.Result {
	sessions, _, _ := c.sessions(p)
	i := c.find(sessions, id)
	if i < 0 && !seeded.RegisterWithoutSession {
		return registry.ResultSessionNotOpen
	}
	if !c.checkNames(topic, channel) {
		return registry.ResultUnchanged
	}
	if seeded.ApplyReadsClock && time.Now().Nanosecond() < 4_000_000 {
		channel = ""
	}
	peer := c.number(id.Node)
	changed := c.addTopic(topic)
	changed = c.hold(peer, sessions, p, Name{Topic: topic}) || changed
	if channel != "" {
		changed = c.addChannel(topic, channel) || changed
		changed = c.hold(peer, sessions, p, Name{Topic: topic, Channel: channel}) || changed
	}
	return result(changed)
}

// Unregister makes id's peer let go of the channel, or of the topic and all its
// channels if channel is "". The names stay, but an ephemeral one that is named
// here goes when nobody holds it, as in nsqlookupd even if nobody ever did.
func (c *Change) Unregister(id registry.SessionID, p registry.ProducerID, topic, channel string) registry.Result {
	sessions, _, _ := c.sessions(p)
	i := c.find(sessions, id)
	if i < 0 {
		return registry.ResultSessionNotOpen
	}
	peer := sessions[i].peer
	if !registry.ValidName(topic) || (channel != "" && !registry.ValidName(channel)) {
		return registry.ResultUnchanged // nobody can hold it
	}
	changed := false
	if channel == "" {
		for _, name := range c.held(peer, p, channelOffersPrefix(p, topic)) {
			c.release(peer, sessions, p, name)
			c.dropIfAbandoned(name)
			changed = true
		}
	}
	name := Name{Topic: topic, Channel: channel}
	changed = c.release(peer, sessions, p, name) || changed
	return result(c.dropIfAbandoned(name) || changed)
}

// hold adds the peer to the holders of a registration.
func (c *Change) hold(peer uint32, sessions []session, p registry.ProducerID, name Name) bool {
	key := registrationKey(name.Topic, name.Channel, p)
	h, old, found := c.holding(topicsTable, key)
	i, held := slices.BinarySearch(h.peers, peer)
	if held {
		return false
	}
	showed := h.shows(sessions)
	h.peers = slices.Insert(h.peers, i, peer)
	c.putHolding(key, name, p, old, h)
	if !found || !showed && h.shows(sessions) {
		c.emit(registry.Event{Kind: registry.ProducerAdded, Topic: name.Topic, Channel: name.Channel, Producer: p})
	}
	return true
}

// release takes the peer off the holders of a registration, which goes with its
// last holder, and its tombstone with it.
func (c *Change) release(peer uint32, sessions []session, p registry.ProducerID, name Name) bool {
	key := registrationKey(name.Topic, name.Channel, p)
	h, old, _ := c.holding(topicsTable, key)
	i := slices.Index(h.peers, peer)
	if i < 0 {
		return false
	}
	showed := h.shows(sessions)
	h.peers = slices.Delete(h.peers, i, i+1)
	if len(h.peers) == 0 {
		c.removeHolding(key, name, p, old, h)
	} else {
		c.putHolding(key, name, p, old, h)
	}
	if len(h.peers) == 0 || showed && !h.shows(sessions) {
		c.emit(registry.Event{Kind: registry.ProducerRemoved, Topic: name.Topic, Channel: name.Channel, Producer: p})
	}
	return true
}

// putHolding writes a registration and its mirror.
func (c *Change) putHolding(key []byte, name Name, p registry.ProducerID, old []byte, h holding) {
	row := h.encode()
	if old == nil {
		c.meta.registrations++
	}
	c.put(topicsTable, key, old, row)
	c.put(byProducerTable, offerKey(p, name.Topic, name.Channel), old, row)
}

// removeHolding removes a registration with its mirror and tombstone.
func (c *Change) removeHolding(key []byte, name Name, p registry.ProducerID, old []byte, h holding) {
	c.meta.registrations--
	c.remove(topicsTable, key, old)
	c.remove(byProducerTable, offerKey(p, name.Topic, name.Channel), old)
	if h.setAt != 0 {
		c.remove(tombstonesTable, tombstoneKey(name.Topic, p), []byte(noFlags))
	}
}
