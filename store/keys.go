package store

import (
	"bytes"
	"encoding/binary"

	"github.com/lookupd/lookupd/registry"
)

// table is a bucket whose rows are part of the state hash; the number goes into
// the hash and is never changed.
type table uint8

// The tables and their keys. 0 is a zero byte, which no name holds; it sorts
// before every byte of a name, so rows lie in the order of the names.
//
//	peers       'i' node id                    -> number
//	            'n' number (4 bytes)           -> node id
//	            'o' node id                    -> last batch of this origin
//	producers   producer                       -> sessions, info
//	topics      topic 0                        -> flags
//	            topic 0 'c' channel            -> flags
//	            topic 0 'p' producer           -> holding
//	            topic 0 'r' channel 0 producer -> holding
//	byproducer  producer 0 'c' topic 0 channel -> the same holding
//	            producer 0 't' topic           -> the same holding
//	tombstones  topic 0 producer               -> nothing; one per holding with a tombstone
//
// A lookup is the range topic 0 .. topic 0 'q'.
const (
	peersTable      table = 1
	producersTable  table = 2
	topicsTable     table = 3
	byProducerTable table = 4
	tombstonesTable table = 5

	lastTable = tombstonesTable
)

func (t table) String() string {
	switch t {
	case peersTable:
		return "peers"
	case producersTable:
		return "producers"
	case topicsTable:
		return "topics"
	case byProducerTable:
		return "byproducer"
	case tombstonesTable:
		return "tombstones"
	}
	return "unknown"
}

const (
	channelTag      = 'c' // in topics: a channel
	producerTag     = 'p' // in topics: a registration of the topic
	registrationTag = 'r' // in topics: a registration of a channel

	offeredChannelTag = 'c' // in byproducer; before 't', so that channels go before their topic
	offeredTopicTag   = 't'

	numberTag = 'i' // in peers: number of a node id
	nodeTag   = 'n' // in peers: node id of a number
	originTag = 'o' // in peers: last batch
)

func numberKey(node registry.NodeID) []byte { return append([]byte{numberTag}, node...) }
func originKey(node registry.NodeID) []byte { return append([]byte{originTag}, node...) }

func nodeKey(number uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{nodeTag}, number)
}

func producerKey(p registry.ProducerID) []byte { return []byte(p) }

// joinKey returns first 0 tag second; tag 0 is left out.
func joinKey(first string, tag byte, second string) []byte {
	key := make([]byte, 0, len(first)+2+len(second))
	key = append(append(key, first...), 0)
	if tag != 0 {
		key = append(key, tag)
	}
	return append(key, second...)
}

func topicKey(topic string) []byte            { return joinKey(topic, 0, "") }
func channelKey(topic, channel string) []byte { return joinKey(topic, channelTag, channel) }

// registrationPrefix covers the registrations of the channel, or of the topic
// if channel is "".
func registrationPrefix(topic, channel string) []byte { return registrationKey(topic, channel, "") }

func registrationKey(topic, channel string, p registry.ProducerID) []byte {
	key := make([]byte, 0, len(topic)+len(channel)+len(p)+3)
	key = append(append(key, topic...), 0)
	if channel == "" {
		return append(append(key, producerTag), p...)
	}
	key = append(append(key, registrationTag), channel...)
	return append(append(key, 0), p...)
}

func tombstoneKey(topic string, p registry.ProducerID) []byte {
	return joinKey(topic, 0, string(p))
}

// offerKey is the key in byproducer that mirrors registrationKey.
func offerKey(p registry.ProducerID, topic, channel string) []byte {
	if channel == "" {
		return joinKey(string(p), offeredTopicTag, topic)
	}
	key := joinKey(string(p), offeredChannelTag, topic)
	return append(append(key, 0), channel...)
}

// Prefixes in byproducer: all that a producer offers, its topics, its channels of one topic.
func offersPrefix(p registry.ProducerID) []byte { return joinKey(string(p), 0, "") }

func topicOffersPrefix(p registry.ProducerID) []byte { return joinKey(string(p), offeredTopicTag, "") }

func channelOffersPrefix(p registry.ProducerID, topic string) []byte {
	return append(joinKey(string(p), offeredChannelTag, topic), 0)
}

// splitKey cuts key at its first zero byte.
func splitKey(key []byte) (first, rest []byte) {
	first, rest, _ = bytes.Cut(key, []byte{0})
	return first, rest
}

// parseOffer is the inverse of offerKey for the part after the producer's zero byte.
func parseOffer(rest []byte) (Name, bool) {
	if len(rest) < 2 {
		return Name{}, false
	}
	topic, channel := splitKey(rest[1:])
	switch rest[0] {
	case offeredTopicTag:
		return Name{Topic: string(topic)}, true
	case offeredChannelTag:
		return Name{Topic: string(topic), Channel: string(channel)}, true
	}
	return Name{}, false
}
