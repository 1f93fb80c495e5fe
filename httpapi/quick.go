package httpapi

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"
)

// quickPaths are the reads that consumers and NSQ's programs ask again and again.
var quickPaths = []string{lookupPath, "/topics", "/channels", "/nodes"}

const (
	quickRequestBytes = 4 << 10  // longer requests are left to net/http
	quickCopyBytes    = 16 << 10 // up to here a body is sent in one write with its head
)

// quickListener answers the plain GETs of quickPaths itself, through the handler
// that serves all others, because net/http's own work on a request costs more
// than a lookup. From the first request on a connection that is anything else, or
// is not there as a whole, the connection is net/http's for good: Accept gives it
// those. What is plain, quickHead decides.
type quickListener struct {
	limited *limitedListener
	handler http.Handler
	handed  chan accepted // to Accept

	closed chan struct{} // by Close
	shut   func() error  // closes it and the listener, once
	ended  chan struct{} // closed when the listener is, and there are no conns
	end    func()        // closes it, once

	mu    sync.Mutex
	conns map[*limitedConn]struct{} // that net/http does not have
}

type accepted struct {
	conn *limitedConn
	err  error
}

func newQuickListener(limited *limitedListener, handler http.Handler) *quickListener {
	l := &quickListener{
		limited: limited, handler: handler, handed: make(chan accepted),
		conns: map[*limitedConn]struct{}{}, closed: make(chan struct{}), ended: make(chan struct{}),
	}
	l.shut = sync.OnceValue(func() error {
		close(l.closed)
		return limited.inner.Close()
	})
	l.end = sync.OnceFunc(func() { close(l.ended) })
	return l
}

