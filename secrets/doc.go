// Package secrets reads what peers prove themselves with: certificates for the
// peer port, keys for gossip. It says which files are safe to use and which
// certificate is a peer's, and makes a first set of both.
//
// It opens no connection, keeps no goroutine and logs nothing. No error that it
// returns holds a secret, only the names of files.
package secrets
