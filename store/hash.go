package store

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
)

// rowHasher hashes rows. The state's hash is the sum of its rows' hashes modulo
// 2^64: a change adjusts it by the rows that it touches, and the order of
// changes does not matter. It finds bugs and rotten memory, not forgers.
type rowHasher struct{ buffer []byte }

// row hashes the table's number, the key's length (uvarint), the key and the value.
func (h *rowHasher) row(t table, key, value []byte) uint64 {
	h.buffer = append(h.buffer[:0], byte(t))
	h.buffer = binary.AppendUvarint(h.buffer, uint64(len(key)))
	h.buffer = append(h.buffer, key...)
	h.buffer = append(h.buffer, value...)
	return xxhash.Sum64(h.buffer)
}
