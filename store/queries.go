package store

import (
	"cmp"
	"slices"
	"strings"

	"github.com/lookupd/lookupd/registry"
)

// Name is a topic, or a channel of it.
type Name = registry.Name

// ProducerSession is a session and its producer.
type ProducerSession struct {
	registry.SessionState
	Producer registry.ProducerID
}

// TopicTombstone is a tombstone that has not ended.
type TopicTombstone struct {
	Topic    string
	Producer registry.ProducerID
	SetAt    uint64 // log index
}

// Topics returns the names of all topics.
func (v *View) Topics() []string {
	v.readFrom(topicNamesSlot)
	topics := make([]string, 0, v.meta.topics)
	b := v.bucket(topicsTable)
	if b == nil {
		return topics
	}
	c := b.Cursor()
	for key, _ := c.First(); key != nil; {
		topic, _ := splitKey(key)
		topics = append(topics, string(topic))
		// Leap over the topic's other rows.
		key, _ = c.Seek(append(slices.Clone(topic), 1))
	}
	return topics
}

// Channels returns the channels of a topic; none if the topic does not exist.
func (v *View) Channels(topic string) []string {
	channels := []string{}
	if !registry.ValidName(topic) {
		return channels
	}
	for channel := range v.rows(topicsTable, channelKey(topic, "")) {
		channels = append(channels, string(channel))
	}
	return channels
}

// Topic returns what /lookup shows of a topic, and false if it does not exist.
func (v *View) Topic(topic string) (registry.Topic, bool) {
	t := registry.Topic{Channels: []string{}, Producers: []registry.ProducerInfo{}}
	if !registry.ValidName(topic) {
		return t, false
	}
	v.readFrom(topicSlot([]byte(topic)))
	exists := false
	for key, value := range v.rows(topicsTable, topicKey(topic)) {
		switch {
		case len(key) == 0:
			exists = true
		case key[0] == channelTag:
			t.Channels = append(t.Channels, string(key[1:]))
		case key[0] == producerTag:
			if info, ok := v.shown(registry.ProducerID(key[1:]), value); ok {
				t.Producers = append(t.Producers, info)
			}
		default:
			return t, exists
		}
	}
	return t, exists
}

// shown returns a producer's info if its registration with that row shows.
func (v *View) shown(p registry.ProducerID, row []byte) (registry.ProducerInfo, bool) {
	h, ok := decodeHolding(row)
	if !ok {
		v.damaged(topicsTable, []byte(p))
	}
	if h.setAt != 0 {
		return registry.ProducerInfo{}, false
	}
	v.readFrom(producerSlot(p))
	sessions, info, _ := v.sessions(p)
	if !h.shows(sessions) {
		return registry.ProducerInfo{}, false
	}
	return v.info(p, info), true
}

// Nodes returns the producers with a session that is not suspended, and the
// topics that they show, tombstones included.
func (v *View) Nodes() []registry.Node {
	v.readFrom(nodesSlot)
	nodes := []registry.Node{}
	for key, value := range v.rows(producersTable, nil) {
		p := registry.ProducerID(key)
		sessions, info, ok := decodeSessions(value)
		if !ok {
			v.damaged(producersTable, key)
		}
		if !slices.ContainsFunc(sessions, func(s session) bool { return !s.suspended }) {
			continue
		}
		node := registry.Node{ProducerInfo: v.info(p, info), Topics: []string{}, Tombstones: []bool{}}
		for topic, row := range v.rows(byProducerTable, topicOffersPrefix(p)) {
			h, ok := decodeHolding(row)
			if !ok {
				v.damaged(byProducerTable, topic)
			}
			if h.shows(sessions) {
				node.Topics = append(node.Topics, string(topic))
				node.Tombstones = append(node.Tombstones, h.setAt != 0)
			}
		}
		nodes = append(nodes, node)
	}
	return nodes
}

// Producers returns all producers, those that do not show too.
func (v *View) Producers() []registry.ProducerInfo {
	producers := make([]registry.ProducerInfo, 0, v.meta.producers)
	for key, value := range v.rows(producersTable, nil) {
		_, info, ok := decodeSessions(value)
		if !ok {
			v.damaged(producersTable, key)
		}
		producers = append(producers, v.info(registry.ProducerID(key), info))
	}
	return producers
}

// ProducersAfter calls fn for each producer whose id begins with prefix and is
// above after, by id, with its sessions, until fn returns false.
func (v *View) ProducersAfter(prefix string, after registry.ProducerID, fn func(registry.ProducerInfo, []registry.SessionState) bool) {
	b := v.bucket(producersTable)
	if b == nil {
		return
	}
	c := b.Cursor()
	key, value := c.Seek([]byte(max(prefix, string(after))))
	if key != nil && string(key) == string(after) {
		key, value = c.Next()
	}
	for ; key != nil && strings.HasPrefix(string(key), prefix); key, value = c.Next() {
		sessions, info, ok := decodeSessions(value)
		if !ok {
			v.damaged(producersTable, key)
			return
		}
		if !fn(v.info(registry.ProducerID(key), info), v.states(sessions)) {
			return
		}
	}
}

