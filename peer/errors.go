package peer

import "errors"

// Errors of calls.
var (
	// ErrUnreachable: the call was surely not delivered, because the peer's
	// address is not known or no connection to it came about.
	ErrUnreachable = errors.New("peer is unreachable")
	// ErrUnknownOutcome: the call may or may not have been delivered and
	// executed; the connection ended or the answer could not be used.
	ErrUnknownOutcome = errors.New("outcome of the call is unknown")
	// ErrRejected: the peer does not know the call, being of an older version,
	// or could not read it; it was not executed.
	ErrRejected = errors.New("peer does not know the call")
	// ErrTooLarge: the request is above MaxMessage; nothing was sent.
	ErrTooLarge = errors.New("message is too large")
	// ErrClosed: Close was called.
	ErrClosed = errors.New("peer network is closed")
)

// ErrRecycled ends a pipeline of raft's whose connection is to be replaced. It is
// routine, and the next pipeline begins at once.
var ErrRecycled = errors.New("connection is replaced by a newer one")

// Refusals of a handshake, wrapped in ErrUnreachable when a call meets them.
var (
	// ErrHandshake: the other side does not speak this protocol, or was silent.
	ErrHandshake = errors.New("handshake failed")
	// ErrCertificate: the other side's certificate is not that of a peer of this
	// cluster, or it has none.
	ErrCertificate = errors.New("certificate is refused")
	// ErrForeignCluster: the two peers belong to different clusters.
	ErrForeignCluster = errors.New("peer belongs to another cluster")
	// ErrWrongPeer: another peer lives at that address.
	ErrWrongPeer = errors.New("another peer answers at that address")
	// ErrOldEpoch: a later start of that peer was seen already.
	ErrOldEpoch = errors.New("a later start of this peer was seen")
	// ErrDuplicateID: another process with the same node id and epoch was seen
	// first, so that two are running from copies of one data directory.
	ErrDuplicateID = errors.New("two processes run with one identity")
	// ErrBusy: the peer has as many connections as it takes.
	ErrBusy = errors.New("peer takes no more connections")
	// ErrRemoved: the peer was removed from the cluster.
	ErrRemoved = errors.New("peer was removed from the cluster")
	// ErrNoCluster: raft was asked for while one side has no cluster yet.
	ErrNoCluster = errors.New("peer has no cluster yet")
	// ErrProtocolVersion: the versions have no protocol in common.
	ErrProtocolVersion = errors.New("no common protocol version")
)
