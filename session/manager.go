package session

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/lookupd/lookupd/deadline"
	"github.com/lookupd/lookupd/registry"
)

// Limits are checked before a change is declared.
type Limits struct {
	Registrations int // topics and channels that one session declares
	Topics        int // in the whole registry
	Channels      int // of one topic
	InAll         int // registrations in the whole registry, and channels
}

// Config is what a Manager needs. Durations and Limits that are 0 take the values
// of DefaultConfig.
type Config struct {
	Node         registry.NodeID
	Epoch        uint64        // this peer's start
	AnswerWithin time.Duration // nsqd gives a command one second
	// InactiveTimeout is how long after its last PING a session is suspended.
	InactiveTimeout time.Duration
	Limits          Limits
	Cluster         Cluster
	Feed            Feed
	Logger          *slog.Logger
}

// DefaultConfig returns the values that have a default.
func DefaultConfig() Config {
	return Config{
		AnswerWithin:    800 * time.Millisecond,
		InactiveTimeout: 300 * time.Second,
		Limits:          Limits{Registrations: 50_000, Topics: 100_000, Channels: 10_000, InAll: 2_000_000},
		Logger:          slog.New(slog.DiscardHandler),
	}
}

func (c Config) withDefaults() Config {
	d := DefaultConfig()
	c.AnswerWithin = cmp.Or(c.AnswerWithin, d.AnswerWithin)
	c.InactiveTimeout = cmp.Or(c.InactiveTimeout, d.InactiveTimeout)
	c.Limits.Registrations = cmp.Or(c.Limits.Registrations, d.Limits.Registrations)
	c.Limits.Topics = cmp.Or(c.Limits.Topics, d.Limits.Topics)
	c.Limits.Channels = cmp.Or(c.Limits.Channels, d.Limits.Channels)
	c.Limits.InAll = cmp.Or(c.Limits.InAll, d.Limits.InAll)
	c.Logger = cmp.Or(c.Logger, d.Logger)
	return c
}

// Manager has the sessions of this peer.
type Manager struct {
	cfg   Config
	log   *slog.Logger
	began time.Time

	// ctx ends when the peer stops; all waiting and all goroutines end with it.
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup
	// answerWithin bounds the wait of a command.
	answerWithin *deadline.Shared

	rivals rivals

	feedMu sync.Mutex // held while sessions are told
	seen   uint64     // the last index of the feed that they know

	mu       sync.Mutex
	closed   bool
	seq      uint64
	sessions map[registry.ProducerID]*Session // the one whose connection is the newest
}

// NewManager returns a Manager that does nothing until Start or Open.
func NewManager(cfg Config) *Manager {
	cfg = cfg.withDefaults()
	ctx, cancel := context.WithCancel(context.Background())
	return &Manager{
		cfg:          cfg,
		log:          cfg.Logger,
		began:        time.Now(),
		ctx:          ctx,
		cancel:       cancel,
		answerWithin: deadline.Within(ctx, cfg.AnswerWithin),
		sessions:     make(map[registry.ProducerID]*Session),
	}
}

// Start begins to follow the feed and to look for silent sessions. Call it once,
// before the first Open.
func (m *Manager) Start() {
	at, err := m.applied()
	if err != nil {
		at = 0 // as far back as the feed goes
	}
	m.feedMu.Lock()
	m.seen = at
	m.feedMu.Unlock()
	m.start(m.watch)
	m.start(m.watchSilence)
}

// now is this package's clock: monotonic, since the Manager was made.
func (m *Manager) now() time.Duration { return time.Since(m.began) }

// Close ends all waiting and waits for the goroutines. It closes no session in
// the registry: a peer's stop does not mean that its nsqds are gone.
func (m *Manager) Close() {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.cancel()
	m.work.Wait()
}

// Open begins the session of a producer that has identified itself. It waits
// until that is committed, but no longer than Config.AnswerWithin, and not at
// all without a leader: the session is good in any case. An older session of
// the producer on this peer is replaced and its end called. The only error is
// ErrStopped.
func (m *Manager) Open(info registry.ProducerInfo, end func(reason string)) (*Session, error) {
	ctx := m.answerWithin.Next()
	s := &Session{
		m: m, info: info, producer: info.ID(), end: end,
		settled: make(chan struct{}, 1), hurry: make(chan struct{}, 1), opening: true,
	}
	s.lastPing.Store(int64(m.now())) // IDENTIFY counts as a PING
	s.sweep.declared = m.now()
	old, err := m.admit(s)
	if err != nil {
		return nil, err
	}
	m.log.Info("session opened", "producer", text(s.producer), "session", s.id,
		"hostname", text(info.Hostname), "version", text(info.Version), "remote", info.RemoteAddress)
	if old != nil && old.replace() {
		m.rivals.replaced(s.producer, old.info, info, m.now())
		m.log.Warn("session replaced: the producer connected again, or two nsqds claim one address", "producer", text(s.producer),
			"old_remote", old.info.RemoteAddress, "old_hostname", text(old.info.Hostname),
			"remote", info.RemoteAddress, "hostname", text(info.Hostname))
		old.end("replaced by a newer connection from " + info.RemoteAddress)
	}
	s.mu.Lock()
	s.drainLocked()
	s.mu.Unlock()
	if !m.cfg.Cluster.DiskLow() {
		_ = s.wait(ctx, "") // it is opened sooner or later
	}
	return s, nil
}

