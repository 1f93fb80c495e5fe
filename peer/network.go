package peer

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/lookupd/lookupd/peer/peerpb"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/socket"
)

const (
	closeWithin = 5 * time.Second
	acceptPause = 50 * time.Millisecond // after a failed accept: no more files
	userTimeout = 3 * time.Second       // what was sent is acknowledged by then
	// arrivalsPerHandshake is how many connections, for each handshake that may
	// be under way, may have come in and wait for theirs: all peers may dial at once.
	arrivalsPerHandshake = 4
)

// timings are times that tests shorten.
type timings struct {
	connect   time.Duration // one attempt to reach an address
	handshake time.Duration // that and the handshake, or handshake of what came in
	redial    time.Duration // a failed dial is not tried again before that
	grace     time.Duration // a call is answered so long after its deadline, or its connection is dead
	sweep     time.Duration // between two looks for such calls
	call      time.Duration // longest call
	tell      time.Duration // a commit waits as long for a request of raft's to take it along
	renew     time.Duration // between two looks for new certificates and old connections
	age       time.Duration // a connection gets as old under one certificate
	retire    time.Duration // one that was replaced stays as long for what is under way on it
}

func defaultTimings(l Limits) timings {
	return timings{
		connect:   time.Second,
		handshake: l.Handshake,
		redial:    100 * time.Millisecond,
		grace:     5 * time.Second,
		sweep:     time.Second,
		call:      30 * time.Second,
		tell:      2 * time.Millisecond,
		renew:     time.Second,
		age:       time.Hour,
		retire:    30 * time.Second,
	}
}

// Network is this peer's end of all connections between peers.
type Network struct {
	cfg     Config
	run     string // drawn for this process, tells it from a copy of it
	timings timings
	conns   *conns
	tls     *tlsEnds // nil without certificates

	ctx        context.Context // ends at Disconnect
	cancel     context.CancelFunc
	arrivals   *arrivals
	handshakes chan struct{} // holds one per handshake under way
	refused    atomic.Uint64
	refusedAt  atomic.Pointer[time.Time] // of the last log line about it, nil before

	running sync.WaitGroup // grows under mu only, and not after disconnected

	mu           sync.Mutex
	disconnected bool
	closed       bool
	listener     net.Listener // nil before Open
	transport    *transport   // as listener
	callers      map[registry.NodeID]*caller
	duplicates   map[registry.NodeID]bool // that were logged
}

// New returns a Network that has not touched anything yet.
func New(cfg Config) *Network {
	cfg.Limits = cfg.Limits.withDefaults()
	ctx, cancel := context.WithCancel(context.Background())
	run := make([]byte, runIDLength)
	_, _ = rand.Read(run) // never fails
	return &Network{
		cfg:        cfg,
		run:        string(run),
		timings:    defaultTimings(cfg.Limits),
		conns:      newConns(cfg, string(run)),
		ctx:        ctx,
		cancel:     cancel,
		arrivals:   newArrivals(cfg.Limits.Handshakes),
		handshakes: make(chan struct{}, cfg.Limits.Handshakes),
		callers:    map[registry.NodeID]*caller{},
		duplicates: map[registry.NodeID]bool{},
	}
}

// Open listens and starts to serve. It may be called once.
func (n *Network) Open() error {
	if err := n.cfg.validate(); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.disconnected {
		return ErrClosed
	}
	if n.listener != nil {
		return errors.New("peer: Open was called before")
	}
	if n.cfg.Certificates.Given() {
		ends, err := newTLSEnds(n.cfg.Certificates)
		if err != nil {
			return fmt.Errorf("peer certificates: %w", err)
		}
		n.tls = ends
	}
	lc := net.ListenConfig{KeepAliveConfig: keepAlive()}
	l, err := lc.Listen(n.ctx, "tcp", n.cfg.Address)
	if err != nil {
		return fmt.Errorf("peer: %w", err)
	}
	n.listener = l
	n.transport = newTransport(n)
	n.running.Go(func() { n.acceptLoop(l) })
	if n.tls != nil {
		n.running.Go(n.renewLoop)
	}
	return nil
}

