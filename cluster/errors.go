package cluster

import (
	"errors"
	"fmt"

	"github.com/lookupd/lookupd/store"
)

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

// Refusals of a change of the cluster's members or its leader. Nothing was
// changed.
var (
	// ErrUnknownPeer: no peer of that name is in the configuration.
	ErrUnknownPeer = errors.New("no such peer")
	// ErrAmbiguousName: several peers have that name; a node id tells them apart.
	ErrAmbiguousName = errors.New("several peers have that name")
	// ErrWouldLoseQuorum: those that stay could commit nothing.
	ErrWouldLoseQuorum = errors.New("the rest would have no quorum")
	// ErrLastVoter: a cluster needs a voter.
	ErrLastVoter = errors.New("it is the only voter")
	// ErrNotVoter: only a voter can lead.
	ErrNotVoter = errors.New("it is no voter")
	// ErrPeerDown: the leader gets no answer from the peer.
	ErrPeerDown = errors.New("it does not answer the leader")
	// ErrNoSuccessor: no other voter is up.
	ErrNoSuccessor = errors.New("no other voter can take over")
	// ErrOldLeader: the leader's version does not know the request.
	ErrOldLeader = errors.New("the leader runs a version that does not know this")
)

// ErrRemoved: this peer was taken out of its cluster. OnFatal gets it.
var ErrRemoved = fmt.Errorf("%w: this peer was removed from its cluster", store.ErrRefused)
