// Package registry is the domain of lookupd: the names, producers, sessions,
// commands and results that every other package speaks of.
//
// It holds plain values and the rules that need nothing but the value itself
// (which names are valid, which producer an IDENTIFY describes). It does not
// store, send, encode or time anything and imports the standard library only.
// How a command changes the state is package store's, how it is encoded is
// package fsm's.
//
// All types are values without locks; whoever shares one shares it read-only.
package registry
