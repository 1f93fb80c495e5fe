package httpapi

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/lookupd/lookupd/socket"
)

// limitedListener closes connections above its limits as they come.
type limitedListener struct {
	inner      net.Listener
	limits     Limits
	overloaded func() bool
	refused    func(remote net.Addr, reason string)
	opened     func(connections int)

	mu         sync.Mutex
	open       int
	perAddress map[netip.Addr]int
}

func newLimitedListener(inner net.Listener, limits Limits, overloaded func() bool, refused func(net.Addr, string), opened func(int)) *limitedListener {
	return &limitedListener{
		inner: inner, limits: limits, overloaded: overloaded, refused: refused, opened: opened,
		perAddress: make(map[netip.Addr]int),
	}
}

// accept returns the next connection within the limits.
func (l *limitedListener) accept() (*limitedConn, error) {
	for {
		c, err := l.inner.Accept()
		if err != nil {
			return nil, err
		}
		addr, _ := remoteIP(c.RemoteAddr().String())
		reason := l.admit(addr)
		if reason == "" {
			release := sync.OnceFunc(func() { l.release(addr) })
			return &limitedConn{Conn: socket.Direct(c), writeTimeout: l.limits.WriteTimeout, release: release}, nil
		}
		l.refused(c.RemoteAddr(), reason)
		_ = c.Close() // nobody is told: the client sees the end of the connection
	}
}

// admit returns why there is no room for one more, or "".
func (l *limitedListener) admit(addr netip.Addr) (reason string) {
	if l.overloaded != nil && l.overloaded() {
		return "memory"
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open >= l.limits.Connections || l.perAddress[addr] >= l.limits.ConnectionsPerAddress {
		return "connections"
	}
	l.open++
	l.perAddress[addr]++
	l.opened(l.open)
	return ""
}

func (l *limitedListener) release(addr netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if l.perAddress[addr]--; l.perAddress[addr] == 0 {
		delete(l.perAddress, addr)
	}
	l.opened(l.open)
}

// limitedConn gives each write its own deadline: http.Server has only one for
// the whole answer, which a long profile or, later, a blocking lookup may exceed.
// To set one for each write is dear, so a write has between one and one and a
// quarter of writeTimeout.
type limitedConn struct {
	net.Conn
	writeTimeout time.Duration
	writeUntil   time.Time // the deadline; one goroutine writes at a time
	unread       []byte    // what was read and is to be read again
	release      func()
}

// Read implements net.Conn.
func (c *limitedConn) Read(b []byte) (int, error) {
	if len(c.unread) > 0 {
		n := copy(b, c.unread)
		c.unread = c.unread[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

func (c *limitedConn) Write(b []byte) (int, error) {
	if now := time.Now(); c.writeUntil.Sub(now) < c.writeTimeout {
		c.writeUntil = now.Add(c.writeTimeout + c.writeTimeout/4)
		if err := c.SetWriteDeadline(c.writeUntil); err != nil {
			return 0, err
		}
	}
	return c.Conn.Write(b)
}

func (c *limitedConn) Close() error {
	c.release()
	return c.Conn.Close()
}

// remoteIP returns the IP address of host:port, 4-in-6 unmapped.
func remoteIP(hostPort string) (netip.Addr, bool) {
	ap, err := netip.ParseAddrPort(hostPort)
	if err != nil {
		return netip.Addr{}, false
	}
	return ap.Addr().Unmap().WithZone(""), true
}
