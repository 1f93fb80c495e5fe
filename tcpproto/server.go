package tcpproto

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config is what a Server needs.
type Config struct {
	Address string // host:port to listen on
	// What nsqd is told in IDENTIFY's answer; it asks BroadcastAddress and
	// HTTPPort for a new topic's channels.
	BroadcastAddress string
	Hostname         string
	Version          string
	HTTPPort         func() int
	Sessions         Sessions
	Logger           *slog.Logger
	// Overloaded, if set, reports whether new connections must be refused. It is
	// called for each one and must not block.
	Overloaded func() bool
	Limits     Limits // those that are 0 take DefaultLimits' value
	// Metrics are where this Server counts; nil means nowhere.
	Metrics *Metrics
}

// Limits bound what clients may cost.
type Limits struct {
	Connections, ConnectionsPerAddress int
	Accepts, AcceptBurst               int // per second
	Commands, CommandBurst             int // per second and connection

	Magic        time.Duration // to arrive
	Identify     time.Duration // after the magic
	IdentifyPing time.Duration // likewise, for clients that only PING
	Line, Body   time.Duration // from its first byte, from the IDENTIFY line
	Write        time.Duration // for answers to be taken
	Linger       time.Duration // after an error, for the client to read it
	KeepAlive    net.KeepAliveConfig
	UserTimeout  time.Duration // for sent data to be acknowledged

	LineBytes, BodyBytes int
	LogLines             int // on bad clients, per second and kind
}

// DefaultLimits returns the limits that a proper nsqd never meets.
func DefaultLimits() Limits {
	return Limits{
		Connections: 10_000, ConnectionsPerAddress: 512,
		Accepts: 1000, AcceptBurst: 2000,
		Commands: 2000, CommandBurst: 50_000,
		Magic:        5 * time.Second,
		Identify:     10 * time.Second,
		IdentifyPing: 30 * time.Second,
		Line:         5 * time.Second,
		Body:         10 * time.Second,
		Write:        5 * time.Second,
		Linger:       time.Second,
		KeepAlive:    net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3},
		UserTimeout:  30 * time.Second,
		LineBytes:    512,
		BodyBytes:    64 << 10,
		LogLines:     10,
	}
}

func (l Limits) withDefaults() Limits {
	d := DefaultLimits()
	for _, f := range []struct {
		value *int
		or    int
	}{
		{&l.Connections, d.Connections},
		{&l.ConnectionsPerAddress, d.ConnectionsPerAddress},
		{&l.Accepts, d.Accepts},
		{&l.AcceptBurst, d.AcceptBurst},
		{&l.Commands, d.Commands},
		{&l.CommandBurst, d.CommandBurst},
		{&l.LineBytes, d.LineBytes},
		{&l.BodyBytes, d.BodyBytes},
		{&l.LogLines, d.LogLines},
	} {
		*f.value = cmp.Or(*f.value, f.or)
	}
	for _, f := range []struct {
		value *time.Duration
		or    time.Duration
	}{
		{&l.Magic, d.Magic},
		{&l.Identify, d.Identify},
		{&l.IdentifyPing, d.IdentifyPing},
		{&l.Line, d.Line},
		{&l.Body, d.Body},
		{&l.Write, d.Write},
		{&l.Linger, d.Linger},
		{&l.UserTimeout, d.UserTimeout},
	} {
		*f.value = cmp.Or(*f.value, f.or)
	}
	l.KeepAlive = cmp.Or(l.KeepAlive, d.KeepAlive)
	return l
}

// Server takes nsqd's connections.
type Server struct {
	cfg        Config
	log        *slog.Logger
	complaints *complaints
	listener   net.Listener  // set by Open
	stop       chan struct{} // closed when the server stops
	stopping   atomic.Bool   // the same, for the loops
	work       sync.WaitGroup
	closeOnce  sync.Once
	closeErr   error

	mu        sync.Mutex
	conns     map[*conn]struct{}
	addresses map[netip.Addr]int // connections of each
}

// New returns a server that does nothing until Open.
func New(cfg Config) *Server {
	cfg.Limits = cfg.Limits.withDefaults()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics(prometheus.NewRegistry())
	}
	return &Server{
		cfg:        cfg,
		log:        cfg.Logger,
		complaints: newComplaints(cfg.Logger, cfg.Limits.LogLines),
		stop:       make(chan struct{}),
		conns:      make(map[*conn]struct{}),
		addresses:  make(map[netip.Addr]int),
	}
}

