// Package fsm is the replicated state machine: it turns raft's log into
// changes of store.State, and tells what it did.
//
// It decodes an entry into registry commands, applies them in a transaction that
// takes several raft batches, publishes what changed in a Feed and the index that
// waiters wait for, and writes and reads snapshots. What a command does is package
// store's; who may propose it, and when, is package cluster's. Nothing that is
// applied reads a clock, draws a random number or depends on map order; a clock
// decides only when it is committed.
//
// Invariants:
//
//   - The state, its hash and every result depend on the log alone, not on how
//     raft groups entries into batches.
//   - A batch (origin, epoch, number) takes effect once; what is proposed twice
//     gives the stored results, what is late gives nothing.
//   - The order of publication is: commit, feed, applied index. So who has
//     waited for an index reads a state and a feed that have it.
//   - What is applied is visible 20 ms later at most, and at once to who waits for it.
//   - An entry that this binary does not understand ends the process. It is
//     never skipped.
//   - A snapshot that is damaged, or another cluster's, changes nothing.
//
// Apply, ApplyBatch, Snapshot and Restore are raft's to call, from its one FSM
// goroutine; Persist and Release come from another. Everything else may be
// called from anywhere. Locks: FSM.mu is held while entries are applied and
// committed, so Config.Took must not call back; OnFatal is called without it.
// applied.mu, Feed.mu and marks.mu are leaves below it, never held together and
// never while calling out. DESIGN.md tells more.
package fsm
