package session_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/session"
	"github.com/lookupd/lookupd/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const self registry.NodeID = "a-00000001"

// mostSubmits is far more than any test has a cause for.
const mostSubmits = 5_000

// name is a topic, or a channel of it.
type name struct{ topic, channel string }

// apply does commands as the entry at index, on the registry's own tables.
func apply(t *testing.T, state *store.State, index uint64, commands []registry.Command) (results []registry.Result, events []registry.Event) {
	t.Helper()
	err := state.Update(func(c *store.Change) error {
		c.Entry(index, 1, self)
		for _, command := range commands {
			results = append(results, applyCommand(c, command))
		}
		events = c.TakeEvents()
		return nil
	})
	if err != nil {
		t.Errorf("apply: %v", err)
	}
	return results, events
}

func applyCommand(c *store.Change, command registry.Command) registry.Result {
	switch m := command.(type) {
	case registry.OpenSession:
		return c.OpenSession(m.Session, m.Producer)
	case registry.CloseSession:
		return c.CloseSession(m.Session, m.Producer)
	case registry.SuspendSession:
		return c.SuspendSession(m.Session, m.Producer)
	case registry.ResumeSession:
		return c.ResumeSession(m.Session, m.Producer)
	case registry.Register:
		return c.Register(m.Session, m.Producer, m.Topic, m.Channel)
	case registry.Unregister:
		return c.Unregister(m.Session, m.Producer, m.Topic, m.Channel)
	case registry.CreateTopic:
		return c.CreateTopic(m.Topic)
	case registry.DeleteTopic:
		return c.DeleteTopic(m.Topic)
	case registry.DeleteChannel:
		return c.DeleteChannel(m.Topic, m.Channel)
	}
	panic(fmt.Sprintf("%T", command))
}

func newState(t *testing.T) *store.State {
	t.Helper()
	state, err := store.CreateState(filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := state.Close(); err != nil {
			t.Errorf("close state: %v", err)
		}
	})
	return state
}

// fake is a cluster whose leader, quorum and lag the test decides.
type fake struct {
	t       *testing.T
	mu      sync.Mutex
	leader  bool  // there is one
	diskLow bool  // Submit refuses what adds
	quorum  bool  // what is submitted is committed
	sent    bool  // what waits has been sent, so that it cannot be withdrawn
	lagging bool  // the own state stands still until a read barrier
	slow    bool  // nothing is committed, barriers succeed
	deaf    bool  // no read barrier succeeds
	mute    bool  // what is committed is not answered
	refuse  error // of Submit
	submits int
	waiting []*proposal
	delayed []*proposal          // committed when deliver is called, answered when mute ends
	log     [][]registry.Command // committed, one list per entry
	truth   *store.State
	local   *store.State
	applied int    // entries of log that local has
	floor   uint64 // changes up to here are not kept
	changes []registry.Change
	more    chan struct{}
	healed  chan struct{} // closed by heal
}

var (
	_ session.Cluster  = (*fake)(nil)
	_ session.Feed     = (*fake)(nil)
	_ session.Proposal = (*proposal)(nil)
)

func newFake(t *testing.T) *fake {
	t.Helper()
	return &fake{
		t: t, leader: true, quorum: true, truth: newState(t), local: newState(t),
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
	if f.submits++; f.submits > mostSubmits {
		panic("a session proposes without end") // in a bubble no deadline would come
	}
	if f.refuse != nil {
		return nil, f.refuse
	}
	if f.diskLow && slices.ContainsFunc(commands, adds) {
		return nil, cluster.ErrDiskLow
	}
	if len(commands) == 0 || len(commands) > cluster.MaxProposalCommands {
		return nil, errors.New("bad number of commands")
	}
	p := &proposal{f: f, commands: slices.Clone(commands), done: make(chan struct{})}
	f.waiting = append(f.waiting, p)
	if f.leader && f.quorum && !f.slow {
		f.commitLocked()
	}
	return p, nil
}

func adds(c registry.Command) bool {
	switch c.(type) {
	case registry.OpenSession, registry.Register, registry.CreateTopic:
		return true
	}
	return false
}

func (f *fake) commitLocked() {
	for _, p := range f.waiting {
		p.results, p.index = f.entryLocked(p.commands)
		if f.mute {
			f.delayed = append(f.delayed, p)
		} else {
			close(p.done)
		}
	}
	f.waiting = nil
}

// delay sends what waits on a long way: it is committed by deliver.
func (f *fake) delay() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.delayed = append(f.delayed, f.waiting...)
	f.waiting = nil
}

