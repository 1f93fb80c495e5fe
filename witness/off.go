//go:build !witness

package witness

// On reports whether this binary takes notes.
const On = false

// Applied notes an entry of the log that the state machine has applied.
func Applied(index, term uint64, kind uint8, data []byte) {}

// Answered notes that the n-th change on the connection whose IDENTIFY gave
// hostname was answered OK, because of the state at a log index.
func Answered(hostname string, n int, index uint64) {}
