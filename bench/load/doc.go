// Package load makes load from processes of its own: this program is started
// again with the word Role, takes jobs as JSON from its standard input and
// writes a result for each to its standard output.
//
// A child keeps what a job opened (V1 sessions, etcd clients) until its input
// ends, so that rounds need not connect anew. One job runs at a time.
package load

// Role is the argument that makes this program a load process.
const Role = "load"
