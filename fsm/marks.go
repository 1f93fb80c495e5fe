package fsm

import (
	"slices"
	"sync"
)

// Every markEvery-th entry the hash of the state is noted, and the last
// marksKept are kept, so that peers can compare what they had at one index.
const (
	markEvery = 1024
	marksKept = 32
)

// HashMark is the hash of the state right after the entry at Index.
type HashMark struct{ Index, Hash uint64 }

// marks is a short memory of hashes. The zero value is ready for use.
type marks struct {
	mu   sync.Mutex
	kept []HashMark // by index, ascending
}

func (m *marks) add(found []HashMark) {
	if len(found) == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kept = append(m.kept, found...)
	if more := len(m.kept) - marksKept; more > 0 {
		m.kept = slices.Delete(m.kept, 0, more)
	}
}

// HashMarks returns the latest hashes, by index. Peers of one cluster have the
// same hash at the same index, or one of them is damaged.
func (f *FSM) HashMarks() []HashMark {
	f.marks.mu.Lock()
	defer f.marks.mu.Unlock()
	return slices.Clone(f.marks.kept)
}
