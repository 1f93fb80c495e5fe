// Package store is all that lookupd keeps on disk: the registry's state, the
// raft log, the peer's identity, and the data directory that they lie in. It
// has two halves that know nothing of each other.
//
// # The state
//
// State is the registry's tables at one log index, in a bbolt file. View
// answers queries from one read transaction, Change applies commands in a write
// transaction, Tx, that may take those of many log entries; both touch only keys
// that belong to the answer or the command, so the cost of either does not grow
// with the rest of the registry.
//
// The log and the snapshots are the truth. The state file is rebuilt from them
// at each start, so it is never synced, and never trusted after a restart.
//
// Invariants:
//
//   - A Change depends on the state and its arguments alone: no clock, no random
//     number, no order of a map. So peers that applied the same log have the same
//     rows, byte for byte; View.Hash is kept with every row to show it.
//   - The applied index and term are in the transaction that applied them.
//   - A refused command changed nothing.
//   - Limits are not checked here. They would have to be the same on every peer
//     for ever; whoever proposes a command checks them before.
//
// # The disk
//
// A start goes through it in this order:
//
//	dir := OpenDir            takes the directory for this process
//	id  := dir.LoadIdentity   or NewIdentity for a new peer
//	log := dir.OpenLog        checks every page, then every entry, the journal's too
//	       dir.OpenSnapshots  removes what a crash left half-written
//	       dir.Verify         identity, log and snapshots belong together
//	id   = dir.NextEpoch      saves that this start has begun
//
// Then raft may start. Up to NextEpoch nothing that could be evidence has
// changed: whatever is missing, damaged, older or another peer's is refused
// with an error that wraps ErrRefused or ErrDamaged, and is never repaired by
// cutting the log. A peer without its log would forget votes that it gave and
// entries that it acknowledged; it must come back with a new node id.
//
// Invariants:
//
//   - When a method that writes returns nil, what it wrote survives a power cut.
//   - When one fails or hangs, LogConfig.OnFatal ends the process; the log does
//     not touch the disk again.
//   - No entry, term or vote leaves the log other than it came in: a checksum
//     shows it, and the process ends.
//   - A vote is stored with its term or not at all.
//   - An entry that was stored and not deleted is in raft.db, or in the journal in
//     front of it, or in both. What the journal holds is written to raft.db again
//     after a crash: it is emptied before one of its entries is deleted there.
//   - The journal is of the generation that raft.db knows, or one ahead with all
//     that it held in raft.db. No copy from before is.
//   - One process uses a data directory at a time.
//
// What this package does not do: it does not encode commands or snapshots, and
// does not start or know raft beyond its store interfaces (fsm and cluster do);
// it does not decide who votes (the raft configuration says), nor whether
// another peer may use this identity too (peer's handshake compares epochs).
//
// # Goroutines and locks
//
// All types may be used from any goroutine but for View and Change, which
// belong to the function that they were given to, and Tx and Snapshot, which one
// goroutine uses at a time.
//
// A Log's mutex is held while the vote is written, an AddressBook's while its file
// is. The order is Log.mu, journaled.write, journaled.mu; the last is never held
// while the disk is used, so that readers do not wait for it. No other lock of this
// package is held while another of it is taken, and OnFatal may be called with the
// log's held, so it must not use the log.
package store