// Disconnect closes the listener and all connections, raft's included, ends
// dials and calls under way, and lets no new ones begin. It waits for nothing.
// Called before raft's Shutdown, it ends the requests that Shutdown would wait
// for. It may be called more than once; Close is still due.
func (n *Network) Disconnect() error {
	n.mu.Lock()
	if n.disconnected {
		n.mu.Unlock()
		return nil
	}
	n.disconnected = true
	l := n.listener
	n.mu.Unlock()

	// Connections first: what a handler returns because its context ended must
	// not reach a caller as an answer.
	n.conns.closeAll()
	n.cancel()
	if l == nil {
		return nil
	}
	return l.Close()
}

// Close does what Disconnect does, closes raft's transport and waits for all
// goroutines; a Handler that does not return with its context is left behind
// after 5 s, with an error. Close may be called more than once.
func (n *Network) Close() error {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return nil
	}
	n.closed = true
	t := n.transport
	n.mu.Unlock()

	errs := []error{n.Disconnect()}
	if t != nil {
		errs = append(errs, t.Close())
	}
	done := make(chan struct{})
	go func() {
		n.running.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(closeWithin):
		errs = append(errs, errors.New("peer: a call is still being served"))
	}
	return errors.Join(errs...)
}

// start runs f in a goroutine that Close waits for, unless it is too late.
func (n *Network) start(f func()) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.disconnected {
		return false
	}
	n.running.Go(f)
	return true
}

// Addr returns the host:port that Open is listening on, "" before it.
func (n *Network) Addr() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listener == nil {
		return ""
	}
	return n.listener.Addr().String()
}

// AdvertiseAddr returns the host:port that other peers are told to dial.
func (n *Network) AdvertiseAddr() string {
	if n.cfg.Advertise != "" {
		return n.cfg.Advertise
	}
	return n.Addr()
}

// Transport returns raft's transport, nil before Open. The addresses it knows
// are node ids. Whoever gives it to raft calls Disconnect, shuts raft down and
// calls Close.
func (n *Network) Transport() raft.Transport {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.transport == nil {
		return nil
	}
	return n.transport
}

// CloseConnections closes all connections to and from a peer: its address
// changed, or it was removed. What is under way on them fails, and the next
// call dials anew.
func (n *Network) CloseConnections(node registry.NodeID) {
	n.mu.Lock()
	c := n.callers[node]
	delete(n.callers, node)
	n.mu.Unlock()
	if c != nil {
		c.drop()
	}
	n.conns.closeNode(node)
}

// CertificateEnds returns when other peers cease to accept this one's
// certificate; ok is false if it has none, and before Open.
func (n *Network) CertificateEnds() (ends time.Time, ok bool) {
	n.mu.Lock()
	tls := n.tls
	n.mu.Unlock()
	if tls == nil {
		return time.Time{}, false
	}
	return tls.current.Load().Ends(), true
}

// Inbound returns how many connections that came in are open, those not counted
// whose handshake is under way.
func (n *Network) Inbound() int { return n.conns.inbound() }

// Refused returns how many connections that came in were refused.
func (n *Network) Refused() uint64 { return n.refused.Load() }

func (n *Network) acceptLoop(l net.Listener) {
	for {
		c, err := l.Accept()
		switch {
		case err == nil:
			n.take(c)
		case n.ctx.Err() != nil:
			return
		default:
			n.cfg.Logger.Error("cannot accept a peer's connection", "error", err)
			select {
			case <-n.ctx.Done():
			case <-time.After(acceptPause):
			}
		}
	}
}

// take hands a connection to a goroutine of its own and never blocks.
func (n *Network) take(c net.Conn) {
	of, ok := n.arrivals.add(c)
	if !ok {
		n.refuse(c, errTooMany)
		return
	}
	if !n.start(func() { n.welcome(c, of) }) {
		_ = c.Close() // nothing was sent on it
	}
}

