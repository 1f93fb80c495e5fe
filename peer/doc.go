// Package peer is what peers of one cluster say to each other over TCP: one
// listener carries raft's streams and the typed calls of peerpb side by side.
//
// Every connection, whichever way it is used, begins with a handshake
// (handshake.go) in which both sides say who they are. It keeps out foreign
// clusters, removed peers, a peer that is not the one that was meant, the older
// life of a peer whose data directory was copied or restored, and the second of
// two processes that run from copies of one.
//
// The package does not know what a batch or a read index means, never sends a
// call on or again, keeps no membership and finds nobody: it asks
// Config.Resolve for an address when it dials.
//
// With Config.Certificates every connection is mutual TLS 1.3 (tls.go), and only
// those take part in a handshake who have shown a certificate of a peer of the
// same cluster. Certificates are read again when they change. Connections that
// were made with older ones, or are an hour old, are replaced by the side that
// dialled them, without a failure, and ended by the other side if it must.
//
// One kind of raft's requests is made here: the empty one that tells a follower
// of a commit, which raft would make later (tell.go).
//
// Invariants:
//   - No byte of a connection reaches raft or a Handler before both sides
//     accepted the handshake.
//   - With certificates nothing of ours is sent or read before the other side
//     has proven whose certificate it shows.
//   - ErrUnreachable is only returned when no byte of the call was sent.
//   - A call ends when its context does, whatever the other side does.
//   - Memory that a connection takes before its handshake is bounded, and so is
//     the number of such connections: 16 handshakes are under way and 48 wait.
//   - At most 64 connections that came in are open, 8 of one peer.
//   - Raft sees no request that was not checked against the peer at the other
//     end of its connection (guard.go).
//   - An attempt to connect takes 1 s at most, and a connection whose other side
//     vanished is closed within 4 s (on other systems than Linux, when data is
//     under way, at its deadline).
//   - After Disconnect no connection is open. After Close no goroutine of the
//     package runs but for one of the teller's that finds nothing to do; those of
//     net/rpc and raft that read from one are at their end.
//
// Locks: a caller's mutex and the teller's come before Network's and that of conns,
// which are never held together. None is held during I/O.
package peer