// Producer returns a producer and its sessions, by node id.
func (v *View) Producer(p registry.ProducerID) (registry.ProducerInfo, []registry.SessionState, bool) {
	sessions, info, found := v.sessions(p)
	if !found {
		return registry.ProducerInfo{}, nil, false
	}
	return v.info(p, info), v.states(sessions), true
}

func (v *View) states(sessions []session) []registry.SessionState {
	states := make([]registry.SessionState, 0, len(sessions))
	for _, s := range sessions {
		states = append(states, registry.SessionState{ID: s.id(v.node(s.peer)), Suspended: s.suspended})
	}
	slices.SortFunc(states, func(a, b registry.SessionState) int { return cmp.Compare(a.ID.Node, b.ID.Node) })
	return states
}

// Sessions returns all sessions, by producer and node id.
func (v *View) Sessions() []ProducerSession {
	all := make([]ProducerSession, 0, v.meta.sessions)
	for key, value := range v.rows(producersTable, nil) {
		sessions, _, ok := decodeSessions(value)
		if !ok {
			v.damaged(producersTable, key)
		}
		for _, state := range v.states(sessions) {
			all = append(all, ProducerSession{SessionState: state, Producer: registry.ProducerID(key)})
		}
	}
	return all
}

// Holds reports whether node holds the topic, or the channel unless it is "", for p.
func (v *View) Holds(node registry.NodeID, p registry.ProducerID, topic, channel string) bool {
	h, _, found := v.holding(topicsTable, registrationKey(topic, channel, p))
	return found && slices.Contains(h.peers, v.number(node))
}

// Held returns what node holds for p: channels first, then topics.
func (v *View) Held(node registry.NodeID, p registry.ProducerID) []Name {
	return v.held(v.number(node), p, offersPrefix(p))
}

// held reads the part of byproducer that begins with prefix.
func (v *View) held(peer uint32, p registry.ProducerID, prefix []byte) []Name {
	names := []Name{}
	skip := len(p) + 1
	for rest, value := range v.rows(byProducerTable, prefix) {
		h, ok := decodeHolding(value)
		key := append(slices.Clone(prefix[skip:]), rest...)
		name, parsed := parseOffer(key)
		if !ok || !parsed {
			v.damaged(byProducerTable, key)
		}
		if slices.Contains(h.peers, peer) {
			names = append(names, name)
		}
	}
	return names
}

// Registrations returns all registrations: by topic the topic's own, then its
// channels', each by producer. It reads the whole registry.
func (v *View) Registrations() []registry.Registration {
	all := []registry.Registration{}
	for key, value := range v.rows(topicsTable, nil) {
		topic, rest := splitKey(key)
		if len(rest) == 0 || rest[0] == channelTag {
			continue
		}
		var channel []byte
		producer := rest[1:]
		if rest[0] == registrationTag {
			channel, producer = splitKey(producer)
		}
		all = append(all, v.registration(string(topic), string(channel), registry.ProducerID(producer), value))
	}
	return all
}

func (v *View) registration(topic, channel string, p registry.ProducerID, row []byte) registry.Registration {
	h, ok := decodeHolding(row)
	if !ok {
		v.damaged(topicsTable, registrationKey(topic, channel, p))
	}
	_, info, _ := v.sessions(p)
	r := registry.Registration{
		Topic: topic, Channel: channel, Producer: v.info(p, info),
		Holders:    make([]registry.NodeID, 0, len(h.peers)),
		Tombstoned: h.setAt != 0, TombstoneSetAt: h.setAt,
	}
	for _, peer := range h.peers {
		r.Holders = append(r.Holders, v.node(peer))
	}
	slices.Sort(r.Holders)
	return r
}

// SessionPeers returns every peer that ever opened a session, sorted.
func (v *View) SessionPeers() []registry.NodeID {
	peers := []registry.NodeID{}
	for key := range v.rows(peersTable, []byte{numberTag}) {
		peers = append(peers, registry.NodeID(key))
	}
	return peers
}

// Tombstones returns the tombstones that have not ended, by topic and producer.
func (v *View) Tombstones() []TopicTombstone {
	all := []TopicTombstone{}
	for key := range v.rows(tombstonesTable, nil) {
		topic, producer := splitKey(key)
		t := TopicTombstone{Topic: string(topic), Producer: registry.ProducerID(producer)}
		h, _, _ := v.holding(topicsTable, registrationKey(t.Topic, "", t.Producer))
		t.SetAt = h.setAt
		all = append(all, t)
	}
	return all
}

// TombstoneCount returns how many tombstones have not ended.
func (v *View) TombstoneCount() (n int) {
	for range v.rows(tombstonesTable, nil) {
		n++
	}
	return n
}

// ActiveProducers returns how many producers have a session that is not
// suspended: those that Nodes shows. It reads the rows of all producers.
func (v *View) ActiveProducers() (n int) {
	for key, value := range v.rows(producersTable, nil) {
		sessions, _, ok := decodeSessions(value)
		if !ok {
			v.damaged(producersTable, key)
		}
		if slices.ContainsFunc(sessions, func(s session) bool { return !s.suspended }) {
			n++
		}
	}
	return n
}
