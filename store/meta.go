package store

import "encoding/binary"

// The bucket meta is not hashed. Its rows:
//
//	format   4 bytes, stateFormat
//	state    meta
const (
	metaBucket = "meta"
	formatRow  = "format"
	stateRow   = "state"

	stateFormat = 2
	metaSize    = 9 * 8
)

// meta is what the state knows of itself, each 8 bytes, big endian, in this order.
type meta struct {
	index, term   uint64 // of the last entry applied
	configuration uint64 // index of the last raft configuration applied
	hash          uint64 // sum of the row hashes
	topics        uint64
	channels      uint64
	producers     uint64
	sessions      uint64
	registrations uint64
}

func (m *meta) fields() [9]*uint64 {
	return [9]*uint64{
		&m.index, &m.term, &m.configuration, &m.hash,
		&m.topics, &m.channels, &m.producers, &m.sessions,
		&m.registrations,
	}
}

func (m *meta) encode() []byte {
	b := make([]byte, 0, metaSize)
	for _, f := range m.fields() {
		b = binary.BigEndian.AppendUint64(b, *f)
	}
	return b
}

func decodeMeta(value []byte) (m meta, ok bool) {
	if len(value) != metaSize {
		return meta{}, false
	}
	for i, f := range m.fields() {
		*f = binary.BigEndian.Uint64(value[8*i:])
	}
	return m, true
}
