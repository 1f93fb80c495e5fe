package httpapi

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lookupd/lookupd/socket"
)

// With a certificate the port speaks TLS. Who speaks plain HTTP there is answered
// as nsqd answers where it wants TLS: NSQ's own programs then come back by HTTPS.
// Health checks, which tell nothing of the registry, need no TLS.

// plainRoutes are served without TLS in any case.
var plainRoutes = []string{"/ping", livezPath, readyzPath}

// tlsRequiredJSON is nsqd's answer to plain requests where it wants TLS.
type tlsRequiredJSON struct {
	Message   string `json:"message"`
	HTTPSPort int    `json:"https_port"`
}

// requireTLS refuses plain requests once there is a certificate.
func (s *Server) requireTLS(next http.Handler) http.Handler {
	if s.cfg.Certificate == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case isTLS(r) || slices.Contains(plainRoutes, r.URL.Path):
			next.ServeHTTP(w, r)
			return
		case strings.HasPrefix(r.URL.Path, v1Prefix):
			w.Header().Set("Connection", "close")
			s.failV1(w, errTLSRequired, "this port speaks TLS", hintTo(errTLSRequired))
		default:
			w.Header().Set("Connection", "close")
			writeJSON(w, errTLSRequired.status, tlsRequiredJSON{errTLSRequired.message, s.Addr().(*net.TCPAddr).Port})
		}
		s.cfg.Counters.refusedOne("tls_required") // no line in the log: NSQ's programs do so each time
	})
}

// tlsConfig is what the port offers. HTTP/1.1 alone: the limits count connections.
func (s *Server) tlsConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.cfg.Certificate(), nil },
	}
}

const goodbyeWithin = 100 * time.Millisecond

type connKey struct{}

// withConn lets isTLS find a request's connection.
func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// isTLS reports whether a request came over TLS. Request.TLS does not say: it is
// for connections that are of crypto/tls from the start.
func isTLS(r *http.Request) bool {
	limited, ok := r.Context().Value(connKey{}).(*limitedConn)
	if !ok {
		return false
	}
	c, ok := limited.Conn.(*eitherConn)
	return ok && c.secure.Load() != nil
}

// eitherListener accepts connections that may speak TLS.
type eitherListener struct {
	net.Listener
	config *tls.Config
}

// Accept implements net.Listener.
func (l eitherListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &eitherConn{Conn: socket.Direct(c), config: l.config}, nil
}

// firstOfTLS is the first byte of a TLS hello, and of no HTTP request.
const firstOfTLS = 0x16

// eitherConn speaks TLS if its client's first byte says so. The server reads
// before it writes, under its deadline for headers, so that handshakes end by it.
type eitherConn struct {
	net.Conn
	config *tls.Config
	once   sync.Once // the first Read looks
	first  *firstByte
	secure atomic.Pointer[tls.Conn] // nil for plain
}

// Read implements net.Conn.
func (c *eitherConn) Read(p []byte) (int, error) {
	var err error
	c.once.Do(func() { err = c.look() })
	if err != nil {
		return 0, err
	}
	if secure := c.secure.Load(); secure != nil {
		return secure.Read(p)
	}
	if c.first == nil { // the look failed
		return c.Conn.Read(p)
	}
	return c.first.Read(p)
}

func (c *eitherConn) look() error {
	b := make([]byte, 1)
	if _, err := c.Conn.Read(b); err != nil {
		return err
	}
	c.first = &firstByte{Conn: c.Conn, left: b}
	if b[0] == firstOfTLS {
		c.secure.Store(tls.Server(c.first, c.config))
	}
	return nil
}

// Write implements net.Conn.
func (c *eitherConn) Write(p []byte) (int, error) {
	if secure := c.secure.Load(); secure != nil {
		return secure.Write(p)
	}
	return c.Conn.Write(p)
}

// Close implements net.Conn. TLS says goodbye, to who reads: nobody waits for the
// others.
func (c *eitherConn) Close() error {
	secure := c.secure.Load()
	if secure == nil {
		return c.Conn.Close()
	}
	_ = c.Conn.SetWriteDeadline(time.Now().Add(goodbyeWithin)) // fails if it is closed already
	return secure.Close()
}

// firstByte reads again what was looked at.
type firstByte struct {
	net.Conn
	left []byte
}

// SetWriteDeadline does nothing: tls.Conn would take its own time to say goodbye.
func (*firstByte) SetWriteDeadline(time.Time) error { return nil }

// Read implements net.Conn.
func (c *firstByte) Read(p []byte) (int, error) {
	if len(c.left) > 0 && len(p) > 0 {
		p[0], c.left = c.left[0], nil
		return 1, nil
	}
	return c.Conn.Read(p)
}
