package httpapi_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/fsm"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/session"
	"github.com/lookupd/lookupd/store"
)

// fakeCluster is consensus without raft: one log, applied to each peer's real
// state in the caller's goroutine.
type fakeCluster struct {
	t testing.TB

	mu      sync.Mutex
	log     []*raft.Log
	number  uint64
	results map[uint64]fsm.BatchResult
	peers   []*fakeNode
}

// fakeNode is one peer of a fakeCluster.
type fakeNode struct {
	cluster *fakeCluster
	id      registry.NodeID
	fsm     *fsm.FSM
	applied int  // entries of the log, guarded by cluster.mu
	paused  bool // does not apply, guarded by cluster.mu

	leader   atomic.Pointer[string]
	lost     atomic.Int64 // nanoseconds without a quorum, 0 if there is one
	notReady atomic.Bool
	readyAt  atomic.Uint64         // what ReadyAt returns
	slow     chan struct{}         // reads wait until it is closed; nil means they do not
	reading  atomic.Int64          // reads that wait so
	fail     error                 // set before requests are made
	status   *cluster.Status       // likewise: what Status returns, nil for a healthy one
	orphans  []cluster.OrphanGroup // likewise
}

func newFakeCluster(t testing.TB, names ...string) *fakeCluster {
	t.Helper()
	c := &fakeCluster{t: t, results: make(map[uint64]fsm.BatchResult)}
	for _, name := range names {
		f, err := fsm.New(fsm.Config{
			Dir:       t.TempDir(),
			ClusterID: func() string { return "test" },
			Logger:    slog.New(slog.DiscardHandler),
			OnFatal:   func(err error) { t.Errorf("fatal: %v", err) },
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		})
		n := &fakeNode{cluster: c, id: registry.NodeID(name + "-00000000"), fsm: f}
		n.setLeader(names[0])
		c.peers = append(c.peers, n)
	}
	return c
}

// propose appends one batch and applies the log wherever it may be.
func (c *fakeCluster) propose(origin registry.NodeID, commands ...registry.Command) ([]registry.Result, uint64) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.number++
	data, err := fsm.EncodeBatch(fsm.Batch{Origin: origin, Epoch: 1, Number: c.number, Commands: commands})
	if err != nil {
		c.t.Fatal(err)
	}
	index := uint64(len(c.log) + 1)
	c.log = append(c.log, &raft.Log{Index: index, Term: 1, Type: raft.LogCommand, Data: data})
	for _, n := range c.peers {
		if !n.paused {
			n.catchUpLocked()
		}
	}
	return c.results[index].Results, index
}

func (c *fakeCluster) logIsAtLeast(entries int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.log) < entries {
		return fmt.Errorf("the log has %d entries", len(c.log))
	}
	return nil
}

// setPaused stops or resumes a peer's applying. One peer must go on.
func (c *fakeCluster) setPaused(n *fakeNode, paused bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n.paused = paused
	if !paused {
		n.catchUpLocked()
	}
}

func (n *fakeNode) catchUpLocked() {
	for ; n.applied < len(n.cluster.log); n.applied++ {
		entry := n.cluster.log[n.applied]
		answers := n.fsm.ApplyBatch([]*raft.Log{entry})
		n.cluster.results[entry.Index] = answers[0].(fsm.BatchResult)
	}
	if err := n.fsm.WaitApplied(context.Background(), uint64(n.applied)); err != nil { // it may be held
		n.cluster.t.Error(err)
	}
}

func (n *fakeNode) setLeader(name string) { n.leader.Store(&name) }

func (n *fakeNode) isReading() error {
	if n.reading.Load() == 0 {
		return errors.New("no read is under way")
	}
	return nil
}

// loseQuorum makes the peer one that knows no leader.
func (n *fakeNode) loseQuorum(since time.Duration) {
	n.setLeader("")
	n.lost.Store(int64(since))
}

func (n *fakeNode) ID() registry.NodeID                   { return n.id }
func (n *fakeNode) Leader() string                        { return *n.leader.Load() }
func (n *fakeNode) NoQuorumSince() time.Duration          { return time.Duration(n.lost.Load()) }
func (n *fakeNode) View(fn func(*store.View) error) error { return n.fsm.View(fn) }
func (n *fakeNode) Feed() *fsm.Feed                       { return n.fsm.Feed() }

func (n *fakeNode) WaitApplied(ctx context.Context, index uint64) error {
	return n.fsm.WaitApplied(ctx, index)
}

func (n *fakeNode) Ready() error {
	if n.notReady.Load() {
		return cluster.ErrNotReady
	}
	return nil
}

func (n *fakeNode) ReadyAt() (uint64, bool) { return n.readyAt.Load(), !n.notReady.Load() }

func (n *fakeNode) Unchanged(footprint store.Footprint, index uint64) bool {
	return n.fsm.Unchanged(footprint, index)
}

func (n *fakeNode) Await(ctx context.Context, c cluster.Consistency) (cluster.ReadInfo, error) {
	info := cluster.ReadInfo{Leader: n.Leader(), Stale: c == cluster.Stale}
	if err := errors.Join(n.fail, n.Ready()); err != nil {
		return info, err
	}
	if c == cluster.Linearizable {
		if err := n.barrier(ctx); err != nil {
			return info, err
		}
	} else {
		info.StaleFor = 1500*time.Millisecond + time.Microsecond
	}
	info.Index, _ = n.fsm.Applied()
	return info, nil
}

