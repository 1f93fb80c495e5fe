// Command proof tries to break lookupd's promises with real processes, and keeps
// the books on it. docs/reliability.md tells what it does and what came of it.
//
// Each kind of attack is a verb; this package only parses their flags, starts
// processes where a network or mounts of its own are needed, and adds results
// up. Packages:
//
//	load     the clients              fault    what breaks the cluster
//	history  what clients saw         disk     power cuts, damage, failing syncs
//	check    what they may have seen  round    one life of a cluster
//	ledger   the books
package main
