// Package socket makes reads and writes of TCP connections cheap for a process
// that is idle most of the time.
//
// Before each system call package syscall tells Go's scheduler, which wakes its
// monitor thread in case the call blocks; that thread then looks on every 20 us
// until the process sleeps again. For a peer whose nsqds only ping that was a
// quarter of all its processor time. A read or write of a socket that is set not to
// block returns at once, so here nobody is told. The wait for a socket to be ready
// is Go's own as before.
//
// It does this on Linux alone. With the race detector it does not, which learns
// from package syscall that what was done before a write comes before what is done
// after its read.
package socket