// admit gives s its id and its place, and returns whose place that was.
func (m *Manager) admit(s *Session) (old *Session, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, ErrStopped
	}
	s.id = m.nextIDLocked()
	old = m.sessions[s.producer]
	m.sessions[s.producer] = s
	return old, nil
}

// nextID returns another id for s, unless it has lost its place: so the ids of
// the sessions that follow each other in one place grow.
func (m *Manager) nextID(s *Session) (id registry.SessionID, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sessions[s.producer] != s {
		return id, false
	}
	return m.nextIDLocked(), true
}

func (m *Manager) nextIDLocked() registry.SessionID {
	m.seq++
	return registry.SessionID{Node: m.cfg.Node, Epoch: m.cfg.Epoch, Seq: m.seq}
}

func (m *Manager) forget(s *Session) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sessions[s.producer] == s {
		delete(m.sessions, s.producer)
	}
}

// start runs f unless the peer stops. Close waits for it.
func (m *Manager) start(f func()) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	m.work.Go(f)
	return true
}

// Stats are the sizes of a Manager.
type Stats struct {
	Sessions        int // with a living connection
	Suspended       int // of these, silent for too long
	DeclaredPending int // changes that are not known to be committed
	// PendingFor is for how long the session that waits the longest has seen none
	// of its changes committed.
	PendingFor time.Duration
}

// Stats returns the sizes at this moment.
func (m *Manager) Stats() Stats {
	all := m.all()
	stats := Stats{Sessions: len(all)}
	for _, s := range all {
		pending, since, suspended := s.stats()
		if suspended {
			stats.Suspended++
		}
		stats.DeclaredPending += pending
		stats.PendingFor = max(stats.PendingFor, since)
	}
	return stats
}

// LastPing returns when the producer's session on this peer last sent a PING,
// or began, or false if it has none here.
func (m *Manager) LastPing(p registry.ProducerID) (time.Time, bool) {
	s := m.session(p)
	if s == nil {
		return time.Time{}, false
	}
	return m.began.Add(time.Duration(s.lastPing.Load())), true
}

// Status is a session on this peer at one moment.
type Status struct {
	Producer  registry.ProducerID
	ID        registry.SessionID
	PingAge   time.Duration // since the last PING, or since the session began
	Suspended bool          // silent for too long; the state knows, or will soon
	Pending   int           // changes that are not known to be committed
}

// Sessions returns the sessions with a living connection, by producer.
func (m *Manager) Sessions() []Status {
	all := m.all()
	list := make([]Status, 0, len(all))
	for _, s := range all {
		list = append(list, s.status())
	}
	slices.SortFunc(list, func(a, b Status) int { return cmp.Compare(a.Producer, b.Producer) })
	return list
}

func (m *Manager) session(p registry.ProducerID) *Session {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sessions[p]
}

func (m *Manager) all() []*Session {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]*Session, 0, len(m.sessions))
	for _, s := range m.sessions {
		all = append(all, s)
	}
	return all
}

// sight is whether this peer holds a name for a producer, at a log index.
type sight struct {
	held  bool
	index uint64
}

// look asks this peer's own state, which may lag, and whether the limits leave
// room for the name.
func (m *Manager) look(p registry.ProducerID, topic, channel string) (seen sight, room bool) {
	room = true
	_ = m.cfg.Cluster.View(func(v View) error { // without a state nothing is held
		seen = m.sight(v, p, topic, channel)
		room = seen.held || m.room(v, topic, channel)
		return nil
	})
	return seen, room
}

func (m *Manager) sight(v View, p registry.ProducerID, topic, channel string) sight {
	index, _ := v.Applied()
	return sight{v.Holds(m.cfg.Node, p, topic, channel), index}
}

// room reads a topic only when the registry is so large that it may matter.
func (m *Manager) room(v View, topic, channel string) bool {
	counts, limits := v.Counts(), m.cfg.Limits
	if counts.Registrations >= limits.InAll {
		return false
	}
	if counts.Topics >= limits.Topics {
		if _, exists := v.Topic(topic); !exists {
			return false
		}
	}
	if channel == "" || counts.Channels < min(limits.Channels, limits.InAll) {
		return true
	}
	channels := v.Channels(topic)
	return len(channels) < limits.Channels && counts.Channels < limits.InAll || slices.Contains(channels, channel)
}

// confirm says whether this peer holds the name for the producer at an index,
// which covers all that was answered before the call. The index is 0 if that
// cannot be known before ctx ends. What was seen a moment ago often is that new.
func (m *Manager) confirm(ctx context.Context, p registry.ProducerID, topic, channel string, seen sight) (held bool, index uint64) {
	index, err := m.cfg.Cluster.ReadBarrier(ctx)
	if err == nil && seen.index < index {
		err = m.cfg.Cluster.View(func(v View) error {
			seen = m.sight(v, p, topic, channel)
			return nil
		})
	}
	if err != nil {
		return false, 0
	}
	return seen.held, seen.index
}

// text is what a client said, in a length fit for a log line; the log's handler
// quotes it.
func text[T ~string](s T) string {
	const longest = 128
	if len(s) > longest {
		s = s[:longest]
	}
	return string(s)
}
