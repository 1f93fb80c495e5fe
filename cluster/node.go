package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	autopilot "github.com/hashicorp/raft-autopilot"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/lookupd/lookupd/fsm"
	"github.com/lookupd/lookupd/peer"
	"github.com/lookupd/lookupd/peer/peerpb"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/secrets"
	"github.com/lookupd/lookupd/seeded"
	"github.com/lookupd/lookupd/store"
)

// Config says what a Node is. Dir, Version, Logger and OnFatal must be set.
type Config struct {
	Dir  *store.Dir // locked; the Node does not close it
	Name string     // used when the node id is made

	PeerAddress, PeerAdvertise     string // advertise "" = the listener's
	GossipAddress, GossipAdvertise string
	// Certificates, if given, are for the peer port; GossipKeyFile, if not "",
	// holds the keys for gossip. Both are read again when they change.
	Certificates    secrets.Files
	GossipKeyFile   string
	Join            []string // gossip addresses or DNS names
	BootstrapExpect int
	NonVoter        bool
	// CleanupDeadPeers makes this peer, while it leads, remove peers that are
	// dead for longer than InactiveTimeout, as long as BootstrapExpect voters stay.
	CleanupDeadPeers bool

	TombstoneLifetime time.Duration
	// InactiveTimeout is how long the sessions of a lost peer stay.
	InactiveTimeout time.Duration
	// ReturnGrace is how long sessions of a peer's earlier starts stay after its
	// return; 0 means 45 s.
	ReturnGrace time.Duration
	Version     string
	Logger      *slog.Logger
	// Sessions, if set, returns what this peer holds of V1 sessions.
	Sessions func() SessionStats
	// HTTPAddress, if set, returns the host:port at which nsqds are told to ask
	// this peer, "" while it is not known.
	HTTPAddress func() string
	// Security, if set, returns how the ports between peers are protected. It is
	// asked at each status, so certificates may change.
	Security func() Security
	// FreeDisk, if set, returns the free bytes of the data directory's disk.
	FreeDisk func() uint64
	// OnFatal is told why this peer must not go on; it ends the process.
	OnFatal func(error)
	// Metrics are where this Node counts; nil means nowhere.
	Metrics *Metrics
	// DiskLow, if set, reports whether Submit must refuse what adds to the state.
	DiskLow func() bool
	Limits  Limits // those that are 0 take DefaultLimits' value
	// RaftTimeScale stretches raft's time-outs; 0 means 1. Tests on slow
	// machines raise it.
	RaftTimeScale int
	// Snapshots, if set, changes how often the state is saved and how much of
	// the log stays; proofs use it to see snapshots within seconds.
	Snapshots SnapshotConfig
	// ApplyPause makes each transaction on the state take longer; tests of lag set it.
	ApplyPause time.Duration
}

// SnapshotConfig are raft's settings of these names; those that are 0 keep
// their default.
type SnapshotConfig struct {
	Threshold, TrailingLogs uint64
	Interval                time.Duration
	Commands                int // not raft's: see saveLargeLogs
}

func (c Config) alone() bool { return len(c.Join) == 0 && c.BootstrapExpect <= 1 }

// Node is one peer of the cluster. Its methods may be called from any
// goroutine between Open and Close.
type Node struct {
	cfg     Config
	log     *slog.Logger
	started time.Time

	id    registry.NodeID
	epoch uint64

	identityMu sync.Mutex
	identity   store.Identity // what is on disk
	clusterID  atomic.Pointer[string]

	raftLog   *store.Log
	fsm       *fsm.FSM
	net       *peer.Network
	gossip    *gossip
	raft      *raft.Raft
	notify    chan bool // raft.Config.NotifyCh
	addresses *addressBook

	leader         *leaderWatch
	queue          *queue
	leaderRounds   *rounds
	confirmers     quickest // of leaderRounds' loop
	followerRounds *rounds
	transfers      transferWatch
	configuring    chan struct{}                       // holds one while the configuration is being changed here
	pilot          atomic.Pointer[autopilot.Autopilot] // while this peer leads
	statesDiffer   atomic.Uint64                       // index at which the last comparison of hashes found it, 0 if equal
	contacts       contacts
	metrics        *Metrics

	opened   chan struct{} // closed once calls of other peers can be answered
	founding atomic.Bool   // this peer is about to found a cluster

	barrierBegan atomicTime    // of the latest completed read barrier
	readyAt      atomic.Uint64 // what was applied when the first one had completed
	waiting      atomic.Pointer[string]
	orphans      atomic.Pointer[[]OrphanGroup] // while this peer leads

	ctx    context.Context // ends when Close begins
	cancel context.CancelFunc
	loops  sync.WaitGroup
	close  sync.Once
}

