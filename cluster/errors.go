package cluster

import "errors"

// Errors of Node's methods.
var (
	// ErrNoQuorum: no leader confirmed its office in time; nothing was read. A
	// write that returns it may still be done, once, when there is a leader.
	ErrNoQuorum = errors.New("no quorum")
	// ErrNotReady: this peer has not completed a read barrier since its start,
	// so its state may lack committed entries.
	ErrNotReady = errors.New("not ready")
	// ErrOverloaded: too many changes wait for raft; this one was not taken.
	ErrOverloaded = errors.New("too many changes are waiting")
	// ErrDiskLow: this peer's disk is nearly full, so it proposes nothing that adds
	// to the state; this change was not taken.
	ErrDiskLow = errors.New("too little free disk space")
	// ErrStopped: this peer is stopping.
	ErrStopped = errors.New("peer is stopping")
)
