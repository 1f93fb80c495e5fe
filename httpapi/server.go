package httpapi

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/deadline"
	"github.com/lookupd/lookupd/fsm"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/session"
	"github.com/lookupd/lookupd/store"
)

// node is the cluster as this package needs it. All methods may be called from
// any goroutine.
type node interface {
	// ID names this peer; it never changes.
	ID() registry.NodeID
	// Leader names the leader that this peer knows, "" if none.
	Leader() string
	// NoQuorumSince returns for how long this peer has known no leader, 0 if it
	// knows one.
	NoQuorumSince() time.Duration
	// Ready returns nil once this peer has completed a read barrier.
	Ready() error
	// ReadyAt returns the index of this peer's state when it became ready, or
	// false before: what is at most there may have happened before its start.
	ReadyAt() (index uint64, ok bool)
	// Await returns once what this peer has covers every write answered before
	// the call or, for cluster.Stale, at once; ReadInfo.Index is what it has at
	// least. Errors: cluster.ErrNoQuorum when ctx ends, cluster.ErrNotReady.
	Await(ctx context.Context, c cluster.Consistency) (cluster.ReadInfo, error)
	// Unchanged reports whether what was read from footprint at index reads the
	// same now and, after Await, at the index that Await told.
	Unchanged(footprint store.Footprint, index uint64) bool
	// View calls fn with what this peer has now, whatever its age.
	View(fn func(*store.View) error) error
	// Propose returns when the commands are committed and applied by the
	// leader. After an error they are done once or not at all. Errors:
	// cluster.ErrNoQuorum, cluster.ErrOverloaded, cluster.ErrDiskLow, cluster.ErrStopped.
	Propose(ctx context.Context, cmds ...registry.Command) ([]registry.Result, uint64, error)
	// WaitApplied returns once this peer's state has applied index, or the
	// error of ctx.
	WaitApplied(ctx context.Context, index uint64) error
	// Status describes the cluster as this peer sees it.
	Status(ctx context.Context) (cluster.Status, error)
	// Orphans returns, as the leader counts them, the groups of sessions whose
	// peer is gone, none if it cannot be asked before ctx ends.
	Orphans(ctx context.Context) []cluster.OrphanGroup
	// Feed tells what changed in this peer's state.
	Feed() *fsm.Feed
	operations
}

// operations change the cluster itself. They ask the leader, wherever it is, and
// return when it is done, refused (one of cluster's sentinels), or ctx ends.
type operations interface {
	// RemovePeer takes a peer, given by name or id, out of the cluster for good.
	RemovePeer(ctx context.Context, name string, how cluster.RemoveHow) (cluster.Removal, error)
	// TransferLeadership makes a voter the leader.
	TransferLeadership(ctx context.Context, how cluster.TransferHow) (cluster.Transfer, error)
	// AutopilotState is what the leader thinks of each peer's fitness to vote.
	AutopilotState(ctx context.Context) (cluster.AutopilotState, error)
	// Save begins a snapshot of what Read would show. The caller must Release it.
	Save(ctx context.Context, c cluster.Consistency) (*fsm.Saved, cluster.ReadInfo, error)
}

// sessions is what this package asks of the connected producers.
type sessions interface {
	// LastPing returns when a producer connected to this peer was last heard.
	LastPing(registry.ProducerID) (time.Time, bool)
	// Sessions returns the sessions with a living connection to this peer.
	Sessions() []session.Status
}

// Limits bound what clients may take.
type Limits struct {
	HeaderTimeout         time.Duration // for a request's line and headers
	ReadTimeout           time.Duration // for the whole request
	WriteTimeout          time.Duration // for each write
	IdleTimeout           time.Duration // between two requests
	HeaderBytes           int
	URLBytes              int
	BodyBytes             int64
	KeepAlive             net.KeepAliveConfig
	Connections           int
	ConnectionsPerAddress int
	LinearizableReads     int           // that wait for the quorum at once
	KeptAnswerBytes       int           // rendered answers kept for the next who asks
	AnswerWithin          time.Duration // for reads and writes, below the promised second
	Topics                int
	ChannelsPerTopic      int
	Channels              int
	LogLines              int // on bad clients, per second
}