// New returns a Node that has not touched anything yet.
func New(cfg Config) *Node {
	if cfg.RaftTimeScale == 0 {
		cfg.RaftTimeScale = 1
	}
	if cfg.ReturnGrace == 0 {
		cfg.ReturnGrace = returnGrace
	}
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics(prometheus.NewRegistry())
	}
	cfg.Limits = cfg.Limits.withDefaults()
	n := &Node{
		cfg: cfg, log: cfg.Logger, leader: newLeaderWatch(), queue: newQueue(cfg.Limits),
		notify: make(chan bool, 16), configuring: make(chan struct{}, 1), opened: make(chan struct{}), metrics: cfg.Metrics,
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.leaderRounds = newRounds(n.leaderRound)
	n.followerRounds = newRounds(n.followerRound)
	n.transfers.report = n.fatal
	return n
}

// Open loads the peer's state, listens and starts to take part. It does not
// wait for a leader. After an error the Node is closed.
func (n *Node) Open() error {
	n.started = time.Now()
	for _, step := range []func() error{n.openIdentity, n.openState, n.openNetwork, n.openRaft} {
		if err := step(); err != nil {
			return errors.Join(err, n.Close())
		}
	}
	close(n.opened)
	n.startLoops()
	return nil
}

// isOpen reports whether gossip and raft are there. The peer port listens
// before them, since they need its address, and raft's restore may take long.
func (n *Node) isOpen() bool {
	select {
	case <-n.opened:
		return true
	default:
		return false
	}
}

// openIdentity loads or makes the identity and raises the epoch. An identity
// whose log is gone or older is refused: a voter that forgot its votes must not
// come back under its old id.
func (n *Node) openIdentity() error {
	dir := n.cfg.Dir
	if err := refusePeersFile(dir.Path()); err != nil {
		return err
	}
	id, found, err := dir.LoadIdentity()
	if err != nil {
		return err
	}
	if !found {
		if id, err = store.NewIdentity(n.cfg.Name); err != nil {
			return err
		}
	} else if id.NodeID.Name() != n.cfg.Name && n.cfg.Name != "" {
		n.log.Warn("the node id on disk wins over -node-name", "id", id.NodeID, "node-name", n.cfg.Name)
	}
	if n.raftLog, err = dir.OpenLog(store.LogConfig{OnFatal: n.fatal, Stored: n.metrics.logSynced}); err != nil {
		return err
	}
	if err := n.verify(id); err != nil {
		return err
	}
	if id, err = dir.NextEpoch(id, n.raftLog); err != nil {
		return err
	}
	if id.ClusterID != "" && n.cfg.BootstrapExpect > 0 {
		n.log.Info("-bootstrap-expect has no effect: this peer belongs to a cluster already", "cluster", id.ClusterID)
	}
	n.identity, n.id, n.epoch = id, id.NodeID, id.Epoch
	n.clusterID.Store(&id.ClusterID)
	return nil
}

// verify makes sure that identity, log and snapshots belong together and that
// raft can start from them; raft itself would panic.
func (n *Node) verify(id store.Identity) error {
	setAside, err := n.cfg.Dir.Verify(id, n.raftLog, n.raftLogger(), func(r io.Reader) error {
		info, err := fsm.Inspect(r)
		if err == nil && info.ClusterID != id.ClusterID {
			err = fmt.Errorf("%w: a snapshot of cluster %s, this peer belongs to %s", store.ErrRefused, info.ClusterID, id.ClusterID)
		}
		return err
	})
	for _, name := range setAside {
		n.log.Warn("a damaged snapshot was set aside", "name", name)
	}
	return err
}

func (n *Node) openState() (err error) {
	if err := os.RemoveAll(n.cfg.Dir.Path("state")); err != nil {
		return err
	}
	if err := os.Mkdir(n.cfg.Dir.Path("state"), 0o700); err != nil {
		return err
	}
	n.fsm, err = fsm.New(fsm.Config{
		Dir: n.cfg.Dir.Path("state"), ClusterID: n.ClusterID,
		Logger: n.log.With("component", "fsm"), OnFatal: n.fatal, Took: n.applied,
	})
	return err
}

func (n *Node) applied(took time.Duration) {
	n.metrics.applied(took)
	if n.cfg.ApplyPause > 0 {
		time.Sleep(n.cfg.ApplyPause)
	}
}

