// Package session keeps what the nsqds that are connected to this peer have
// declared, and sees to it that the cluster agrees.
//
// A Manager has one Session for each producer that is connected here. A Session
// notes what its nsqd registers, proposes it, and answers within a fixed time:
// nil once the change is committed, ErrUnavailable if that is not known in time.
// A change that was answered ErrUnavailable stays declared and is proposed until
// it is committed or withdrawn by a later one.
//
// PINGs are noted in memory only. A Session that hears none for a while is
// suspended until the next (silence.go). What this peer holds for a producer
// since an earlier connection, and the new one does not declare again, is let go
// of (sweep.go). A Session that the state has closed although its connection
// lives is opened again and declares everything anew (drain.go).
//
// The package reads no socket (that is tcpproto's part), holds no registry (that
// is fsm's) and judges no other peer's sessions (that is the leader's duty).
//
// Invariants:
//   - a nil answer to Register or Unregister means that the change, or that it
//     changes nothing, is committed by a quorum;
//   - a session has at most one proposal under way, so its changes enter the log
//     in the order of its calls, as far as the order matters (see pending);
//   - a session that was replaced or closed proposes nothing but its own end;
//   - what waits is bounded by the number of names, not of commands;
//   - what the state holds for a session is declared on it, or left over from an
//     earlier one, or its UNREGISTER waits; of an earlier one it takes nothing
//     after OpenSession: the sweep relies on both;
//   - time is read here alone, never by what a command does, and it becomes a
//     command only where a session falls silent or is heard again.
//
// Lock order: Manager.feedMu, then Session.mu, then Manager.mu, then the locks of
// the Cluster. The methods of one Session are called by one goroutine at a time,
// its connection's; Manager's methods by any.
package session
