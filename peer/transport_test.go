package peer_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/lookupd/lookupd/peer"
	"github.com/lookupd/lookupd/registry"
)

// logFSM keeps what was applied.
type logFSM struct{ applied chan string }

func (f *logFSM) Apply(l *raft.Log) any {
	f.applied <- string(l.Data)
	return nil
}

func (f *logFSM) Snapshot() (raft.FSMSnapshot, error) { return nil, errors.New("no snapshots here") }
func (f *logFSM) Restore(io.ReadCloser) error         { return errors.New("no snapshots here") }

// raftPeer is a raft with stores in memory over a real Network.
type raftPeer struct {
	*raft.Raft
	network *peer.Network
	fsm     *logFSM
}

func (a *addresses) raft(t *testing.T, node registry.NodeID, members raft.Configuration) *raftPeer {
	t.Helper()
	cfg := raft.DefaultConfig()
	cfg.LocalID = raft.ServerID(node)
	cfg.HeartbeatTimeout, cfg.ElectionTimeout, cfg.LeaderLeaseTimeout = time.Second, time.Second, time.Second
	cfg.Logger = hclog.NewNullLogger()

	p := &raftPeer{fsm: &logFSM{applied: make(chan string, 1000)}}
	p.network = a.open(t, node, &handler{}, func(c *peer.Config) {
		c.Term = func() uint64 { return 0 }
	})
	store := raft.NewInmemStore()
	snapshots := raft.NewDiscardSnapshotStore()
	transport := p.network.Transport()
	if err := raft.BootstrapCluster(cfg, store, store, snapshots, transport, members); err != nil {
		t.Fatal(err)
	}
	var err error
	if p.Raft, err = raft.NewRaft(cfg, p.fsm, store, store, snapshots, transport); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Shutdown().Error(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func members(ids ...registry.NodeID) (c raft.Configuration) {
	for _, id := range ids {
		c.Servers = append(c.Servers, raft.Server{ID: raft.ServerID(id), Address: raft.ServerAddress(id)})
	}
	return c
}

func leaderOf(t *testing.T, peers []*raftPeer) (leader *raftPeer) {
	t.Helper()
	eventually(t, func() error {
		for _, p := range peers {
			if p.State() == raft.Leader {
				leader = p
				return nil
			}
		}
		return errors.New("no leader")
	})
	return leader
}

func TestThreeRaftsOverTheNetwork(t *testing.T) {
	known := newAddresses()
	ids := []registry.NodeID{"a-00000001", "b-00000002", "c-00000003"}
	var peers []*raftPeer
	for _, id := range ids {
		peers = append(peers, known.raft(t, id, members(ids...)))
	}
	leader := leaderOf(t, peers)
	if addr, id := leader.LeaderWithID(); string(addr) != string(id) {
		t.Fatalf("leader %s has the address %s", id, addr)
	}
	for i := range 100 {
		if err := leader.Apply(fmt.Appendf(nil, "entry %d", i), time.Second).Error(); err != nil {
			t.Fatal(err)
		}
	}
	// All connections break; raft makes new ones.
	for _, p := range peers {
		for _, id := range ids {
			p.network.CloseConnections(id)
		}
	}
	leader = leaderOf(t, peers)
	eventually(t, func() error { return leader.Apply([]byte("after"), time.Second).Error() })
	for _, p := range peers {
		for i := range 100 {
			if got, want := <-p.fsm.applied, fmt.Sprintf("entry %d", i); got != want {
				t.Fatalf("got %q, want %q", got, want)
			}
		}
	}
	// The leader goes, the others elect another.
	if err := leader.Shutdown().Error(); err != nil {
		t.Fatal(err)
	}
	if err := leader.network.Close(); err != nil {
		t.Fatal(err)
	}
	var rest []*raftPeer
	for _, p := range peers {
		if p != leader {
			rest = append(rest, p)
		}
	}
	if leaderOf(t, rest) == leader {
		t.Fatal("the stopped one leads")
	}
}

func TestTransport(t *testing.T) {
	n := newAddresses().open(t, "a-00000001", &handler{})
	transport := n.Transport()
	if got := transport.LocalAddr(); got != "a-00000001" {
		t.Fatalf("local address %q", got)
	}
	if _, ok := transport.(raft.WithPreVote); !ok {
		t.Fatal("no pre-vote")
	}
	if _, ok := transport.(raft.WithClose); !ok {
		t.Fatal("no close")
	}
	if got := transport.DecodePeer(transport.EncodePeer("b-00000002", "b-00000002")); got != "b-00000002" {
		t.Fatalf("got %q", got)
	}
}

// A leader tries to reach a follower until it is taken out of the configuration,
// also if that one never did anything but follow.
func TestEntriesAreTriedAgainForMembers(t *testing.T) {
	var tries atomic.Int64
	enough := make(chan struct{})
	n := newAddresses().open(t, "a-00000001", &handler{}, func(c *peer.Config) {
		c.Term = func() uint64 { return 5 }
		c.Leader = func() registry.NodeID { return "a-00000001" }
		c.Refuse = func(registry.NodeID) bool { return false }
		c.Member = func(id registry.NodeID) bool {
			if tries.Add(1) == 3 {
				close(enough)
			}
			return id == "b-00000002" && tries.Load() <= 3
		}
	})
	request := &raft.AppendEntriesRequest{Term: 5, PrevLogEntry: 1, Entries: []*raft.Log{{Index: 2, Term: 5}}}
	done := make(chan error, 1)
	go func() {
		done <- n.Transport().AppendEntries("b-00000002", "b-00000002", request, &raft.AppendEntriesResponse{})
	}()
	select {
	case <-enough:
	case err := <-done:
		t.Fatalf("given up: %v", err)
	case <-time.After(10 * time.Second):
		t.Fatal("not asked whether it is a member")
	}
	if err := <-done; !errors.Is(err, peer.ErrUnreachable) || tries.Load() != 4 {
		t.Errorf("%v after %d tries", err, tries.Load())
	}
}

// TestHeartbeatsReachTheMainLoop: the fast path must stay off (hashicorp/raft #695).
func TestHeartbeatsReachTheMainLoop(t *testing.T) {
	known := newAddresses()
	b := known.open(t, "b-00000002", &handler{})
	a := known.open(t, "a-00000001", &handler{})
	b.Transport().SetHeartbeatHandler(func(raft.RPC) { t.Error("took the fast path") })
	go func() {
		rpc := <-b.Transport().Consumer()
		rpc.Respond(&raft.AppendEntriesResponse{Success: true, Term: 3}, nil)
	}()
	var resp raft.AppendEntriesResponse
	heartbeat := &raft.AppendEntriesRequest{Term: 3, RPCHeader: raft.RPCHeader{Addr: []byte("a-00000001")}}
	if err := a.Transport().AppendEntries("b-00000002", "b-00000002", heartbeat, &resp); err != nil {
		t.Fatal(err)
	}
	if !resp.Success || resp.Term != 3 {
		t.Fatalf("got %v", resp)
	}
}

func TestGuard(t *testing.T) {
	known := newAddresses()
	const own = 10
	b := known.open(t, "b-00000002", &handler{}, func(c *peer.Config) { c.Term = func() uint64 { return own } })
	a := known.open(t, "a-00000001", &handler{})
	reached := make(chan any, 10)
	go func() {
		for {
			select {
			case rpc := <-b.Transport().Consumer():
				reached <- rpc.Command
				rpc.Respond(&raft.RequestVoteResponse{Granted: true}, nil)
			case <-t.Context().Done():
				return
			}
		}
	}()
	to := a.Transport()
	const id, addr = raft.ServerID("b-00000002"), raft.ServerAddress("b-00000002")
	appendEntries := func(r *raft.AppendEntriesRequest) error {
		return to.AppendEntries(id, addr, r, &raft.AppendEntriesResponse{})
	}
	vote := func(term uint64) error {
		return to.RequestVote(id, addr, &raft.RequestVoteRequest{Term: term}, &raft.RequestVoteResponse{})
	}
	install := func(r *raft.InstallSnapshotRequest, data string) error {
		return to.InstallSnapshot(id, addr, r, &raft.InstallSnapshotResponse{}, strings.NewReader(data))
	}
	configuration := raft.EncodeConfiguration(members("a-00000001"))
	for name, err := range map[string]error{
		"R5 term of an entry":    appendEntries(&raft.AppendEntriesRequest{Term: 1<<64 - 1}),
		"R5 term of a vote":      vote(1<<64 - 1),
		"R5 term just too high":  vote(own + peer.MaxTermAhead + 1),
		"R5 term of a pre-vote":  to.(raft.WithPreVote).RequestPreVote(id, addr, &raft.RequestPreVoteRequest{Term: 1 << 63}, &raft.RequestPreVoteResponse{}),
		"R6 configuration entry": appendEntries(&raft.AppendEntriesRequest{Entries: []*raft.Log{{Type: raft.LogConfiguration, Data: []byte("\xff\xff")}}}),
		"R6 missing entry":       appendEntries(&raft.AppendEntriesRequest{Entries: []*raft.Log{nil}}),
		"R7 snapshot size -1":    install(&raft.InstallSnapshotRequest{SnapshotVersion: 1, Configuration: configuration, Size: -1}, ""),
		"R7 snapshot size 2^62":  install(&raft.InstallSnapshotRequest{SnapshotVersion: 1, Configuration: configuration, Size: 1 << 62}, ""),
		"R9 snapshot version":    install(&raft.InstallSnapshotRequest{Configuration: configuration, Size: 5}, "12345"),
		"R6 snapshot members":    install(&raft.InstallSnapshotRequest{SnapshotVersion: 1, Configuration: []byte("\xff"), Size: 5}, "12345"),
	} {
		if err == nil {
			t.Errorf("%s: let through", name)
		} else if !strings.Contains(err.Error(), "refused raft request") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(reached) != 0 {
		t.Fatalf("raft was given %v", <-reached)
	}
	if err := vote(own + peer.MaxTermAhead); err != nil {
		t.Fatal(err)
	}
	if _, ok := (<-reached).(*raft.RequestVoteRequest); !ok {
		t.Fatal("raft was given something else")
	}
}

func TestSnapshotArrivesWhole(t *testing.T) {
	known := newAddresses()
	b := known.open(t, "b-00000002", &handler{})
	a := known.open(t, "a-00000001", &handler{})
	content := bytes.Repeat([]byte("snapshot"), 1<<17)
	got := make(chan []byte, 1)
	go func() {
		rpc := <-b.Transport().Consumer()
		read, err := io.ReadAll(rpc.Reader)
		got <- read
		rpc.Respond(&raft.InstallSnapshotResponse{Success: true}, err)
	}()
	var resp raft.InstallSnapshotResponse
	err := a.Transport().InstallSnapshot("b-00000002", "b-00000002", &raft.InstallSnapshotRequest{
		SnapshotVersion: 1, Size: int64(len(content)), Configuration: raft.EncodeConfiguration(members("a-00000001")),
	}, &resp, bytes.NewReader(content))
	if err != nil || !resp.Success {
		t.Fatalf("%v, %v", resp, err)
	}
	if !bytes.Equal(<-got, content) {
		t.Fatal("content differs")
	}
}
