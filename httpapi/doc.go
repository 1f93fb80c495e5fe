// Package httpapi serves HTTP: nsqlookupd's API with its bytes, status codes,
// headers and redirects, and the cluster's own routes (health, status, metrics).
//
// It does not know how the cluster agrees or where the state lies. It calls the
// few methods of interface node and reads through the view that they hand out;
// it never sees raft or bbolt.
//
// Invariants:
//   - A 200 of a registry route was read behind a read barrier, or carries
//     X-Lookupd-Stale-Ms. What cannot be read so is a 503, never a short list.
//   - A 200 of a write means that the cluster committed it.
//   - Lists are sorted and never null.
//   - No name that registry.ValidName refuses reaches the state.
//   - Every byte from a client counts against a limit before it is kept.
//
// Locks: deletions.mu, limitedListener.mu and quickListener.mu, never two of them,
// and none is held while a request waits for the cluster.
package httpapi
