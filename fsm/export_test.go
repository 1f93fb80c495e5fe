package fsm

import "time"

// HoldFor replaces holdFor; it is called before the first entry.
func HoldFor(f *FSM, d time.Duration) { f.holdFor = d }

// Flush makes visible what is applied.
func Flush(f *FSM) error { return f.flush() }

// Holds reports whether a transaction is open.
func Holds(f *FSM) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.held != nil
}
