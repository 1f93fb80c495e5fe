package tcpproto

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/lookupd/lookupd/session"
	"github.com/lookupd/lookupd/socket"
)

// magic opens a V1 connection.
const magic = "  V1"

const (
	readBuffer = 2048
	// answersAtOnce is how many bytes of answers may wait for more.
	answersAtOnce = 4096
	// lingerBytes is how much a client may still send after an error.
	lingerBytes = 256 << 10
)

// errEnd ends a connection that has had its last answer.
var errEnd = errors.New("connection ends")

// long ago: a deadline that ends all waiting.
var longAgo = time.Unix(1, 0)

// conn is one connection. Only interrupt, abort and end may be called by other
// goroutines than its own.
type conn struct {
	s       *Server
	nc      net.Conn
	quick   quickWriter // nc, or nil if it is none
	remote  string
	address netip.Addr
	in      *bufio.Reader
	out     []byte // answers that are not written yet
	rate    bucket

	session    Session   // nil until IDENTIFY
	identifyBy time.Time // zero once that is done
	greeted    time.Time
	lineBy     time.Time // for the line that has begun to arrive
	deadline   time.Time // as last set

	// For the witness: as IDENTIFY gave it, and REGISTERs and UNREGISTERs so far.
	hostname string
	changes  int
}

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{s: s, nc: socket.Direct(nc), remote: nc.RemoteAddr().String()}
	c.quick, _ = c.nc.(quickWriter)
	if a, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
		c.address = a.AddrPort().Addr().Unmap()
	}
	return c
}

// quickWriter is a connection as package socket has them on some systems.
type quickWriter interface {
	// WriteAtOnce returns how much it wrote without waiting.
	WriteAtOnce(b []byte) (n int)
}

// interrupt ends the connection's waiting for input, but no command.
func (c *conn) interrupt() { _ = c.nc.SetReadDeadline(longAgo) }

// abort ends the connection at once.
func (c *conn) abort() { _ = c.nc.Close() }

// end is called when a newer connection of the producer replaces this one.
func (c *conn) end(reason string) {
	c.s.log.Debug("connection ended", "remote", c.remote, "reason", clientText(reason))
	c.abort()
}

// serve runs the connection from its first byte to its last.
func (c *conn) serve() {
	defer c.abort()
	c.in = bufio.NewReaderSize(c.nc, max(readBuffer, c.s.cfg.Limits.LineBytes+1))
	c.rate = newBucket(c.s.cfg.Limits.Commands, c.s.cfg.Limits.CommandBurst)
	err := c.greet()
	for err == nil {
		err = c.command()
	}
	if c.session != nil && !c.s.stopping.Load() {
		c.session.Close()
	}
	flushed := c.flush()
	switch {
	case errors.Is(err, errEnd) && flushed == nil:
		c.linger()
	case isTimeout(err) && !c.s.stopping.Load():
		c.s.complaints.add("timeout", c.remote, "too slow")
	default:
		c.s.log.Debug("connection closed", "remote", c.remote, "err", err)
	}
}

// greet reads the magic.
func (c *conn) greet() error {
	if err := c.setDeadline(time.Now().Add(c.s.cfg.Limits.Magic)); err != nil {
		return err
	}
	var got [len(magic)]byte
	if _, err := io.ReadFull(c.in, got[:]); err != nil {
		return err
	}
	if string(got[:]) != magic {
		return c.refuse(&clientError{kind: errBadProtocol}, got[:])
	}
	c.greeted = time.Now()
	c.identifyBy = c.greeted.Add(c.s.cfg.Limits.Identify)
	return nil
}

// command reads one line, does what it says and answers. An error ends the
// connection.
func (c *conn) command() error {
	line, err := c.readLine()
	if err != nil {
		var refused *clientError
		if errors.As(err, &refused) {
			return c.refuse(err, nil)
		}
		return err
	}
	began := time.Now()
	if wait := c.rate.take(began); wait > 0 {
		if err := c.flush(); err != nil {
			return err
		}
		c.s.sleep(wait)
		began = time.Now()
	}
	answer, err := c.execute(line, began)
	switch {
	case err == nil:
		return c.answer(answer)
	case isConnError(err):
		return err
	default:
		return c.refuse(err, nil)
	}
}

// refuse answers an error. It returns nil if the connection goes on. What the
// client said is logged if the answer does not repeat it.
func (c *conn) refuse(err error, said []byte) error {
	r := refusalOf(err)
	c.s.cfg.Metrics.refused(r.code)
	switch {
	case !r.known:
		c.s.log.Error("cannot do a command", "remote", c.remote, "err", err)
	case errors.Is(err, session.ErrDiskLow):
		c.s.complaints.add("disk", c.remote, r.answer)
	case r.code == "E_UNAVAILABLE":
		c.s.log.Debug("answered E_UNAVAILABLE", "remote", c.remote)
	default:
		c.s.complaints.add(r.code, c.remote, r.answer+" "+string(said))
	}
	if err := c.answer([]byte(r.answer)); err != nil {
		return err
	}
	if r.stays {
		return nil
	}
	return errEnd
}

// linger lets the client read its last answer: closing a socket with unread
// input would reset the connection and take the answer along.
func (c *conn) linger() {
	half, ok := c.nc.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	if c.setDeadline(time.Now().Add(c.s.cfg.Limits.Linger)) == nil {
		_, _ = io.CopyN(io.Discard, c.nc, lingerBytes)
	}
}

// debugging says whether commands are logged; asking first spares their words.
func (c *conn) debugging() bool {
	return c.s.log.Enabled(context.Background(), slog.LevelDebug)
}

// setDeadline sets when reading ends; zero is never.
func (c *conn) setDeadline(t time.Time) error {
	if !t.Equal(c.deadline) {
		c.deadline = t
		if err := c.nc.SetReadDeadline(t); err != nil {
			return err
		}
	}
	if c.s.stopping.Load() { // Close may have interrupted before the line above
		c.interrupt()
	}
	return nil
}

func isTimeout(err error) bool {
	var netErr net.Error
	return errors.As(err, &netErr) && netErr.Timeout()
}

// isConnError reports whether err is of the socket, so that there is nobody to
// answer, or no reason to.
func isConnError(err error) bool {
	var netErr net.Error
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.As(err, &netErr)
}