// Config says what a Server serves. Start from DefaultConfig.
type Config struct {
	// Address is what to listen on, host:port.
	Address string
	// Version is this binary's, for /info.
	Version  string
	Cluster  node
	Sessions sessions
	// Process is what operators may look into; nil means there are no routes for
	// that.
	Process process
	// Metrics answers /metrics; nil means there is no such route.
	Metrics http.Handler
	// AdminCIDR are the addresses from which admin routes may be called.
	AdminCIDR []netip.Prefix
	// AdminHosts are this peer's own names, which admin routes accept as Host
	// besides localhost and any IP address.
	AdminHosts []string
	// AdminTokenFile holds the token that opens admin routes to callers from
	// anywhere; "" means there is none. It is read again at each use.
	AdminTokenFile string
	// Certificate returns what to show to clients now; nil means plain HTTP.
	Certificate func() *tls.Certificate
	// LookupTokenFile holds the tokens, one a line, of which routes that show or
	// change the registry want one, except from admins; "" means they want none. It
	// is read again when it changes.
	LookupTokenFile string
	// OnNoQuorumStale makes reads that did not ask for a consistency fall back
	// to marked stale answers.
	OnNoQuorumStale bool
	// Counters are where this Server counts; nil means nowhere.
	Counters *Metrics
	// Overloaded, if set, reports whether new connections must be refused. It is
	// called for each one and must not block.
	Overloaded func() bool
	Logger     *slog.Logger
	Limits     Limits
	// Now is the monotonic clock.
	Now func() time.Time
}

// DefaultConfig returns a Config that lacks only what it has to serve.
func DefaultConfig() Config {
	return Config{
		Address:   "0.0.0.0:4161",
		AdminCIDR: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")},
		Logger:    slog.New(slog.DiscardHandler),
		Now:       time.Now,
		Limits: Limits{
			HeaderTimeout:         5 * time.Second,
			ReadTimeout:           10 * time.Second,
			WriteTimeout:          30 * time.Second,
			IdleTimeout:           120 * time.Second,
			HeaderBytes:           16 << 10,
			URLBytes:              8 << 10,
			BodyBytes:             64 << 10,
			KeepAlive:             net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3},
			Connections:           4096,
			ConnectionsPerAddress: 512,
			LinearizableReads:     1024,
			KeptAnswerBytes:       32 << 20,
			AnswerWithin:          900 * time.Millisecond,
			Topics:                100_000,
			ChannelsPerTopic:      10_000,
			Channels:              2_000_000,
			LogLines:              10,
		},
	}
}

func (c Config) validate() error {
	switch {
	case c.Address == "":
		return errors.New("httpapi: no address")
	case c.Cluster == nil || c.Sessions == nil || c.Logger == nil || c.Now == nil:
		return errors.New("httpapi: Cluster, Sessions, Logger and Now are needed")
	case c.Limits.Connections <= 0 || c.Limits.ConnectionsPerAddress <= 0 || c.Limits.LinearizableReads <= 0:
		return errors.New("httpapi: limits of connections and reads must be positive")
	case c.Limits.BodyBytes <= 0 || c.Limits.URLBytes <= 0 || c.Limits.AnswerWithin <= 0:
		return errors.New("httpapi: limits of bodies, URLs and answers must be positive")
	}
	return nil
}

// Server serves HTTP on one listener. Its methods may be called from any
// goroutine.
type Server struct {
	cfg          Config
	deletions    *deletions
	bad          throttle      // log lines on bad clients
	reads        chan struct{} // holds one element per read that waits for the quorum
	answerWithin *deadline.Shared
	answers      *answers
	saves        chan struct{} // likewise for snapshots: each keeps old pages of the state
	debugs       chan struct{} // likewise for /debug: each is all of the registry in memory
	followers    chan struct{} // likewise for those who follow the log
	bundles      chan struct{} // likewise for support bundles
	checks       checks
	tokens       *tokens // for lookups; nil if none is wanted
	stopping     atomic.Bool
	ending       chan struct{} // closed by Close: what never ends by itself must end
	end          func()        // closes it, once

	mu       sync.Mutex // guards what follows; held during Open and Close
	listener *quickListener
	server   *http.Server
	stop     context.CancelFunc
	running  sync.WaitGroup
}