func (n *Node) openNetwork() error {
	n.addresses = openAddressBook(n.cfg.Dir, n.log)
	n.net = peer.New(peer.Config{
		Node: n.id, Epoch: n.epoch, ClusterID: n.ClusterID,
		Address: n.cfg.PeerAddress, Advertise: n.cfg.PeerAdvertise,
		Resolve: n.resolve, Term: n.term, Handler: handler{n}, Logger: n.log.With("component", "peer"), RaftLogger: n.raftLogger(),
		Refuse: n.isRemoved, Leader: n.leaderID, Member: n.isMember, Applied: n.appliedIndex, StateSize: n.stateSize,
		CheckEntry: store.CheckSeal, Epochs: n.addresses.epochs(), SawEpoch: n.addresses.sawEpoch,
		Limits: n.cfg.Limits.Peer, Certificates: n.cfg.Certificates,
	})
	if err := n.net.Open(); err != nil {
		return fmt.Errorf("peer address %s: %w", n.cfg.PeerAddress, err)
	}
	var err error
	n.gossip, err = openGossip(gossipConfig{
		Address: n.cfg.GossipAddress, Advertise: n.cfg.GossipAdvertise, KeyFile: n.cfg.GossipKeyFile,
		Self: n.self, Members: n.cfg.Limits.Members, LogLines: n.cfg.Limits.LogLines, Logger: n.log.With("component", "gossip"),
	})
	return err
}

func (n *Node) leaderID() registry.NodeID {
	if !n.isOpen() {
		return ""
	}
	_, id := n.raft.LeaderWithID() // not n.leader, which follows it
	return registry.NodeID(id)
}

// appliedIndex counts what raft knows to be committed as applied: it may be
// queued for the state machine, and a snapshot that arrives now comes after it.
func (n *Node) appliedIndex() uint64 {
	index, _ := n.fsm.Applied()
	if n.isOpen() {
		index = max(index, n.raft.CommitIndex())
	}
	return index
}

func (n *Node) stateSize() (size int64) {
	err := n.View(func(v *store.View) error {
		size = v.Size()
		return nil
	})
	if err != nil {
		n.log.Error("the state cannot be read", "err", err)
	}
	return size
}

// isMember reports whether a peer is in the latest configuration. One that never
// proposed anything is not known as removed when it is not.
func (n *Node) isMember(id registry.NodeID) bool { return n.isOpen() && n.servers()[id] }

// isRemoved reports whether a peer was in the configuration once and is not any
// more. Ids never come back.
func (n *Node) isRemoved(id registry.NodeID) bool {
	if !n.isOpen() {
		return false
	}
	servers := n.servers()
	if len(servers) == 0 || servers[id] {
		return false
	}
	proposed := false
	err := n.View(func(v *store.View) error {
		_, _, _, _, proposed = v.Origin(id)
		return nil
	})
	return err == nil && proposed
}

// self is what gossip tells of this peer now.
func (n *Node) self() member {
	return member{
		Format: gossipFormat, ClusterID: n.ClusterID(), ID: n.id, Epoch: n.epoch,
		Address: n.net.AdvertiseAddr(), Expect: n.cfg.BootstrapExpect, NonVoter: n.cfg.NonVoter,
	}
}

func (n *Node) startLoops() {
	n.loops.Go(func() { n.followLeader(n.ctx) })
	n.loops.Go(func() { n.lead(n.ctx) })
	n.loops.Go(func() { n.runBatches(n.ctx) })
	n.loops.Go(func() { n.leaderRounds.loop(n.ctx, n.metrics.leaderRoundRan) })
	n.loops.Go(func() { n.followerRounds.loop(n.ctx, n.metrics.followerRoundRan) })
	n.loops.Go(func() { n.keepFresh(n.ctx) })
	n.loops.Go(func() { n.gossip.rejoin(n.ctx, n.seeds) })
	n.loops.Go(func() { n.gossip.followKeys(n.ctx) })
	n.loops.Go(func() { n.followAddresses(n.ctx) })
	n.loops.Go(func() { n.form(n.ctx) })
	n.loops.Go(func() { n.compareHashes(n.ctx) })
	n.loops.Go(func() { n.watchRemoval(n.ctx) })
	n.loops.Go(func() { n.saveLargeLogs(n.ctx) })
}

// Close stops in order, within 4 s or so; it closes no session. It is safe to
// call twice and after a failed Open.
func (n *Node) Close() (err error) {
	n.close.Do(func() { err = n.stop() })
	return err
}

