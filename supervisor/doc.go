// Package supervisor runs real daemons on this machine's loopback, or where a
// wrapping command puts them: it starts, kills, stops and restarts them, waits
// until they are ready, keeps their logs and measures what their users see
// meanwhile. It can also be many users: a Load is simulated producers. lookupctl
// dev and the end-to-end tests share it.
//
// It does not look into the daemons: it knows their flags, their HTTP answers
// and the V1 protocol, nothing of their packages, and imports the standard
// library only.
//
// Invariants:
//   - Only processes that a Group started itself are ever signalled, by the
//     handle of the child, never by name.
//   - A child does not outlive its Group: Close ends it, and on Linux the kernel
//     does if the parent dies first.
//   - A wait ends with its context and reports the last thing that went wrong.
//
// Lock order: Process.mu before Group.mu; neither is held while a process is
// waited for.
package supervisor