var errTooMany = errors.New("too many handshakes are under way")

// welcome does the handshake and then what the connection is for.
func (n *Network) welcome(c net.Conn, of *arrivalsOf) {
	admitted, err := n.shakeInTurn(c, of)
	n.arrivals.remove(of)
	switch {
	case err != nil:
		n.refuse(c, err)
	case admitted.kind == peerpb.Kind_KIND_RAFT:
		n.transport.receive(admitted)
	default:
		n.serve(admitted)
	}
}

// shakeInTurn does the handshake of a connection that came in once fewer than
// Limits.Handshakes are under way, and fewer than half of that from its address.
func (n *Network) shakeInTurn(c net.Conn, of *arrivalsOf) (*conn, error) {
	turn := time.NewTimer(n.timings.handshake)
	defer turn.Stop()
	for _, turns := range []chan struct{}{of.turns, n.handshakes} {
		select {
		case turns <- struct{}{}:
			defer func() { <-turns }()
		case <-turn.C:
			return nil, errTooMany
		case <-n.ctx.Done():
			return nil, ErrClosed
		}
	}
	if err := setUserTimeout(c, userTimeout); err != nil {
		return nil, err
	}
	c = socket.Direct(c)
	return n.shake(c, func() (*conn, error) { return n.accept(c) })
}

// shake runs a handshake on c so that Close ends it.
func (n *Network) shake(c net.Conn, handshake func() (*conn, error)) (*conn, error) {
	if !n.conns.begin(c) {
		return nil, ErrClosed
	}
	defer n.conns.end(c)
	return handshake()
}

// refuse closes c and says why, at most once a second.
func (n *Network) refuse(c net.Conn, why error) {
	_ = c.Close() // nothing that was sent on it matters
	all := n.refused.Add(1)
	if errors.Is(why, ErrDuplicateID) {
		return // tellDuplicate has said so
	}
	now, last := time.Now(), n.refusedAt.Load()
	if last != nil && now.Sub(*last) < time.Second || !n.refusedAt.CompareAndSwap(last, &now) || n.ctx.Err() != nil {
		return
	}
	n.cfg.Logger.Log(n.ctx, slog.LevelWarn, "refused a connection on the peer port",
		"remote", c.RemoteAddr().String(), "reason", why, "refused_in_all", all)
}

// dial connects to to at addr, or to whoever lives there if to is "".
func (n *Network) dial(ctx context.Context, addr string, to registry.NodeID, kind peerpb.Kind) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, n.timings.handshake)
	defer cancel()
	dialer := net.Dialer{Timeout: n.timings.connect, KeepAliveConfig: keepAlive()}
	c, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if err := setUserTimeout(c, userTimeout); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	c = socket.Direct(c)
	end := context.AfterFunc(ctx, func() { _ = c.Close() })
	admitted, err := n.shake(c, func() (*conn, error) { return n.greet(c, to, kind) })
	if !end() && err == nil {
		err = errors.Join(ctx.Err(), admitted.Close())
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return admitted, nil
}

// dialNode dials a peer where Resolve says that it is now.
func (n *Network) dialNode(ctx context.Context, to registry.NodeID, kind peerpb.Kind) (*conn, error) {
	addr, ok := n.cfg.Resolve(to)
	if !ok {
		return nil, fmt.Errorf("%w: no address of %s is known", ErrUnreachable, to)
	}
	c, err := n.dial(ctx, addr, to, kind)
	if err != nil {
		return nil, fmt.Errorf("%w: %s at %s: %w", ErrUnreachable, to, addr, err)
	}
	return c, nil
}

// keepAlive makes a vanished peer known within 4 s on a connection that only
// waits for it, as raft's inbound ones do; userTimeout does on one that sends.
// What is left over from before a partition is so gone when it ends.
func keepAlive() net.KeepAliveConfig {
	return net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 3}
}