func (n *Node) stop() error {
	var errs []error
	n.cancel()
	n.queue.close()
	n.loops.Wait()
	if n.gossip != nil {
		errs = append(errs, n.gossip.close())
	}
	if n.net != nil {
		errs = append(errs, n.net.Disconnect()) // raft waits for its calls under way
	}
	if n.raft != nil {
		if err := within(context.Background(), 2*time.Second, "raft shutdown", n.raft.Shutdown().Error); err != nil {
			// Raft panics if its stores close under it: they stay open, the
			// process ends anyway.
			return errors.Join(append(errs, err, n.net.Close())...)
		}
	}
	if n.net != nil {
		errs = append(errs, n.net.Close())
	}
	if n.raftLog != nil {
		errs = append(errs, n.raftLog.Close())
	}
	if n.fsm != nil {
		errs = append(errs, n.fsm.Close())
	}
	return errors.Join(errs...)
}

// HandOver makes another voter the leader if this peer leads, within 3 s and
// until ctx ends. Call it before Close, while clients are still served.
func (n *Node) HandOver(ctx context.Context) {
	if n.raft.State() != raft.Leader {
		return
	}
	if voters, _ := n.voters(); len(voters) < 2 {
		return
	}
	to, code := n.successor(ctx, "")
	if code != peerpb.Code_CODE_OK {
		n.log.Warn("leadership not handed over: no other voter answers")
		return
	}
	n.log.Info("handing over leadership", "to", to)
	if err := n.handOverTo(ctx, to); err != nil {
		n.log.Warn("leadership not handed over", "to", to, "err", err)
	}
}

// within runs f for at most d, and until ctx ends; f goes on by itself after that.
func within(ctx context.Context, d time.Duration, what string, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	began := time.Now()
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%s took longer than %s", what, time.Since(began).Round(time.Millisecond))
	}
}

func (n *Node) stopping() bool { return n.ctx.Err() != nil }

func (n *Node) fatal(err error) { n.cfg.OnFatal(err) }

// ID returns this peer's node id.
func (n *Node) ID() registry.NodeID { return n.id }

// Epoch counts this peer's starts.
func (n *Node) Epoch() uint64 { return n.epoch }

// ClusterID returns "" while this peer belongs to no cluster.
func (n *Node) ClusterID() string {
	if id := n.clusterID.Load(); id != nil {
		return *id
	}
	return ""
}

// setCluster stores the cluster id, and who founds it if this peer does, before
// anybody can see it.
func (n *Node) setCluster(id string, founders []registry.NodeID) error {
	n.identityMu.Lock()
	defer n.identityMu.Unlock()
	identity := n.identity
	identity.ClusterID, identity.Founders = id, founders
	if err := n.cfg.Dir.SaveIdentity(identity); err != nil {
		return err
	}
	n.identity = identity
	n.clusterID.Store(&id)
	return nil
}

// PeerAddr and GossipAddr are the addresses that other peers are told.
func (n *Node) PeerAddr() string { return n.net.AdvertiseAddr() }

// GossipAddr is PeerAddr for gossip.
func (n *Node) GossipAddr() string { return n.gossip.Addr() }

// Leader returns the leader's name, or "".
func (n *Node) Leader() string {
	leader, _ := n.leader.current()
	return leader.Name()
}

// PeerConnections returns how many connections of other peers are open here.
func (n *Node) PeerConnections() int { return n.net.Inbound() }

// Refused returns how many connections to the peer port were refused.
func (n *Node) Refused() uint64 { return n.net.Refused() }

// CertificateEnds returns when other peers cease to accept this one's
// certificate; ok is false if it has none.
func (n *Node) CertificateEnds() (ends time.Time, ok bool) { return n.net.CertificateEnds() }

// HasLeader reports whether this peer knows a leader now.
func (n *Node) HasLeader() bool { return n.Leader() != "" }

// Feed tells what each applied log entry changed.
func (n *Node) Feed() *fsm.Feed { return n.fsm.Feed() }

// WaitApplied waits until this peer's state has applied the entry at index.
func (n *Node) WaitApplied(ctx context.Context, index uint64) error {
	if seeded.RaftAppliedIndex {
		for n.raft.AppliedIndex() < index && ctx.Err() == nil {
			n.leader.pause(ctx, time.Millisecond)
		}
		return ctx.Err()
	}
	return n.fsm.WaitApplied(ctx, index)
}

func (n *Node) term() uint64 {
	if !n.isOpen() {
		return 0
	}
	return n.raft.CurrentTerm()
}

func (n *Node) lastLog() (term, index uint64) {
	term, index, err := n.raftLog.LastTermIndex()
	if err != nil {
		return 0, n.raft.LastIndex()
	}
	return term, index
}

func (n *Node) setWaiting(what string) { n.waiting.Store(&what) }

func (n *Node) waitingFor() string {
	if what := n.waiting.Load(); what != nil {
		return *what
	}
	return "a cluster"
}

// handler answers the calls of other peers; its methods stand beside what they
// are about.
type handler struct{ node *Node }

var _ peer.Handler = handler{}
