package store

import (
	"encoding/binary"
	"slices"

	"github.com/lookupd/lookupd/registry"
)

// The rows are coded by hand: the state is hashed and compared between peers of
// different versions, so the same content must give the same bytes for ever,
// which protobuf does not promise. v is a uvarint, text is v length and bytes.
//
//	flags      one byte, 0
//	number     v number
//	holding    v set-at, v peer, v peer, ...             (peers rising, at least one)
//	producer   v count, count x session, 6 x text, 2 x v (info, see appendInfo)
//	session    v peer, v epoch, v seq, one byte: 1 if suspended
//	origin     v epoch, v number, v index, one byte per result
//	meta       9 x 8 bytes, see meta

// noFlags is the row of a topic or channel: they have no properties yet.
const noFlags = "\x00"

// holding is a registration: who holds it, and the log index at which its
// tombstone was set, 0 without one and always 0 for a channel.
type holding struct {
	setAt uint64
	peers []uint32 // rising
}

func (h holding) encode() []byte {
	b := make([]byte, 0, binary.MaxVarintLen64+2*len(h.peers))
	b = binary.AppendUvarint(b, h.setAt)
	for _, p := range h.peers {
		b = binary.AppendUvarint(b, uint64(p))
	}
	return b
}

func decodeHolding(value []byte) (holding, bool) {
	r := reader{rest: value}
	// Room for the peer that is most likely added next.
	h := holding{setAt: r.uvarint(), peers: make([]uint32, 0, 4)}
	for len(r.rest) > 0 && !r.failed {
		h.peers = append(h.peers, r.number())
	}
	return h, !r.failed && len(h.peers) > 0 && slices.IsSorted(h.peers)
}

// session is a registry.SessionState with the peer's number.
type session struct {
	peer       uint32
	epoch, seq uint64
	suspended  bool
}

func (s session) id(node registry.NodeID) registry.SessionID {
	return registry.SessionID{Node: node, Epoch: s.epoch, Seq: s.seq}
}

// shows reports whether one of the holders has a session that is not suspended.
func (h holding) shows(sessions []session) bool {
	return slices.ContainsFunc(sessions, func(s session) bool {
		return !s.suspended && slices.Contains(h.peers, s.peer)
	})
}

func encodeProducer(sessions []session, info registry.ProducerInfo) []byte {
	b := binary.AppendUvarint(make([]byte, 0, 128), uint64(len(sessions)))
	for _, s := range sessions {
		b = binary.AppendUvarint(b, uint64(s.peer))
		b = binary.AppendUvarint(b, s.epoch)
		b = binary.AppendUvarint(b, s.seq)
		b = append(b, boolByte(s.suspended))
	}
	return appendInfo(b, info)
}

func appendInfo(b []byte, info registry.ProducerInfo) []byte {
	for _, text := range []string{
		info.RemoteAddress, info.Hostname, info.BroadcastAddress,
		info.Version, info.TopologyZone, info.TopologyRegion,
	} {
		b = binary.AppendUvarint(b, uint64(len(text)))
		b = append(b, text...)
	}
	b = binary.AppendUvarint(b, uint64(info.TCPPort))
	return binary.AppendUvarint(b, uint64(info.HTTPPort))
}

// decodeSessions reads a producer's sessions and returns the rest of the row for decodeInfo.
func decodeSessions(value []byte) (sessions []session, info []byte, ok bool) {
	r := reader{rest: value}
	count := r.uvarint()
	if count > uint64(len(value)) { // a session takes more than a byte
		return nil, nil, false
	}
	sessions = make([]session, 0, count+1)
	for range count {
		sessions = append(sessions, session{
			peer: r.number(), epoch: r.uvarint(), seq: r.uvarint(), suspended: r.byte() != 0,
		})
	}
	return sessions, r.rest, !r.failed
}

func decodeInfo(value []byte) (registry.ProducerInfo, bool) {
	r := reader{rest: value}
	info := registry.ProducerInfo{
		RemoteAddress: r.text(), Hostname: r.text(), BroadcastAddress: r.text(),
		Version: r.text(), TopologyZone: r.text(), TopologyRegion: r.text(),
		TCPPort: int(r.number()), HTTPPort: int(r.number()),
	}
	return info, !r.failed && len(r.rest) == 0
}

// origin is the last batch of a peer.
type origin struct {
	epoch, number, index uint64
	results              []registry.Result
}

func (o origin) encode() []byte {
	b := make([]byte, 0, 3*binary.MaxVarintLen64+len(o.results))
	b = binary.AppendUvarint(b, o.epoch)
	b = binary.AppendUvarint(b, o.number)
	b = binary.AppendUvarint(b, o.index)
	for _, r := range o.results {
		b = append(b, byte(r))
	}
	return b
}

func decodeOrigin(value []byte) (origin, bool) {
	r := reader{rest: value}
	o := origin{epoch: r.uvarint(), number: r.uvarint(), index: r.uvarint()}
	o.results = make([]registry.Result, len(r.rest))
	for i, b := range r.rest {
		o.results[i] = registry.Result(b)
	}
	return o, !r.failed
}

func boolByte(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// reader takes values off a row; after a failure it gives zeros.
type reader struct {
	rest   []byte
	failed bool
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.failed, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) number() uint32 {
	v := r.uvarint()
	if v > 1<<32-1 {
		r.failed = true
	}
	return uint32(v)
}

func (r *reader) byte() byte {
	if len(r.rest) == 0 {
		r.failed = true
		return 0
	}
	b := r.rest[0]
	r.rest = r.rest[1:]
	return b
}

func (r *reader) text() string {
	n := r.uvarint()
	if n > uint64(len(r.rest)) {
		r.failed, r.rest = true, nil
		return ""
	}
	text := string(r.rest[:n])
	r.rest = r.rest[n:]
	return text
}