// run accepts connections until Close. An error waits until Accept has passed it
// on, so that net/http decides how to go on.
func (l *quickListener) run() {
	for {
		c, err := l.limited.accept()
		if err != nil {
			l.hand(accepted{err: err})
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		go l.serve(c)
	}
}

// hand reports whether Accept took it.
func (l *quickListener) hand(a accepted) bool {
	select {
	case l.handed <- a:
		return true
	case <-l.closed:
		return false
	}
}

// Accept returns the next connection for net/http.
func (l *quickListener) Accept() (net.Conn, error) {
	select {
	case a := <-l.handed:
		if a.err != nil {
			return nil, a.err
		}
		return a.conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Addr implements net.Listener.
func (l *quickListener) Addr() net.Addr { return l.limited.inner.Addr() }

// Close stops accepting. Calling it again does nothing.
func (l *quickListener) Close() error { return l.shut() }

// shutdown stops accepting, lets the requests under way end until ctx does, and
// then cuts them off.
func (l *quickListener) shutdown(ctx context.Context) error {
	err := l.Close()
	l.mu.Lock()
	for c := range l.conns {
		_ = c.SetReadDeadline(time.Unix(1, 0)) // fails if it is closed already
	}
	l.endIfLast()
	l.mu.Unlock()
	select {
	case <-l.ended:
		return err
	case <-ctx.Done():
	}
	l.mu.Lock()
	left := slices.Collect(maps.Keys(l.conns))
	l.mu.Unlock()
	for _, c := range left {
		_ = c.Close() // nobody is left to tell
	}
	return errors.Join(err, ctx.Err())
}

// endIfLast is called with mu held.
func (l *quickListener) endIfLast() {
	if l.isClosed() && len(l.conns) == 0 {
		l.end()
	}
}

func (l *quickListener) isClosed() bool {
	select {
	case <-l.closed:
		return true
	default:
		return false
	}
}

// add reports whether the connection may be served.
func (l *quickListener) add(c *limitedConn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isClosed() {
		return false
	}
	l.conns[c] = struct{}{}
	return true
}

func (l *quickListener) remove(c *limitedConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
	l.endIfLast()
}

// serve owns the connection until net/http does.
func (l *quickListener) serve(c *limitedConn) {
	if !l.add(c) {
		_ = c.Close() // the client sees the end of the connection
		return
	}
	handOver := l.answerAll(c)
	l.remove(c)
	if !handOver || !l.hand(accepted{conn: c}) {
		_ = c.Close() // likewise
	}
}

// answerAll answers requests until one comes that is for net/http, which it puts
// back, or until the connection is to be closed.
func (l *quickListener) answerAll(c *limitedConn) (handOver bool) {
	defer func() { _ = recover() }() // from the handler, which has logged it: cut the connection
	q := newQuickConn(c)
	buffer := make([]byte, quickRequestBytes)
	for wait := l.limited.limits.HeaderTimeout; ; wait = l.limited.limits.IdleTimeout {
		if err := q.readWithin(wait); err != nil || l.isClosed() { // in this order: shutdown sets a deadline too
			return false
		}
		n, err := c.Read(buffer)
		for rest := buffer[:n]; len(rest) > 0; {
			head, ok := quickHead(rest)
			if !ok || !q.take(head) {
				c.unread = rest
				return true
			}
			rest = rest[head.length:]
			if !q.answer(l.handler, l.isClosed) {
				return false
			}
		}
		if err != nil {
			return false
		}
	}
}

// quickConn is a connection's request and answer, one at a time. They are used
// again, so handlers must not keep them.
type quickConn struct {
	conn    *limitedConn
	until   time.Time // the read deadline
	common  *http.Request
	request http.Request
	answers quickAnswer
}

func newQuickConn(c *limitedConn) *quickConn {
	common := &http.Request{
		Method: http.MethodGet, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, Body: http.NoBody, RemoteAddr: c.RemoteAddr().String(),
	}
	return &quickConn{
		conn: c, common: common.WithContext(withConn(context.Background(), c)),
		answers: quickAnswer{conn: c, header: http.Header{}},
	}
}

// readWithin sets the deadline of the next Read, to wait or up to a thirtieth
// earlier: to set one for each is dear.
func (q *quickConn) readWithin(wait time.Duration) error {
	now := time.Now()
	if left := q.until.Sub(now); left >= wait-wait/30 && left <= wait {
		return nil
	}
	q.until = now.Add(wait)
	return q.conn.SetReadDeadline(q.until)
}

// take makes the request, and reports whether it is one of quickPaths.
func (q *quickConn) take(head quickRequest) bool {
	u, err := url.ParseRequestURI(string(head.target))
	if err != nil || !slices.Contains(quickPaths, u.Path) {
		return false
	}
	if string(head.host) != q.common.Host {
		q.common.Host = string(head.host)
	}
	q.request = *q.common
	q.request.URL, q.request.RequestURI = u, string(head.target)
	return true
}

// answer reports whether the connection goes on.
func (q *quickConn) answer(handler http.Handler, closed func() bool) bool {
	a := &q.answers
	clear(a.header)
	a.status, a.sent, a.err, a.closed = 0, false, nil, closed
	handler.ServeHTTP(a, &q.request)
	if !a.sent {
		a.send(nil)
	}
	return a.err == nil && a.header["Connection"] == nil
}

// quickAnswer is the http.ResponseWriter of a handler that writes its body at
// once.
type quickAnswer struct {
	conn   *limitedConn
	header http.Header
	status int // 0 until it is set
	sent   bool
	err    error
	closed func() bool
	buffer bytes.Buffer
}

// Header implements http.ResponseWriter.
func (a *quickAnswer) Header() http.Header { return a.header }

// WriteHeader implements http.ResponseWriter.
func (a *quickAnswer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

var errWrittenTwice = errors.New("httpapi: an answer of two writes on a quick path")

// Write implements http.ResponseWriter.
func (a *quickAnswer) Write(body []byte) (int, error) {
	if a.sent {
		a.err = errWrittenTwice // ends the connection
		return 0, a.err
	}
	a.send(body)
	return len(body), a.err
}

func (a *quickAnswer) send(body []byte) {
	a.sent = true
	a.WriteHeader(http.StatusOK)
	if a.closed() {
		a.header.Set("Connection", "close")
	}
	b := &a.buffer
	b.Reset()
	b.WriteString("HTTP/1.1 ")
	b.Write(strconv.AppendInt(b.AvailableBuffer(), int64(a.status), 10))
	b.WriteByte(' ')
	b.WriteString(http.StatusText(a.status))
	b.WriteString("\r\n")
	_ = a.header.Write(b) // a buffer takes all
	b.WriteString("Date: ")
	b.Write(time.Now().UTC().AppendFormat(b.AvailableBuffer(), http.TimeFormat))
	b.WriteString("\r\nContent-Length: ")
	b.Write(strconv.AppendInt(b.AvailableBuffer(), int64(len(body)), 10))
	b.WriteString("\r\n\r\n")
	large := len(body) > quickCopyBytes
	if !large {
		b.Write(body)
	}
	if _, a.err = a.conn.Write(b.Bytes()); a.err == nil && large {
		_, a.err = a.conn.Write(body)
	}
}

// quickRequest is a request's head as it stands in the bytes read.
type quickRequest struct {
	target, host []byte
	length       int
}

// quickHeaders are what a plain request may bring; no route of quickPaths looks
// at another but Host.
var quickHeaders = [][]byte{[]byte("User-Agent"), []byte("Accept"), []byte("Accept-Encoding")}

var (
	quickEnd    = []byte("\r\n")
	quickMethod = []byte("GET ")
	quickRoot   = []byte("/")
	quickProto  = []byte(" HTTP/1.1")
	quickHost   = []byte("Host")
)

// quickHead finds the request at the beginning of b. ok is false unless it is
// whole and a GET of HTTP/1.1 with one Host and quickHeaders alone, of which
// net/http would make the same.
func quickHead(b []byte) (head quickRequest, ok bool) {
	line, rest, _ := bytes.Cut(b, quickEnd)
	line, isGet := bytes.CutPrefix(line, quickMethod)
	head.target, ok = bytes.CutSuffix(line, quickProto)
	if !isGet || !ok || !bytes.HasPrefix(head.target, quickRoot) || !isPlain(head.target, '!') {
		return head, false
	}
	for {
		if line, rest, ok = bytes.Cut(rest, quickEnd); !ok {
			return head, false
		}
		if len(line) == 0 {
			head.length = len(b) - len(rest)
			return head, len(head.host) > 0
		}
		name, value, _ := bytes.Cut(line, []byte(": "))
		switch {
		case len(head.host) == 0 && bytes.EqualFold(name, quickHost) && isHost(value):
			head.host = value
		case !isPlain(value, ' ') || !slices.ContainsFunc(quickHeaders, func(h []byte) bool { return bytes.EqualFold(name, h) }):
			return head, false
		}
	}
}

// isPlain reports whether all of b is printable ASCII from least on.
func isPlain(b []byte, least byte) bool {
	for _, c := range b {
		if c < least || c > '~' {
			return false
		}
	}
	return true
}

// isHost reports whether b is a host and perhaps a port, or at least no more than
// letters, digits, dots, hyphens, colons and brackets.
func isHost(b []byte) bool {
	for _, c := range b {
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && (c < '-' || c > ':' || c == '/') && c != '[' && c != ']' {
			return false
		}
	}
	return len(b) > 0
}
