// Package cluster makes peers one: it runs raft, finds and takes in peers,
// brings commands into the log and tells readers when their state is recent
// enough.
//
// It does not know what a command means (package store), what a connection
// wants (package session) or how peers talk (package peer). Gossip is a hint
// about addresses; only raft's configuration says who votes.
//
// Invariants:
//
//   - One goroutine proposes, one batch at a time, and a batch keeps its number
//     until it has a result (propose.go).
//   - A read's index is asked for after the read began (readindex.go).
//   - The cluster id is on disk before anybody sees it, and before the first
//     raft byte (bootstrap.go).
//   - A peer that has a cluster id never founds another.
//   - The configuration changes one step at a time, each for the one it was
//     decided on (membership.go).
//
// Every goroutine is started in Node.startLoops or by lead, and ends before
// Node.Close returns. Locks are leaves: no method of this package calls another
// with one held. memberlist calls the methods of gossip with its own lock held.
//
// recover.go works on the directories of peers that do not run.
//
// DESIGN.md beside this file says why reads are right, how a removed peer learns
// it, and where raft's settings come from.
package cluster
