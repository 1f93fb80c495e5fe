// Package fault breaks a running cluster and makes it whole again: it kills,
// stops and starves peers, cuts and slows their network, holds their bytes back,
// moves their clocks, wipes one and lets one fall behind its leader's log. It also
// does what operators do amid traffic: removes peers, renews certificates and
// gossip keys, saves and restores backups.
//
// Every fault proves that it took effect and says how: a signal that ended a
// process, packets that a rule met, a log that names an installed snapshot.
// Without evidence a run is an error, because a cluster that survives what never
// happened proves nothing.
//
// The package judges no answer of the cluster, but for one: a leader that was
// stopped and then answers a lookup with a state from before it was stopped. It
// does judge what an operator sees at once: a removed peer that goes on, an old
// certificate that is let in, a damaged backup that is taken. What backups hold
// and restores change is recorded for its callers. What is wrong with the disk is
// package disk's.
//
// A run leaves nothing behind, also when its context ends in the middle: no rule,
// no process that does not run or is stopped. One that took peers away waits, for
// a bounded time, until all are ready and one leads; it is an error if the cluster
// does not come back.
//
// Linux only.
package fault
