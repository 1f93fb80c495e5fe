//go:build unix

package tcpproto

import (
	"net"
	"syscall"
)

// hasEnded reports whether the client's end of the connection, or a reset, has
// arrived and nothing before it is left to read.
func hasEnded(nc net.Conn) bool {
	socket, ok := nc.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return true
	}
	ended := false
	err = raw.Read(func(fd uintptr) bool {
		var next [1]byte
		n, _, err := syscall.Recvfrom(int(fd), next[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		switch err {
		case nil:
			ended = n == 0
		case syscall.EAGAIN, syscall.EINTR:
		default:
			ended = true
		}
		return true // never wait
	})
	return err != nil || ended
}