// deliver commits what was delayed, answers it, and ends mute.
func (f *fake) deliver() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mute = false
	for _, p := range f.delayed {
		if p.index == 0 {
			p.results, p.index = f.entryLocked(p.commands)
		}
		close(p.done)
	}
	f.delayed = nil
}

func (f *fake) entryLocked(commands []registry.Command) ([]registry.Result, uint64) {
	f.log = append(f.log, commands)
	index := uint64(len(f.log))
	results, _ := apply(f.t, f.truth, index, commands)
	if !f.lagging {
		f.catchUpLocked()
	}
	return results, index
}

func (f *fake) catchUpLocked() {
	for ; f.applied < len(f.log); f.applied++ {
		index := uint64(f.applied + 1)
		_, events := apply(f.t, f.local, index, f.log[f.applied])
		if len(events) > 0 {
			f.changes = append(f.changes, registry.Change{Index: index, Events: events})
			f.tellLocked()
		}
	}
}

func (f *fake) tellLocked() {
	close(f.more)
	f.more = make(chan struct{})
}

// restore brings the own state to the end of the log as a snapshot does: the
// feed tells nothing of what happened before.
func (f *fake) restore() {
	f.mu.Lock()
	end := len(f.log)
	f.mu.Unlock()
	f.restoreTo(end)
}

func (f *fake) restoreTo(index int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	index = max(index, f.applied)
	for ; f.applied < index; f.applied++ {
		apply(f.t, f.local, uint64(f.applied+1), f.log[f.applied])
	}
	f.changes, f.floor = nil, uint64(index)
	f.tellLocked()
}

func (f *fake) ReadBarrier(ctx context.Context) (uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for !f.leader || !f.quorum || f.deaf {
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
	return uint64(len(f.log)), nil
}

func (f *fake) HasLeader() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.leader
}

func (f *fake) setDiskLow(low bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.diskLow = low
}

func (f *fake) DiskLow() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.diskLow
}

func (f *fake) View(fn func(session.View) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.local.View(func(v *store.View) error { return fn(v) })
}

func (f *fake) Since(index uint64) ([]registry.Change, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if index < f.floor {
		return nil, false
	}
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
		have := f.floor > after || n > 0 && f.changes[n-1].Index > after
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
	f.be(func() { f.leader, f.quorum = leader, quorum })
}

// proposals returns how many were submitted, and how many are delayed.
func (f *fake) proposals() (submitted, delayed int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.submits, len(f.delayed)
}

// be changes how the cluster is.
func (f *fake) be(how func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	how()
	if f.leader && f.quorum {
		if !f.slow {
			f.commitLocked()
		}
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

// held returns what a peer holds for p, in truth.
func (f *fake) held(node registry.NodeID, p registry.ProducerID) []name {
	var held []name
	f.look(func(v *store.View) {
		for _, n := range v.Held(node, p) {
			held = append(held, name{n.Topic, n.Channel})
		}
	})
	slices.SortFunc(held, func(a, b name) int {
		return cmp.Or(cmp.Compare(a.topic, b.topic), cmp.Compare(a.channel, b.channel))
	})
	return held
}

// session returns the producer's session on this peer.
func (f *fake) session(p registry.ProducerID) (state registry.SessionState, open bool) {
	f.look(func(v *store.View) {
		_, sessions, _ := v.Producer(p)
		i := slices.IndexFunc(sessions, func(s registry.SessionState) bool { return s.ID.Node == self })
		if open = i >= 0; open {
			state = sessions[i]
		}
	})
	return state, open
}

// shows reports whether /nodes has the producer.
func (f *fake) shows(p registry.ProducerID) (shows bool) {
	f.look(func(v *store.View) {
		shows = slices.ContainsFunc(v.Nodes(), func(n registry.Node) bool { return n.ID() == p })
	})
	return shows
}

func (f *fake) look(fn func(v *store.View)) {
	f.t.Helper()
	if err := f.truth.View(func(v *store.View) error { fn(v); return nil }); err != nil {
		f.t.Errorf("view: %v", err)
	}
}

func producer(address string) registry.ProducerInfo {
	return registry.ProducerInfo{
		RemoteAddress: "10.0.0.1:40000", Hostname: address, BroadcastAddress: address,
		TCPPort: 4150, HTTPPort: 4151, Version: "1.3.0",
	}
}

func newManager(t *testing.T, f *fake, limits session.Limits) *session.Manager {
	t.Helper()
	return startManager(t, session.Config{Limits: limits, Cluster: f, Feed: f})
}

func startManager(t *testing.T, cfg session.Config) *session.Manager {
	t.Helper()
	cfg.Node = self
	cfg.Epoch = max(cfg.Epoch, 1)
	m := session.NewManager(cfg)
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
