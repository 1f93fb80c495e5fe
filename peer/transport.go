package peer

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/lookupd/lookupd/peer/peerpb"
	"github.com/lookupd/lookupd/registry"
)

const (
	raftTimeout     = 5 * time.Second
	raftMaxPool     = 3 // idle connections per peer
	raftMaxInFlight = 2 // deeper pipelines hurt (hashicorp/raft PR #541)
)

// transport is raft's transport. It embeds the struct, not the interface, to
// keep the optional methods: pre-vote, close, pipelines.
//
// The embedded one makes requests only. Each connection that came in has one of
// its own (see receive), so that it is known for each request who sent it: what
// a request itself says of that is not proven.
type transport struct {
	*raft.NetworkTransport
	network *Network
	stream  *streamLayer
	checked chan raft.RPC
	teller  *teller
	// generation counts how often raft's connections were recycled.
	generation atomic.Uint64
	// ended is when a pipeline ended for that last, nil before.
	ended atomic.Pointer[time.Time]
	// busy is set while one that is to be replaced was in use at the last look.
	busy atomic.Bool
}

var (
	_ raft.Transport   = (*transport)(nil)
	_ raft.WithPreVote = (*transport)(nil)
	_ raft.WithClose   = (*transport)(nil)
)

func newTransport(n *Network) *transport {
	s := newStreamLayer(n)
	t := &transport{NetworkTransport: newNetworkTransport(n.cfg, s), network: n, stream: s, checked: make(chan raft.RPC)}
	t.teller = &teller{transport: t, followers: map[raft.ServerID]*followed{}}
	return t
}

func newNetworkTransport(cfg Config, s *streamLayer) *raft.NetworkTransport {
	timeout, logger := cfg.RaftTimeout, cfg.RaftLogger
	if timeout == 0 {
		timeout = raftTimeout
	}
	if logger == nil {
		logger = hclog.NewNullLogger()
	}
	return raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream:          s,
		MaxPool:         raftMaxPool,
		MaxRPCsInFlight: raftMaxInFlight,
		Timeout:         timeout,
		Logger:          logger,
	})
}

// SetHeartbeatHandler does nothing, so that heartbeats go through raft's main
// loop. The fast path changes term and state beside it, and committed logs can
// differ then (hashicorp/raft #695); may go when a release has its fix.
func (t *transport) SetHeartbeatHandler(func(raft.RPC)) {}

// AppendEntries tries again while the peer cannot be reached, as long as this
// node leads in the request's term. Raft itself would wait up to 10 s after an
// error, and nothing wakes it when the peer is back (raft 1.8.0, replicateTo);
// until then that peer could serve no read. Heartbeats have a wait of their own
// and must fail, for the leader's lease.
func (t *transport) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	t.teller.sent(id, target, args)
	for {
		err := t.NetworkTransport.AppendEntries(id, target, args, resp)
		t.closeBusy()
		if err == nil && resp.Success {
			t.teller.acknowledged(id, args)
		}
		if err == nil || isHeartbeat(args) || !errors.Is(err, ErrUnreachable) || !t.network.mayLead(args.Term, registry.NodeID(id)) {
			return err
		}
		select {
		case <-t.network.ctx.Done():
			return err
		case <-time.After(t.network.timings.redial):
		}
	}
}

// recycle makes raft replace the connections that it has dialled: those that are
// idle now, those of pipelines before they send again, and the next one that
// comes back to the pool. Whoever finds more that are due calls it again.
func (t *transport) recycle() {
	t.generation.Add(1)
	t.CloseStreams()
	t.busy.Store(true)
}

// mayEnd reports whether a pipeline may end now because of that. Raft then leaves
// its follower alone until something is proposed again, or for up to twice its
// CommitTimeout: one at a time, so that what was being sent finds a majority.
func (t *transport) mayEnd() bool {
	now, last := time.Now(), t.ended.Load()
	if last != nil && now.Sub(*last) < t.network.timings.renew {
		return false
	}
	return t.ended.CompareAndSwap(last, &now)
}

// closeBusy follows a request: its connection is back in the pool.
func (t *transport) closeBusy() {
	if t.busy.CompareAndSwap(true, false) {
		t.CloseStreams()
	}
}

func isHeartbeat(args *raft.AppendEntriesRequest) bool {
	return args.PrevLogEntry == 0 && len(args.Entries) == 0 && args.LeaderCommitIndex == 0
}

// mayLead reports whether this node leads in term and follower is still to be
// followed, as far as Config tells. Without that it says no.
func (n *Network) mayLead(term uint64, follower registry.NodeID) bool {
	return n.cfg.Leader != nil && n.cfg.Leader() == n.cfg.Node &&
		n.cfg.Term != nil && n.cfg.Term() == term &&
		n.cfg.Member != nil && n.cfg.Member(follower)
}

// Consumer gives raft what the guard let through.
func (t *transport) Consumer() <-chan raft.RPC { return t.checked }

// streamLayer gives raft's transport connections after their handshake. Its
// addresses are node ids, which raft stores as the names of peers: all peers
// may change address without a change of configuration.
type streamLayer struct {
	network  *Network
	accepted chan net.Conn // has one place
	closed   chan struct{} // by Close, which the transport calls once
}

var _ raft.StreamLayer = (*streamLayer)(nil)

func newStreamLayer(n *Network) *streamLayer {
	return &streamLayer{network: n, accepted: make(chan net.Conn, 1), closed: make(chan struct{})}
}

func (s *streamLayer) Accept() (net.Conn, error) {
	select {
	case c := <-s.accepted:
		return c, nil
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept; the listener is the Network's.
func (s *streamLayer) Close() error {
	close(s.closed)
	return nil
}

func (s *streamLayer) Addr() net.Addr { return nodeAddr(s.network.cfg.Node) }

func (s *streamLayer) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(s.network.ctx, timeout)
	defer cancel()
	c, err := s.network.dialNode(ctx, registry.NodeID(address), peerpb.Kind_KIND_RAFT)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// nodeAddr is a node id in the place of a network address.
type nodeAddr registry.NodeID

func (nodeAddr) Network() string  { return "peer" }
func (a nodeAddr) String() string { return string(a) }
