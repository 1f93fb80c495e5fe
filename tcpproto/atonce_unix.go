//go:build unix

package tcpproto

import (
	"net"
	"syscall"
)

// rawConn returns nc's socket, or nil if it is none.
func rawConn(nc net.Conn) syscall.RawConn {
	socket, ok := nc.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return nil // it is closed: the next read will tell
	}
	return raw
}

// writeAtOnce returns how much of b the socket took without waiting. What is
// wrong with it, the next Write will tell.
func writeAtOnce(raw syscall.RawConn, b []byte) (n int) {
	_ = raw.Write(func(fd uintptr) bool {
		n, _ = syscall.Write(int(fd), b)
		return true // never wait
	})
	return max(n, 0)
}
