package store

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"

	"github.com/lookupd/lookupd/registry"
	"go.etcd.io/bbolt"
)

// View answers questions about the state at one log index. It is valid within
// the call that gave it and used by one goroutine. Every question reads only
// rows that belong to its answer; all lists are sorted and never nil. What it
// returns stays valid afterwards.
type View struct {
	tx     *bbolt.Tx
	tables [lastTable + 1]*bbolt.Bucket // opened at first use
	meta   meta
	err    error      // the first row that could not be read
	peers  []numbered // met so far

	footprint Footprint
}

// numbered is a peer and its small number.
type numbered struct {
	node   registry.NodeID
	number uint32
}

func newView(tx *bbolt.Tx) (*View, error) {
	b := tx.Bucket([]byte(metaBucket))
	if b == nil {
		return nil, fmt.Errorf("%w: no meta", ErrStateDamaged)
	}
	m, ok := decodeMeta(b.Get([]byte(stateRow)))
	if !ok {
		return nil, fmt.Errorf("%w: bad meta", ErrStateDamaged)
	}
	return &View{tx: tx, meta: m}, nil
}

// checkFormat is for a file that another process may have made.
func (v *View) checkFormat() error {
	format := v.tx.Bucket([]byte(metaBucket)).Get([]byte(formatRow))
	if !bytes.Equal(format, binary.BigEndian.AppendUint32(nil, stateFormat)) {
		return fmt.Errorf("%w: format is %x, this binary knows %d", ErrStateDamaged, format, stateFormat)
	}
	return nil
}

// Applied returns index and term of the last entry applied, 0 and 0 if none was.
func (v *View) Applied() (index, term uint64) { return v.meta.index, v.meta.term }

// ConfigurationIndex returns the index of the last raft configuration applied.
func (v *View) ConfigurationIndex() uint64 { return v.meta.configuration }

// Hash returns the state's hash, kept up to date by each change. Two peers
// whose hashes differ at one index do not have the same registry.
func (v *View) Hash() uint64 { return v.meta.hash }

// recount reads all rows and returns what Hash and Counts should be.
func (v *View) recount() (hash uint64, counts registry.Counts) {
	var h rowHasher
	for t := table(1); t <= lastTable; t++ {
		for key, value := range v.rows(t, nil) {
			hash += h.row(t, key, value)
			countRow(&counts, t, key, value)
		}
	}
	return hash, counts
}

func countRow(counts *registry.Counts, t table, key, value []byte) {
	switch t {
	case producersTable:
		counts.Producers++
		sessions, _, _ := decodeSessions(value)
		counts.Sessions += len(sessions)
	case topicsTable:
		switch _, rest := splitKey(key); {
		case len(rest) == 0:
			counts.Topics++
		case rest[0] == channelTag:
			counts.Channels++
		case rest[0] == producerTag, rest[0] == registrationTag:
			counts.Registrations++
		}
	}
}

// Rows calls fn for every row that Hash covers, by table and key; fn must not keep the bytes.
func (v *View) Rows(fn func(table string, key, value []byte)) {
	for t := table(1); t <= lastTable; t++ {
		for key, value := range v.rows(t, nil) {
			fn(t.String(), key, value)
		}
	}
}

// Size returns the bytes of a snapshot of the state.
func (v *View) Size() int64 { return v.tx.Size() }

// Counts returns the sizes of the registry, in constant time.
func (v *View) Counts() registry.Counts {
	return registry.Counts{
		Topics:        int(v.meta.topics),
		Channels:      int(v.meta.channels),
		Producers:     int(v.meta.producers),
		Sessions:      int(v.meta.sessions),
		Registrations: int(v.meta.registrations),
	}
}

// Origin returns the last batch of node that was applied.
func (v *View) Origin(node registry.NodeID) (epoch, number uint64, results []registry.Result, index uint64, found bool) {
	value := v.get(peersTable, originKey(node))
	if value == nil {
		return 0, 0, nil, 0, false
	}
	o, ok := decodeOrigin(value)
	if !ok {
		v.damaged(peersTable, originKey(node))
		return 0, 0, nil, 0, false
	}
	return o.epoch, o.number, o.results, o.index, true
}

// bucket returns the table's bucket, nil if the file lacks it.
func (v *View) bucket(t table) *bbolt.Bucket {
	if v.tables[t] == nil {
		v.tables[t] = v.tx.Bucket([]byte(t.String()))
		if v.tables[t] == nil {
			v.damaged(t, nil)
		}
	}
	return v.tables[t]
}

// get returns the row's value, nil if there is none. It is valid until the transaction ends.
func (v *View) get(t table, key []byte) []byte {
	b := v.bucket(t)
	if b == nil || len(key) == 0 {
		return nil
	}
	return b.Get(key)
}

// rows walks the rows whose keys begin with prefix and gives what follows it.
// The table must not be changed meanwhile.
func (v *View) rows(t table, prefix []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		b := v.bucket(t)
		if b == nil {
			return
		}
		c := b.Cursor()
		for key, value := c.Seek(prefix); key != nil && bytes.HasPrefix(key, prefix); key, value = c.Next() {
			if !yield(key[len(prefix):], value) {
				return
			}
		}
	}
}

// any reports whether a row begins with prefix.
func (v *View) any(t table, prefix []byte) bool {
	for range v.rows(t, prefix) {
		return true
	}
	return false
}

func (v *View) damaged(t table, key []byte) {
	if v.err == nil {
		v.err = fmt.Errorf("%w: bad row %q in %s", ErrStateDamaged, key, t)
	}
}

// number returns the small number of a peer, 0 if it never opened a session.
func (v *View) number(node registry.NodeID) uint32 {
	for _, p := range v.peers {
		if p.node == node {
			return p.number
		}
	}
	value := v.get(peersTable, numberKey(node))
	if value == nil {
		return 0
	}
	r := reader{rest: value}
	n := r.number()
	if r.failed {
		v.damaged(peersTable, numberKey(node))
	}
	v.remember(node, n)
	return n
}

// node is the inverse of number.
func (v *View) node(number uint32) registry.NodeID {
	for _, p := range v.peers {
		if p.number == number {
			return p.node
		}
	}
	value := v.get(peersTable, nodeKey(number))
	if value == nil {
		v.damaged(peersTable, nodeKey(number))
	}
	node := registry.NodeID(value)
	v.remember(node, number)
	return node
}

// remember keeps a peer's number. There are few peers, so a list is the cheapest.
func (v *View) remember(node registry.NodeID, number uint32) {
	v.peers = append(v.peers, numbered{node, number})
}

// holding reads a registration; found is false if there is none.
func (v *View) holding(t table, key []byte) (h holding, value []byte, found bool) {
	if value = v.get(t, key); value == nil {
		return holding{}, nil, false
	}
	h, ok := decodeHolding(value)
	if !ok {
		v.damaged(t, key)
	}
	return h, value, true
}

// sessions reads a producer's sessions; info is for info().
func (v *View) sessions(p registry.ProducerID) (sessions []session, info []byte, found bool) {
	value := v.get(producersTable, producerKey(p))
	if value == nil {
		return nil, nil, false
	}
	sessions, info, ok := decodeSessions(value)
	if !ok {
		v.damaged(producersTable, producerKey(p))
	}
	return sessions, info, true
}

func (v *View) info(p registry.ProducerID, row []byte) registry.ProducerInfo {
	info, ok := decodeInfo(row)
	if !ok {
		v.damaged(producersTable, producerKey(p))
	}
	return info
}
