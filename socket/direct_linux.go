//go:build linux && !race

package socket

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"unsafe"
)

// Direct returns a connection that is c with cheap Reads and Writes. What is no
// TCP connection is returned as it is. c itself may still be used.
func Direct(c net.Conn) net.Conn {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return c
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return c // it is closed: the next call will tell
	}
	d := &conn{TCPConn: tcp}
	d.in = half{conn: d, op: "read", call: syscall.SYS_READ, wait: raw.Read}
	d.out = half{conn: d, op: "write", call: syscall.SYS_WRITE, wait: raw.Write}
	d.in.try, d.out.try = d.in.move, d.out.move
	return d
}

// conn has everything else of the connection.
type conn struct {
	*net.TCPConn
	in, out half
}

// half is one direction. Its fields are there so that a call allocates nothing.
type half struct {
	conn *conn
	op   string
	call uintptr
	wait func(try func(fd uintptr) (done bool)) error // tries, and again whenever the socket is ready
	try  func(fd uintptr) (done bool)

	mu   sync.Mutex // held by the one Read or Write under way
	b    []byte
	n    int
	err  syscall.Errno
	once bool // do not wait
}

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.in.do(b, false)
	if n == 0 && err == nil && len(b) > 0 {
		err = io.EOF
	}
	return n, err
}

// Write implements net.Conn.
func (c *conn) Write(b []byte) (int, error) { return c.out.do(b, false) }

// WriteAtOnce writes what the socket takes without waiting, and returns how much
// that was. What is wrong with the connection, the next Write will tell.
func (c *conn) WriteAtOnce(b []byte) int {
	n, _ := c.out.do(b, true)
	return n
}

func (h *half) do(b []byte, once bool) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.b, h.n, h.err, h.once = b, 0, 0, once
	err := h.wait(h.try)
	h.b = nil
	if err != nil || h.err != 0 {
		err = h.explain(err)
	}
	return h.n, err
}

// explain returns what package net says of the system's error, or else of err.
func (h *half) explain(err error) error {
	if h.err != 0 {
		err = os.NewSyscallError(h.op, h.err)
	} else if op := (*net.OpError)(nil); errors.As(err, &op) {
		err = op.Err // op itself says raw-read or raw-write
	}
	return &net.OpError{Op: h.op, Net: "tcp", Source: h.conn.LocalAddr(), Addr: h.conn.RemoteAddr(), Err: err}
}

// move reads something, or writes all.
func (h *half) move(fd uintptr) (done bool) {
	for h.n < len(h.b) {
		n, err := h.system(fd, h.b[h.n:])
		switch {
		case err == syscall.EINTR:
		case err == syscall.EAGAIN:
			return h.once
		case err != 0:
			h.err = err
			return true
		case h.call == syscall.SYS_READ:
			h.n = n
			return true
		case n == 0:
			h.err = syscall.EIO // no socket takes nothing and says nothing
			return true
		default:
			h.n += n
		}
	}
	return true
}

// atOnce bounds what one call moves, and so how long a garbage collection that
// begins meanwhile waits.
const atOnce = 128 << 10

func (h *half) system(fd uintptr, b []byte) (int, syscall.Errno) {
	n, _, err := syscall.RawSyscall(h.call, fd, uintptr(unsafe.Pointer(&b[0])), uintptr(min(len(b), atOnce)))
	return int(n), err
}
