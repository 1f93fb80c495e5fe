package session_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/session"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const self registry.NodeID = "a-00000001"

// name is a topic, or a channel of it.
type name struct{ topic, channel string }

// model is the registry, as far as sessions matter.
type model struct {
	index    uint64
	sessions map[registry.ProducerID]registry.SessionID
	held     map[registry.ProducerID]map[name]bool
	topics   map[string]map[string]bool
}

func newModel() *model {
	return &model{
		sessions: map[registry.ProducerID]registry.SessionID{},
		held:     map[registry.ProducerID]map[name]bool{},
		topics:   map[string]map[string]bool{},
	}
}

func (m *model) hold(p registry.ProducerID, n name) {
	if m.held[p] == nil {
		m.held[p] = map[name]bool{}
	}
	m.held[p][n] = true
}

func (m *model) apply(c registry.Command) (registry.Result, []registry.Event) {
	switch c := c.(type) {
	case registry.OpenSession:
		p := c.Producer.ID()
		if old, open := m.sessions[p]; open && old.Newer(c.Session) {
			return registry.ResultSessionNotOpen, nil
		}
		m.sessions[p] = c.Session
	case registry.CloseSession:
		if old, open := m.sessions[c.Producer]; !open || old.Newer(c.Session) {
			return registry.ResultUnchanged, nil
		}
		closed := m.sessions[c.Producer]
		delete(m.sessions, c.Producer)
		var events []registry.Event
		for n := range m.held[c.Producer] {
			if n.channel == "" && registry.IsEphemeral(n.topic) {
				delete(m.topics, n.topic)
				events = append(events, registry.Event{Kind: registry.TopicDeleted, Topic: n.topic})
			}
		}
		delete(m.held, c.Producer)
		return registry.ResultChanged, append(events, registry.Event{Kind: registry.SessionClosed, Producer: c.Producer, Session: closed})
	case registry.Register:
		if m.sessions[c.Producer] != c.Session {
			return registry.ResultSessionNotOpen, nil
		}
		if m.topics[c.Topic] == nil {
			m.topics[c.Topic] = map[string]bool{}
		}
		m.hold(c.Producer, name{c.Topic, ""})
		if c.Channel != "" {
			m.topics[c.Topic][c.Channel] = true
			m.hold(c.Producer, name{c.Topic, c.Channel})
		}
	case registry.Unregister:
		if m.sessions[c.Producer] != c.Session {
			return registry.ResultSessionNotOpen, nil
		}
		for n := range m.held[c.Producer] {
			if n.topic == c.Topic && (c.Channel == "" || n.channel == c.Channel) {
				delete(m.held[c.Producer], n)
			}
		}
	case registry.DeleteTopic:
		delete(m.topics, c.Topic)
		for p := range m.held {
			for n := range m.held[p] {
				if n.topic == c.Topic {
					delete(m.held[p], n)
				}
			}
		}
		return registry.ResultChanged, []registry.Event{{Kind: registry.TopicDeleted, Topic: c.Topic}}
	case registry.DeleteChannel:
		delete(m.topics[c.Topic], c.Channel)
		for p := range m.held {
			delete(m.held[p], name{c.Topic, c.Channel})
		}
		return registry.ResultChanged, []registry.Event{{Kind: registry.ChannelDeleted, Topic: c.Topic, Channel: c.Channel}}
	}
	return registry.ResultChanged, nil
}

func (m *model) Applied() (index, term uint64) { return m.index, 1 }

func (m *model) Holds(node registry.NodeID, p registry.ProducerID, topic, channel string) bool {
	return node == self && m.held[p][name{topic, channel}]
}

func (m *model) Counts() registry.Counts {
	counts := registry.Counts{Topics: len(m.topics)}
	for _, channels := range m.topics {
		counts.Channels += len(channels)
	}
	return counts
}

func (m *model) Topic(topic string) (registry.Topic, bool) {
	_, exists := m.topics[topic]
	return registry.Topic{Channels: m.Channels(topic)}, exists
}

func (m *model) Channels(topic string) []string {
	channels := []string{}
	for c := range m.topics[topic] {
		channels = append(channels, c)
	}
	slices.Sort(channels)
	return channels
}

// fake is a cluster whose leader, quorum and lag the test decides.
type fake struct {
	mu      sync.Mutex
	leader  bool // there is one
	quorum  bool // what is submitted is committed
	sent    bool // what waits has been sent, so that it cannot be withdrawn
	lagging bool // the own state stands still until a read barrier
	waiting []*proposal
	log     [][]registry.Command // committed, one list per entry
	local   *model
	truth   *model
	behind  [][]registry.Command // committed, not applied to local
	changes []registry.Change
	more    chan struct{}
	healed  chan struct{} // closed by heal
}

var (
	_ session.Cluster  = (*fake)(nil)
	_ session.Feed     = (*fake)(nil)
	_ session.Proposal = (*proposal)(nil)
)

func newFake() *fake {
	return &fake{
		leader: true, quorum: true, local: newModel(), truth: newModel(),
		more: make(chan struct{}), healed: make(chan struct{}),
	}
}

type proposal struct {
	f        *fake
	commands []registry.Command
	done     chan struct{}
	results  []registry.Result
	index    uint64
}

