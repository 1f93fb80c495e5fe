// Package logring keeps the latest lines of a log in memory, for those who ask
// a running peer for them.
//
// It does not format lines and does not know where else they go. Whoever writes
// never waits for who reads: a reader that is too slow misses lines, and can
// tell how many.
package logring

import (
	"bytes"
	"sync"
)

// longestLine is how much of one line is kept, in bytes: a stack may be long.
const longestLine = 8 << 10

// Ring holds the latest lines. Its methods may be called from any goroutine.
type Ring struct {
	mostLines, mostBytes int

	mu    sync.Mutex
	lines []string      // each with its line's end
	first uint64        // number of the oldest line in lines
	bytes int           // in lines
	grew  chan struct{} // closed by the next line; nil if nobody waits for it
}

// New returns an empty Ring that keeps so many lines, and no more than so many
// bytes in them.
func New(lines, bytes int) *Ring { return &Ring{mostLines: lines, mostBytes: bytes} }

// Write takes one line, as a log handler writes it. It never fails.
func (r *Ring) Write(line []byte) (int, error) {
	kept := line
	if len(kept) > longestLine {
		kept = append(bytes.Clone(kept[:longestLine]), "...\n"...)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, string(kept))
	r.bytes += len(kept)
	for len(r.lines) > r.mostLines || r.bytes > r.mostBytes && len(r.lines) > 1 {
		r.bytes -= len(r.lines[0])
		r.lines[0] = "" // the array behind the slice stays for a while
		r.lines = r.lines[1:]
		r.first++
	}
	if r.grew != nil {
		close(r.grew)
		r.grew = nil
	}
	return len(line), nil
}

// From returns the lines from number n on, the number of the first of them, and
// a channel that is closed when there is another. Lines are numbered from 0. If
// first is above n, the lines between are lost.
func (r *Ring) From(n uint64) (lines []string, first uint64, more <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.grew == nil {
		r.grew = make(chan struct{})
	}
	end := r.first + uint64(len(r.lines))
	first = min(max(n, r.first), end)
	return append([]string(nil), r.lines[first-r.first:]...), first, r.grew
}

// Last returns the latest lines, so many at most, and the number of the line
// that comes next.
func (r *Ring) Last(most int) (lines []string, next uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	kept := r.lines[max(0, len(r.lines)-max(most, 0)):]
	return append([]string(nil), kept...), r.first + uint64(len(r.lines))
}