// New checks cfg and touches nothing.
func New(cfg Config) (*Server, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if cfg.Counters == nil {
		cfg.Counters = NewMetrics(prometheus.NewRegistry())
	}
	var lookupTokens *tokens
	if cfg.LookupTokenFile != "" {
		lookupTokens = &tokens{path: cfg.LookupTokenFile}
	}
	ending := make(chan struct{})
	return &Server{
		cfg:          cfg,
		deletions:    newDeletions(cfg.Cluster, cfg.Now),
		bad:          throttle{perSecond: cfg.Limits.LogLines},
		reads:        make(chan struct{}, cfg.Limits.LinearizableReads),
		answerWithin: deadline.Within(context.Background(), cfg.Limits.AnswerWithin),
		answers:      newAnswers(cfg.Limits.KeptAnswerBytes),
		saves:        make(chan struct{}, mostSaves),
		debugs:       make(chan struct{}, mostDebugs),
		followers:    make(chan struct{}, mostFollowers),
		bundles:      make(chan struct{}, 1),
		tokens:       lookupTokens,
		ending:       ending,
		end:          sync.OnceFunc(func() { close(ending) }),
	}, nil
}

// Open binds the address and begins to serve.
func (s *Server) Open() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server != nil {
		return errors.New("httpapi: already open")
	}
	lc := net.ListenConfig{KeepAliveConfig: s.cfg.Limits.KeepAlive}
	inner, err := lc.Listen(context.Background(), "tcp", s.cfg.Address)
	if err != nil {
		return fmt.Errorf("listen for HTTP on %s: %w", s.cfg.Address, err)
	}
	if s.cfg.Certificate != nil {
		inner = eitherListener{inner, s.tlsConfig()}
	}
	limited := newLimitedListener(inner, s.cfg.Limits, s.cfg.Overloaded, func(remote net.Addr, reason string) {
		s.cfg.Counters.refusedOne(reason)
		s.bad.warn(s.cfg.Logger, s.cfg.Now(), "HTTP connection refused", "why", reason, "remote", remote.String())
	}, s.cfg.Counters.connectionsOpen)
	limits, handler := s.cfg.Limits, s.handler()
	s.listener = newQuickListener(limited, handler)
	s.server = &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: limits.HeaderTimeout,
		ReadTimeout:       limits.ReadTimeout,
		IdleTimeout:       limits.IdleTimeout,
		ConnContext:       withConn,
		MaxHeaderBytes:    limits.HeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.cfg.Logger.Handler(), slog.LevelDebug),
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.running.Go(func() {
		if err := s.deletions.follow(ctx); err != nil {
			s.cfg.Logger.Error("channel deletions of other peers are not noted any more", "err", err)
		}
	})
	s.running.Go(s.listener.run)
	s.running.Go(func() {
		if err := s.server.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
			s.cfg.Logger.Error("HTTP listener failed", "err", err)
		}
	})
	return nil
}

// Addr returns the address that Open bound, nil before.
func (s *Server) Addr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener == nil {
		return nil
	}
	return s.listener.Addr()
}

// SetStopping makes /readyz fail from now on.
func (s *Server) SetStopping() { s.stopping.Store(true) }

// Close lets open requests end until ctx does, then cuts them off.
func (s *Server) Close(ctx context.Context) error {
	s.SetStopping()
	s.end()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server == nil {
		return nil
	}
	err := errors.Join(s.listener.shutdown(ctx), s.server.Shutdown(ctx))
	if err != nil {
		err = errors.Join(fmt.Errorf("end open HTTP requests: %w", err), s.server.Close())
	}
	s.stop()
	s.running.Wait()
	return err
}