// Open binds the address and begins to take connections.
func (s *Server) Open() error {
	lc := net.ListenConfig{KeepAliveConfig: s.cfg.Limits.KeepAlive}
	listener, err := lc.Listen(context.Background(), "tcp", s.cfg.Address)
	if err != nil {
		return fmt.Errorf("listen for nsqd: %w", err)
	}
	s.listener = listener
	s.work.Go(s.accept)
	return nil
}

// Addr returns the address that the server listens on, once it is open.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// port is the listener's own, 0 if it has none.
func (s *Server) port() int {
	if a, ok := s.Addr().(*net.TCPAddr); ok {
		return a.Port
	}
	return 0
}

// Close stops listening, lets commands under way be answered until ctx ends,
// and ends all connections. It closes no session: that a peer stops says
// nothing of its nsqds.
func (s *Server) Close(ctx context.Context) error {
	s.closeOnce.Do(func() { s.closeErr = s.close(ctx) })
	return s.closeErr
}

func (s *Server) close(ctx context.Context) error {
	s.stopping.Store(true)
	close(s.stop)
	var err error
	if s.listener != nil {
		err = s.listener.Close()
	}
	s.each((*conn).interrupt)
	done := make(chan struct{})
	go func() {
		s.work.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		s.each((*conn).abort)
		<-done // sessions answer within their own limit
	}
	return err
}

func (s *Server) each(fn func(*conn)) {
	s.mu.Lock()
	all := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		all = append(all, c)
	}
	s.mu.Unlock()
	for _, c := range all {
		fn(c)
	}
}

// Stats are what a Server has and had to do.
type Stats struct {
	Connections int
	Refused     map[string]uint64 // by code or reason
}

// Stats returns the numbers of this moment.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	n := len(s.conns)
	s.mu.Unlock()
	return Stats{Connections: n, Refused: s.complaints.all()}
}

// accept takes connections until the listener is closed. Only those that it
// serves count against the rate: what one client is refused must not make the
// others wait.
func (s *Server) accept() {
	rate, rates := newBucket(s.cfg.Limits.Accepts, s.cfg.Limits.AcceptBurst), newAddressRates(s.cfg.Limits)
	const longestPause = time.Second
	pause := time.Duration(0)
	for {
		nc, err := s.listener.Accept()
		switch {
		case err == nil:
			pause = 0
			if now := time.Now(); s.admit(nc, rates, now) {
				s.sleep(rate.take(now))
			}
		case s.stopping.Load() || errors.Is(err, net.ErrClosed):
			return
		default: // as when there are no file descriptors left
			pause = min(max(2*pause, 5*time.Millisecond), longestPause)
			s.complaints.add("accept", "", err.Error())
			s.sleep(pause)
		}
	}
}

// sleep returns after d, or when the server stops.
func (s *Server) sleep(d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.stop:
	}
}

// admit serves nc unless there are too many already. It reports whether it did.
func (s *Server) admit(nc net.Conn, rates *addressRates, now time.Time) bool {
	c := newConn(s, nc)
	kind, reason := s.add(c)
	if kind == "" && !rates.try(c.address, now) {
		s.remove(c)
		kind, reason = "rate", "one address connects too often"
	}
	if kind != "" {
		s.complaints.add(kind, c.remote, reason)
		_ = nc.Close()
		return false
	}
	if t, ok := nc.(*net.TCPConn); ok {
		if err := setUserTimeout(t, s.cfg.Limits.UserTimeout); err != nil {
			s.log.Debug("cannot set TCP_USER_TIMEOUT", "remote", c.remote, "err", err)
		}
	}
	s.work.Go(func() {
		defer s.remove(c)
		c.serve()
	})
	return true
}

// add returns why there is no room for c, or "".
func (s *Server) add(c *conn) (kind, reason string) {
	if s.cfg.Overloaded != nil && s.cfg.Overloaded() {
		return "memory", "memory is nearly used up"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case len(s.conns) >= s.cfg.Limits.Connections:
		return "connections", fmt.Sprintf("more than %d connections", s.cfg.Limits.Connections)
	case s.addresses[c.address] >= s.cfg.Limits.ConnectionsPerAddress:
		return "connections", fmt.Sprintf("more than %d connections from one address", s.cfg.Limits.ConnectionsPerAddress)
	}
	s.conns[c] = struct{}{}
	s.addresses[c.address]++
	return "", ""
}

func (s *Server) remove(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if s.addresses[c.address]--; s.addresses[c.address] == 0 {
		delete(s.addresses, c.address)
	}
}
