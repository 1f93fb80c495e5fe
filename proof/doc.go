// Command proof tries to break lookupd's promises with real processes, and
// keeps the books on it.
package main
