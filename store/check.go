package store

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/lookupd/lookupd/registry"
)

// Check reads the whole state and returns all that contradicts, joined, each
// wrapping ErrStateDamaged:
//
//   - the running hash and the counts are right
//   - byproducer mirrors the registrations of topics, tombstones lists theirs
//   - a registration's topic, channel and producer exist, and each holder has a
//     session of the producer
//   - who holds a channel holds its topic; channels have no tombstones
//   - a producer has a session, and one at most per peer
//   - each peer's number leads back to it
//
// It is for tests and for operators who suspect something; nothing calls it in service.
func (v *View) Check() error {
	c := checker{View: v}
	if err := v.checkSums(); err != nil {
		c.errs = append(c.errs, err)
	}
	c.peers()
	c.producers()
	c.topics()
	c.mirror()
	c.tombstones()
	return errors.Join(append(c.errs, v.err)...)
}

// checkSums compares the hash and the counts that the state keeps with its rows.
func (v *View) checkSums() error {
	hash, counts := v.recount()
	if hash != v.Hash() {
		return fmt.Errorf("%w: hash is %016x, its rows give %016x", ErrStateDamaged, v.Hash(), hash)
	}
	if counts != v.Counts() {
		return fmt.Errorf("%w: counts are %+v, there are %+v", ErrStateDamaged, v.Counts(), counts)
	}
	return nil
}

type checker struct {
	*View
	registrations int
	setTombstones int
	errs          []error
}

func (c *checker) report(format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf("%w: "+format, append([]any{ErrStateDamaged}, args...)...))
}

func (c *checker) peers() {
	for node := range c.rows(peersTable, []byte{numberTag}) {
		if id := registry.NodeID(node); c.node(c.number(id)) != id {
			c.report("number %d of peer %s is another's", c.number(id), id)
		}
	}
}

func (c *checker) producers() {
	for key, row := range c.rows(producersTable, nil) {
		sessions, rest, ok := decodeSessions(row)
		info, infoOK := decodeInfo(rest)
		if !ok || !infoOK || string(info.ID()) != string(key) {
			c.report("producer %q has a bad row", key)
		}
		if len(sessions) == 0 {
			c.report("producer %q has no session", key)
		}
		for i, s := range sessions {
			if i > 0 && sessions[i-1].peer >= s.peer {
				c.report("producer %q: sessions out of order", key)
			}
			if c.get(peersTable, nodeKey(s.peer)) == nil {
				c.report("producer %q: session of unknown peer %d", key, s.peer)
			}
		}
	}
}

func (c *checker) topics() {
	for key, row := range c.rows(topicsTable, nil) {
		topic, rest := splitKey(key)
		switch {
		case len(rest) == 0: // the topic
		case rest[0] == channelTag:
			c.exists(topicKey(string(topic)), key)
		case rest[0] == producerTag:
			c.registration(Name{Topic: string(topic)}, registry.ProducerID(rest[1:]), row)
		case rest[0] == registrationTag:
			channel, p := splitKey(rest[1:])
			c.registration(Name{Topic: string(topic), Channel: string(channel)}, registry.ProducerID(p), row)
		default:
			c.report("topics has a strange key %q", key)
		}
	}
}

func (c *checker) exists(key, by []byte) {
	if c.get(topicsTable, key) == nil {
		c.report("row %q lacks %q", by, key)
	}
}

func (c *checker) registration(name Name, p registry.ProducerID, row []byte) {
	c.registrations++
	key := registrationKey(name.Topic, name.Channel, p)
	c.exists(topicKey(name.Topic), key)
	if !bytes.Equal(c.get(byProducerTable, offerKey(p, name.Topic, name.Channel)), row) {
		c.report("byproducer does not mirror %q", key)
	}
	h, ok := decodeHolding(row)
	if !ok {
		c.report("bad row %q", key)
	}
	sessions, _, _ := c.sessions(p)
	for _, peer := range h.peers {
		if !slices.ContainsFunc(sessions, func(s session) bool { return s.peer == peer }) {
			c.report("%q: holder %d has no session", key, peer)
		}
	}
	switch {
	case name.Channel != "":
		c.exists(channelKey(name.Topic, name.Channel), key)
		of, _, _ := c.holding(topicsTable, registrationKey(name.Topic, "", p))
		if slices.ContainsFunc(h.peers, func(peer uint32) bool { return !slices.Contains(of.peers, peer) }) {
			c.report("%q: a holder does not hold the topic", key)
		}
		if h.setAt != 0 {
			c.report("%q: tombstone of a channel", key)
		}
	case h.setAt != 0:
		c.setTombstones++
		if c.get(tombstonesTable, tombstoneKey(name.Topic, p)) == nil {
			c.report("tombstones lacks %q", key)
		}
	}
}

func (c *checker) mirror() {
	offers := 0
	for range c.rows(byProducerTable, nil) {
		offers++
	}
	if offers != c.registrations {
		c.report("byproducer has %d rows for %d registrations", offers, c.registrations)
	}
}

func (c *checker) tombstones() {
	listed := 0
	for range c.rows(tombstonesTable, nil) {
		listed++
	}
	if listed != c.setTombstones {
		c.report("tombstones has %d rows for %d tombstones", listed, c.setTombstones)
	}
}
