package check

import (
	"math/bits"

	"github.com/lookupd/lookupd/proof/history"
	"github.com/lookupd/lookupd/registry"
)

// Most holders, producers and channels of one topic in a round. A holder is a
// producer and a peer through which it declares the topic.
const (
	maxHolders   = 96 // of 8 producers: 3 peers, and 9 that took the place of one
	maxProducers = 32
	maxChannels  = 8
)

// holderSet is a set of holders. It is comparable.
type holderSet [(maxHolders + 63) / 64]uint64

func (s *holderSet) add(h uint8)      { s[h/64] |= 1 << (h % 64) }
func (s *holderSet) remove(h uint8)   { s[h/64] &^= 1 << (h % 64) }
func (s *holderSet) has(h uint8) bool { return s[h/64]&(1<<(h%64)) != 0 }
func (s *holderSet) empty() bool      { return *s == holderSet{} }

// state is one topic, as its clients may know it. It is comparable, so porcupine
// can tell whether it has been in a state before.
type state struct {
	exists   bool
	tombs    uint32 // producers
	channels uint8
	open     holderSet // holders whose newest session is open
	holders  holderSet // of the topic
	channel  [maxChannels]holderSet
	newest   [maxHolders]uint16 // the latest session of each holder that was opened or ended
	logged   uint32             // how many changes that only the log knows are done
}

// action is what an operation does to the state or asks of it; what does not
// change in a partition, such as which producer a holder is of, is in it.
type action struct {
	kind      actionKind
	holder    uint8
	session   uint16 // counts the holder's sessions from 1, 0: never opened
	channel   int8   // -1: the topic itself
	producers uint32 // that a tombstone names
	logged    uint32 // which change it is of those that only the log knows, from 1; 0: none of them
	topic     *topic
	op        *history.Op // for messages; nil if only the log knows it
}

type actionKind uint8

const (
	doRegister actionKind = iota + 1
	doUnregister
	doIdentify
	doEnd
	doCreateTopic
	doDeleteTopic
	doCreateChannel
	doDeleteChannel
	doTombstone
	askLookup
	askChannels
	askExists // a projection of /topics
	askNodes  // a projection of /nodes
)

// answer is what the client was told.
type answer struct {
	found     bool
	producers uint32
	tombs     uint32 // of /nodes: which of the producers are marked
	channels  uint8
	bad       bool // shows what no state can: a foreign or a double producer
}

// topic is what is fixed in a partition.
type topic struct {
	name              string
	ephemeral         bool
	producerOf        [maxHolders]uint8
	ephemeralChannels uint8
}

func newTopic(name string) *topic { return &topic{name: name, ephemeral: registry.IsEphemeral(name)} }

// producers returns whose holders these are.
func (t *topic) producers(holders holderSet) (set uint32) {
	for i, word := range holders {
		for ; word != 0; word &= word - 1 {
			set |= 1 << t.producerOf[64*i+bits.TrailingZeros64(word)]
		}
	}
	return set
}

// step returns whether the answer is right in a state, and the next state.
func (s state) step(a *action, got answer) (bool, state) {
	if a.logged > 0 {
		if a.logged != s.logged+1 {
			return false, s
		}
		s.logged = a.logged
	}
	switch a.kind {
	case doIdentify:
		s.identify(a)
	case doEnd:
		s.end(a)
	case doRegister:
		if !s.isOpen(a) {
			return false, s
		}
		s.register(a)
	case doUnregister:
		if !s.isOpen(a) {
			return false, s
		}
		s.unregister(a)
	case doCreateTopic:
		s.exists = true
	case doCreateChannel:
		s.exists = true
		s.channels |= 1 << a.channel
	case doDeleteTopic:
		s.drop()
	case doDeleteChannel:
		present := s.channels&(1<<a.channel) != 0
		if present != got.found {
			return false, s
		}
		s.dropChannel(int(a.channel))
	case doTombstone:
		s.tombs |= a.producers & a.topic.producers(s.holders)
	default:
		return s.shows(a, got), s
	}
	return true, s
}

func (s *state) shows(a *action, got answer) bool {
	offers := a.topic.producers(s.holders)
	switch a.kind {
	case askLookup:
		return got.found == s.exists && !got.bad && got.producers == offers&^s.tombs && got.channels == s.channels
	case askChannels:
		return got.channels == s.channels && !got.bad
	case askExists:
		return got.found == s.exists
	case askNodes:
		return !got.bad && got.producers == offers && got.tombs == s.tombs
	}
	return false
}

func (s *state) isOpen(a *action) bool {
	return a.session != 0 && s.newest[a.holder] == a.session && s.open.has(a.holder)
}

// identify opens a session; one that was ended, or replaced, before stays so.
func (s *state) identify(a *action) {
	if a.session > s.newest[a.holder] {
		s.newest[a.holder] = a.session
		s.open.add(a.holder)
	}
}

// end ends a session, unless a newer one has replaced it.
func (s *state) end(a *action) {
	if a.session < s.newest[a.holder] {
		return
	}
	if s.newest[a.holder] == a.session && !s.open.has(a.holder) {
		return
	}
	held := s.holders.has(a.holder)
	s.newest[a.holder] = a.session
	s.open.remove(a.holder)
	s.letGo(a)
	if held {
		s.dropIfLeft(a.topic)
	}
}

func (s *state) register(a *action) {
	s.exists = true
	s.holders.add(a.holder)
	if a.channel >= 0 {
		s.channels |= 1 << a.channel
		s.channel[a.channel].add(a.holder)
	}
}

func (s *state) unregister(a *action) {
	if a.channel < 0 {
		s.letGo(a)
		s.dropIfLeft(a.topic)
		return
	}
	s.channel[a.channel].remove(a.holder)
	if a.topic.ephemeralChannels&(1<<a.channel) != 0 && s.channel[a.channel].empty() {
		s.dropChannel(int(a.channel))
	}
}

// letGo takes the holder off the topic and its channels. Only a channel that it
// held can go with it; a tombstone goes with the producer's last holder.
func (s *state) letGo(a *action) {
	for c := range s.channel {
		held := s.channel[c].has(a.holder)
		s.channel[c].remove(a.holder)
		if held && s.channel[c].empty() && a.topic.ephemeralChannels&(1<<c) != 0 {
			s.dropChannel(c)
		}
	}
	s.holders.remove(a.holder)
	s.tombs &= a.topic.producers(s.holders)
}

func (s *state) dropIfLeft(t *topic) {
	if t.ephemeral && s.holders.empty() {
		s.drop()
	}
}

func (s *state) dropChannel(c int) {
	s.channels &^= 1 << c
	s.channel[c] = holderSet{}
}

// drop removes the topic with all that belongs to it; sessions stay.
func (s *state) drop() {
	*s = state{open: s.open, newest: s.newest, logged: s.logged}
}
