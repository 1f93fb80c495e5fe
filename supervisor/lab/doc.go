// Package lab builds, inside one machine, a network that can be broken: hosts,
// each a network namespace with a link to a switch for peers and one to a switch
// for clients, and rules that lose, refuse or slow what goes between them. The
// process itself sits on the clients' switch. Nothing of it is seen outside of
// the process and its children, and all of it ends with them.
//
// It needs Linux, root and the programs unshare, nsenter, mount, ip, tc and
// iptables; Missing says what a machine lacks. It imports the standard library
// only and knows nothing of what runs on the hosts.
//
// Invariants:
//   - Nothing is set up but in a process that was started, or replaced itself,
//     with namespaces of its own: New refuses anywhere else.
//   - A rule counts what it met, so that nobody takes a rule that nothing ever
//     met for a fault.
//   - Heal leaves no rule.
//
// All methods may be called from any goroutine. Lock order: Rule.mu before
// Network.mu; no command runs while Network.mu is held.
package lab
