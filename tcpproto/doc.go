// Package tcpproto speaks nsqlookupd's V1 protocol with nsqd.
//
// Four bytes of magic, "  V1", then lines:
//
//	PING\n
//	IDENTIFY\n  int32 length (big endian), that many bytes of JSON
//	REGISTER topic [channel]\n
//	UNREGISTER topic [channel]\n
//
// Each is answered, in order, by one frame:
//
//	int32 length (big endian) | "OK", the JSON of IDENTIFY's answer, or an error
//
// The package parses and answers. What a command means is decided by the
// Sessions that it is given; it keeps no registry and never sees raft or bbolt.
//
// Invariants:
//   - nothing is allocated for a length from outside before it is checked;
//   - one goroutine for each connection reads, calls the session and writes, so a
//     client that does not read its answers is not read from;
//   - answers are written before anything that may wait;
//   - every error but E_UNAVAILABLE and E_LIMIT ends the connection;
//   - a connection that ends closes its session, unless the server itself stops.
//
// Server.mu guards the set of connections and is never held while calling out.
package tcpproto
