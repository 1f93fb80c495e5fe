package fault

import (
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Direction of bytes through a proxy.
type Direction int

// The two directions.
const (
	Requests Direction = iota // to the server
	Replies                   // from it
	directions
)

func (d Direction) String() string { return [...]string{"requests", "replies"}[d] }

// Proxy passes the bytes of TCP connections on to one server, and can delay or
// hold one direction of all connections, or reset them with what it holds. It
// looks at no byte, so TLS goes through it. Its methods may be called from any
// goroutine.
type Proxy struct {
	listener net.Listener
	dial     func() (net.Conn, error)
	wait     sync.WaitGroup
	accepted atomic.Int64

	mu     sync.Mutex
	closed bool
	open   map[net.Conn]bool
	paths  [directions]path
}

// path is how the proxy treats one direction.
type path struct {
	delay, jitter time.Duration
	held          chan struct{} // nil: nothing is held; closed when it is to go on
	waiting       atomic.Int64  // bytes that are held at present
	touched       atomic.Int64  // bytes that were delayed or held, and went on or were dropped
}

// NewProxy serves a listener, which it closes in the end; dial connects to the
// server.
func NewProxy(listener net.Listener, dial func() (net.Conn, error)) *Proxy {
	p := &Proxy{listener: listener, dial: dial, open: map[net.Conn]bool{}}
	p.wait.Go(p.accept)
	return p
}

// Address is where the proxy listens.
func (p *Proxy) Address() string { return p.listener.Addr().String() }

// Close ends the proxy and all connections through it.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	err := p.listener.Close()
	p.Reset()
	for d := range directions {
		p.Release(d)
	}
	p.wait.Wait()
	return err
}

// Delay makes each byte of a direction arrive later by a time from d to d+jitter;
// their order stays. 0, 0 ends it.
func (p *Proxy) Delay(d Direction, delay, jitter time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.paths[d].delay, p.paths[d].jitter = delay, jitter
}

// Hold keeps the bytes of a direction back until Release or Reset.
func (p *Proxy) Hold(d Direction) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.paths[d].held == nil {
		p.paths[d].held = make(chan struct{})
	}
}

// Release lets go what Hold has kept back.
func (p *Proxy) Release(d Direction) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if held := p.paths[d].held; held != nil {
		close(held)
		p.paths[d].held = nil
	}
}

// Reset resets all connections, on both sides; what the proxy holds is lost.
// It returns their number.
func (p *Proxy) Reset() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.open {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // makes Close send RST
		}
		conn.Close()
	}
	n := len(p.open) / 2
	clear(p.open)
	return n
}

// Waiting returns how many bytes of a direction are held at present, at least.
func (p *Proxy) Waiting(d Direction) int64 { return p.paths[d].waiting.Load() }

// Touched returns how many bytes of a direction were delayed or held so far, and
// then went on or were dropped by Reset.
func (p *Proxy) Touched(d Direction) int64 { return p.paths[d].touched.Load() }

// Accepted returns how many connections were made through the proxy so far.
func (p *Proxy) Accepted() int64 { return p.accepted.Load() }

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		p.wait.Go(func() { p.serve(client) })
	}
}

// serve passes on what one client and the server say, until both have ended.
func (p *Proxy) serve(client net.Conn) {
	defer client.Close()
	server, err := p.dial()
	if err != nil {
		return // the client sees an end, as if the server had died
	}
	defer server.Close()
	p.accepted.Add(1)
	if !p.add(client, server) {
		return
	}
	defer p.remove(client, server)
	var both sync.WaitGroup
	both.Go(func() { p.pass(server, client, Requests) })
	both.Go(func() { p.pass(client, server, Replies) })
	both.Wait()
}

func (p *Proxy) add(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	for _, conn := range conns {
		p.open[conn] = true
	}
	return true
}

func (p *Proxy) remove(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range conns {
		delete(p.open, conn)
	}
}

// chunk is what one read gave, and when it is to go on.
type chunk struct {
	bytes []byte
	due   time.Time
}

// pass copies one direction. The queue lets delayed chunks overlap: a delay is
// no limit on the rate.
func (p *Proxy) pass(to, from net.Conn, d Direction) {
	const queued, size = 256, 16 << 10
	queue := make(chan chunk, queued)
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(queue)
		for {
			buffer := make([]byte, size)
			n, err := from.Read(buffer)
			if n > 0 {
				queue <- chunk{buffer[:n], p.due(d)}
			}
			if err != nil {
				return
			}
		}
	})
	broken := false
	for c := range queue { // to its end, so that the reader ends
		if broken {
			continue
		}
		p.waitFor(c, d)
		if _, err := to.Write(c.bytes); err != nil {
			broken = true
			from.Close()
		}
	}
	reading.Wait()
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}

// due returns when bytes that were read now are to go on.
func (p *Proxy) due(d Direction) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	path := &p.paths[d]
	if path.delay == 0 && path.jitter == 0 {
		return time.Time{}
	}
	return time.Now().Add(path.delay + time.Duration(float64(path.jitter)*rand.Float64()))
}

// waitFor waits until a chunk is due and nothing is held.
func (p *Proxy) waitFor(c chunk, d Direction) {
	touched := false
	if wait := time.Until(c.due); !c.due.IsZero() && wait > 0 {
		touched = true
		time.Sleep(wait)
	}
	for {
		p.mu.Lock()
		held := p.paths[d].held
		p.mu.Unlock()
		if held == nil {
			break
		}
		touched = true
		p.paths[d].waiting.Add(int64(len(c.bytes)))
		<-held
		p.paths[d].waiting.Add(-int64(len(c.bytes)))
	}
	if touched {
		p.paths[d].touched.Add(int64(len(c.bytes)))
	}
}
