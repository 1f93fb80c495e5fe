// Package witness lets a proof check, after the fact, every answer that a peer
// gave: it notes on disk which log entries the state machine applied, and which
// log index each answer to nsqd rests on. HTTP answers carry their index anyway.
//
// Without the build tag "witness", which no release has, all of it is empty and
// costs nothing. With it, the directory that LOOKUPD_WITNESS names takes one
// file of each kind per process; it may lie where no fault reaches. A note is
// handed to the kernel before the answer that it is about, so it outlives a kill
// of the process.
//
// All functions may be called by any goroutine.
package witness