func (n *fakeNode) barrier(ctx context.Context) error {
	if n.lost.Load() > 0 {
		<-ctx.Done()
		return errors.Join(cluster.ErrNoQuorum, ctx.Err())
	}
	if n.slow != nil {
		n.reading.Add(1)
		defer n.reading.Add(-1)
		select {
		case <-n.slow:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	n.cluster.mu.Lock()
	index := uint64(len(n.cluster.log))
	n.cluster.mu.Unlock()
	return n.fsm.WaitApplied(ctx, index)
}

func (n *fakeNode) Propose(ctx context.Context, commands ...registry.Command) ([]registry.Result, uint64, error) {
	if n.fail != nil {
		return nil, 0, n.fail
	}
	if n.lost.Load() > 0 {
		<-ctx.Done()
		return nil, 0, errors.Join(cluster.ErrNoQuorum, ctx.Err())
	}
	if len(commands) == 0 || len(commands) > cluster.MaxProposalCommands {
		return nil, 0, fmt.Errorf("%d commands in one proposal", len(commands))
	}
	results, index := n.cluster.propose(n.id, commands...)
	return results, index, nil
}

func (n *fakeNode) Status(context.Context) (cluster.Status, error) {
	if n.fail != nil {
		return cluster.Status{}, n.fail
	}
	if n.status != nil {
		return *n.status, nil
	}
	index, _ := n.fsm.Applied()
	return cluster.Status{Sentence: "Healthy.", State: cluster.StateHealthy, Leader: n.Leader(), Index: index, Peers: []cluster.PeerStatus{}}, nil
}

func (n *fakeNode) RemovePeer(_ context.Context, name string, how cluster.RemoveHow) (cluster.Removal, error) {
	r := cluster.Removal{
		Sentence: "voters 3 -> 2, can lose 1 -> 0", Name: name, ID: registry.NodeID(name + "-00000000"), HasQuorum: true, DryRun: how.DryRun,
		Before: cluster.Voters{Voters: 3, Up: 3, CanLose: 1}, After: cluster.Voters{Voters: 2, Up: 2},
	}
	switch {
	case n.fail != nil:
		return cluster.Removal{}, n.fail
	case name == "needed" && !how.Force:
		r.Sentence = "voters 3 -> 2, of which 1 up: no quorum"
		return r, cluster.ErrWouldLoseQuorum
	case !how.DryRun:
		r.Index = 17
	}
	return r, nil
}

func (n *fakeNode) TransferLeadership(_ context.Context, how cluster.TransferHow) (cluster.Transfer, error) {
	if n.fail != nil {
		return cluster.Transfer{}, n.fail
	}
	if how.DryRun {
		return cluster.Transfer{Sentence: "leader a -> c, writes would pause for a moment", Old: "a", New: cmp.Or(how.To, "c"), DryRun: true}, nil
	}
	return cluster.Transfer{Sentence: "leader a -> c, writes paused 180ms", Old: "a", New: cmp.Or(how.To, "c"), PauseMS: 180}, nil
}

func (n *fakeNode) AutopilotState(context.Context) (cluster.AutopilotState, error) {
	if n.fail != nil {
		return cluster.AutopilotState{}, n.fail
	}
	return cluster.AutopilotState{
		Sentence: "All healthy; cannot lose another.", Healthy: true, Leader: "a",
		Servers: []cluster.AutopilotServer{{
			Name: "a", ID: "a-00000000", Status: "alive", Role: cluster.RoleLeader, Healthy: true, StableMS: 12_000, LastTerm: 3, LastIndex: 57,
		}},
		Settings: cluster.AutopilotSettings{LastContactThresholdMS: 1000, MaxTrailingLogs: 256, MinQuorum: 3, ServerStabilizationMS: 10_000},
	}, nil
}

func (n *fakeNode) Save(ctx context.Context, c cluster.Consistency) (*fsm.Saved, cluster.ReadInfo, error) {
	info, err := n.Await(ctx, c)
	if err != nil {
		return nil, info, err
	}
	saved, err := n.fsm.Save()
	return saved, info, err
}

func (n *fakeNode) Orphans(context.Context) []cluster.OrphanGroup { return n.orphans }

// producer opens a session of an nsqd on the peer and registers names: "t" or "t/c".
func (n *fakeNode) producer(seq uint64, info registry.ProducerInfo, topics ...[2]string) {
	n.cluster.t.Helper()
	id := registry.SessionID{Node: n.id, Epoch: 1, Seq: seq}
	commands := []registry.Command{registry.OpenSession{Session: id, Producer: info}}
	for _, name := range topics {
		commands = append(commands, registry.Register{Session: id, Producer: info.ID(), Topic: name[0], Channel: name[1]})
	}
	results, _ := n.cluster.propose(n.id, commands...)
	for i, r := range results {
		if err := r.Err(); err != nil {
			n.cluster.t.Fatalf("command %d: %v", i, err)
		}
	}
}

// nsqd is the info of an nsqd on a host.
func nsqd(host string) registry.ProducerInfo {
	return registry.ProducerInfo{
		RemoteAddress: "10.0.0.1:5000", Hostname: host + ".local", BroadcastAddress: host,
		TCPPort: 4150, HTTPPort: 4151, Version: "1.3.0",
	}
}

// pings knows when producers were heard.
type pings map[registry.ProducerID]time.Time

func (p pings) LastPing(id registry.ProducerID) (time.Time, bool) {
	at, ok := p[id]
	return at, ok
}

// Sessions says that the producers' sessions of epoch 1 are here.
func (p pings) Sessions() []session.Status {
	var all []session.Status
	for id := range p {
		all = append(all, session.Status{
			Producer: id, ID: registry.SessionID{Node: "a-00000000", Epoch: 1, Seq: 1}, PingAge: 1500 * time.Millisecond, Pending: 2,
		})
	}
	return all
}

// clock is a monotonic clock that only tests move.
type clock struct{ offset atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.offset.Load())) }
func (c *clock) advance(d time.Duration) { c.offset.Add(int64(d)) }