func (p *proposal) Done() <-chan struct{} { return p.done }

func (p *proposal) Result() ([]registry.Result, uint64, error) { return p.results, p.index, nil }

func (p *proposal) Withdraw() bool {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	i := slices.Index(p.f.waiting, p)
	if i < 0 || p.f.sent {
		return false
	}
	p.f.waiting = slices.Delete(p.f.waiting, i, i+1)
	return true
}

func (f *fake) Submit(ctx context.Context, commands ...registry.Command) (session.Proposal, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if ctx.Err() != nil {
		return nil, cluster.ErrStopped
	}
	if len(commands) == 0 || len(commands) > cluster.MaxProposalCommands {
		return nil, errors.New("bad number of commands")
	}
	p := &proposal{f: f, commands: slices.Clone(commands), done: make(chan struct{})}
	f.waiting = append(f.waiting, p)
	if f.leader && f.quorum {
		f.commitLocked()
	}
	return p, nil
}

func (f *fake) commitLocked() {
	for _, p := range f.waiting {
		p.results, p.index = f.entryLocked(p.commands)
		close(p.done)
	}
	f.waiting = nil
}

func (f *fake) entryLocked(commands []registry.Command) (results []registry.Result, index uint64) {
	f.log = append(f.log, commands)
	f.truth.index++
	for _, c := range commands {
		r, _ := f.truth.apply(c)
		results = append(results, r)
	}
	f.behind = append(f.behind, commands)
	if !f.lagging {
		f.catchUpLocked()
	}
	return results, f.truth.index
}

func (f *fake) catchUpLocked() {
	for _, commands := range f.behind {
		f.local.index++
		change := registry.Change{Index: f.local.index}
		for _, c := range commands {
			_, events := f.local.apply(c)
			change.Events = append(change.Events, events...)
		}
		if len(change.Events) > 0 {
			f.changes = append(f.changes, change)
			close(f.more)
			f.more = make(chan struct{})
		}
	}
	f.behind = nil
}

func (f *fake) ReadBarrier(ctx context.Context) (uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for !f.leader || !f.quorum {
		healed := f.healed
		f.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-healed:
		}
		f.mu.Lock()
		if ctx.Err() != nil {
			return 0, cluster.ErrNoQuorum
		}
	}
	f.catchUpLocked()
	return f.local.index, nil
}

func (f *fake) HasLeader() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.leader
}

func (f *fake) View(fn func(session.View) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return fn(f.local)
}

func (f *fake) Since(index uint64) ([]registry.Change, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := slices.IndexFunc(f.changes, func(c registry.Change) bool { return c.Index > index })
	if i < 0 {
		return nil, true
	}
	return slices.Clone(f.changes[i:]), true
}

func (f *fake) Wait(ctx context.Context, after uint64) error {
	for {
		f.mu.Lock()
		more, n := f.more, len(f.changes)
		have := n > 0 && f.changes[n-1].Index > after
		f.mu.Unlock()
		if have {
			return nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// set changes what the cluster can do.
func (f *fake) set(leader, quorum bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.leader, f.quorum = leader, quorum
	if leader && quorum {
		f.commitLocked()
		close(f.healed)
		f.healed = make(chan struct{})
	}
}

func (f *fake) lag(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lagging = on
	if !on {
		f.catchUpLocked()
	}
}

// commit is an entry of somebody else.
func (f *fake) commit(commands ...registry.Command) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.entryLocked(commands)
}

// committed returns all commands in the log, in order.
func (f *fake) committed() []registry.Command {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Concat(f.log...)
}

func (f *fake) held(p registry.ProducerID) []name {
	f.mu.Lock()
	defer f.mu.Unlock()
	var held []name
	for n := range f.truth.held[p] {
		held = append(held, n)
	}
	slices.SortFunc(held, func(a, b name) int {
		if a.topic != b.topic {
			return slices.Compare([]string{a.topic}, []string{b.topic})
		}
		return slices.Compare([]string{a.channel}, []string{b.channel})
	})
	return held
}

func (f *fake) open(p registry.ProducerID) (registry.SessionID, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	id, open := f.truth.sessions[p]
	return id, open
}

func producer(address string) registry.ProducerInfo {
	return registry.ProducerInfo{
		RemoteAddress: "10.0.0.1:40000", Hostname: address, BroadcastAddress: address,
		TCPPort: 4150, HTTPPort: 4151, Version: "1.3.0",
	}
}

func newManager(t *testing.T, f *fake, limits session.Limits) *session.Manager {
	t.Helper()
	m := session.NewManager(session.Config{Node: self, Epoch: 1, Limits: limits, Cluster: f, Feed: f})
	m.Start()
	t.Cleanup(m.Close)
	return m
}

func openSession(t *testing.T, m *session.Manager, address string) *session.Session {
	t.Helper()
	s, err := m.Open(producer(address), func(string) {})
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return s
}

// check fails unless err is want and the call took exactly took.
func check(t *testing.T, what string, call func() error, want error, took time.Duration) {
	t.Helper()
	began := time.Now()
	if err := call(); !errors.Is(err, want) {
		t.Errorf("%s: got %v, want %v", what, err, want)
	}
	if got := time.Since(began); got != took {
		t.Errorf("%s: took %v, want %v", what, got, took)
	}
}
