package peer_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/lookupd/lookupd/peer"
	"github.com/lookupd/lookupd/registry"
)

// guarded is a peer b whose raft is the test, and a peer a that sends to it.
type guarded struct {
	a, b    *peer.Network
	reached chan raft.RPC // what raft would get
}

func guard(t *testing.T, change func(*peer.Config)) *guarded {
	t.Helper()
	known := newAddresses()
	g := &guarded{reached: make(chan raft.RPC, 10)}
	g.b = known.open(t, "b-00000002", &handler{}, change)
	g.a = known.open(t, "a-00000001", &handler{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case rpc := <-g.b.Transport().Consumer():
				g.reached <- rpc
			case <-t.Context().Done():
				return
			}
		}
	}()
	t.Cleanup(func() { <-done })
	return g
}

// answers makes raft say yes to whatever reaches it.
func (g *guarded) answers(response any) {
	rpc := <-g.reached
	rpc.Respond(response, nil)
}

func (g *guarded) install(index uint64, size int64, data io.Reader) (*raft.InstallSnapshotResponse, error) {
	resp := &raft.InstallSnapshotResponse{}
	err := g.a.Transport().InstallSnapshot("b-00000002", "b-00000002", &raft.InstallSnapshotRequest{
		SnapshotVersion: 1, Configuration: raft.EncodeConfiguration(members("a-00000001")),
		LastLogIndex: index, Size: size, Term: 5,
	}, resp, data)
	return resp, err
}

// TestLateSnapshot: raft would fall back to it.
func TestLateSnapshot(t *testing.T) {
	g := guard(t, func(c *peer.Config) {
		c.Term = func() uint64 { return 7 }
		c.Applied = func() uint64 { return 100 }
	})
	const size = 1 << 20
	content := strings.Repeat("x", size)
	resp, err := g.install(99, size, strings.NewReader(content))
	if err != nil || !resp.Success || resp.Term != 7 {
		t.Fatalf("got %v, %v", resp, err)
	}
	if len(g.reached) != 0 {
		t.Fatal("raft was given a snapshot that the state is past")
	}
	go g.answers(&raft.InstallSnapshotResponse{Success: true, Term: 5})
	if resp, err := g.install(100, 0, strings.NewReader("")); err != nil || resp.Term != 5 {
		t.Fatalf("one that is not late: %v, %v", resp, err)
	}
}

// TestSnapshotOvertakenOnItsWay: entries were committed between the check and
// the moment that raft reads.
func TestSnapshotOvertakenOnItsWay(t *testing.T) {
	var applied atomic.Uint64
	g := guard(t, func(c *peer.Config) { c.Applied = applied.Load })
	installed := make(chan error, 1)
	go func() {
		_, err := g.install(60, 4, strings.NewReader("1234"))
		installed <- err
	}()
	rpc := <-g.reached
	applied.Store(61)
	if read, err := io.ReadAll(rpc.Reader); err == nil {
		t.Fatalf("raft could read %q", read)
	}
	if err := <-installed; err == nil {
		t.Fatal("its sender was not told")
	}
}

// TestSnapshotThatStops: neither raft's main loop nor what drains a late one
// waits for ever.
func TestSnapshotThatStops(t *testing.T) {
	for name, applied := range map[string]uint64{"installed": 1, "late": 100} {
		t.Run(name, func(t *testing.T) {
			g := guard(t, func(c *peer.Config) {
				c.RaftTimeout = 200 * time.Millisecond
				c.Applied = func() uint64 { return applied }
			})
			never, end := io.Pipe()
			sent := make(chan error, 1)
			go func() {
				_, err := g.install(60, 1<<20, never)
				sent <- err
			}()
			begin := time.Now()
			if applied < 60 {
				rpc := <-g.reached
				if _, err := io.ReadAll(rpc.Reader); err == nil {
					t.Error("no error")
				}
				rpc.Respond(nil, errors.New("short"))
			}
			eventually(t, func() error {
				if open := g.b.Connections(); len(open) != 0 {
					return fmt.Errorf("%d connections are open", len(open))
				}
				return nil
			})
			if took := time.Since(begin); took > soon/2 {
				t.Errorf("took %v", took)
			}
			_ = end.Close()
			<-sent
		})
	}
}

func TestSnapshotSize(t *testing.T) {
	for name, c := range map[string]struct{ state, most int64 }{
		"R7 small state": {1 << 20, peer.DefaultLimits().SnapshotBytes},
		"R7 large state": {1 << 30, 4 << 30},
	} {
		t.Run(name, func(t *testing.T) {
			g := guard(t, func(cfg *peer.Config) { cfg.StateSize = func() int64 { return c.state } })
			if _, err := g.install(1, c.most+1, strings.NewReader("")); err == nil || !strings.Contains(err.Error(), "refused") {
				t.Fatalf("above the limit: %v", err)
			}
			go g.answers(&raft.InstallSnapshotResponse{Success: true})
			if resp, err := g.install(1, c.most, strings.NewReader("")); err != nil || !resp.Success {
				t.Fatalf("at the limit: %v, %v", resp, err)
			}
		})
	}
}

func electionAtOnce(t *testing.T) {
	var leader atomic.Value
	leader.Store(registry.NodeID(""))
	g := guard(t, func(c *peer.Config) { c.Leader = func() registry.NodeID { return leader.Load().(registry.NodeID) } })
	ask := func(as string) error {
		return g.a.Transport().TimeoutNow("b-00000002", "b-00000002",
			&raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ID: []byte(as), Addr: []byte(as)}}, &raft.TimeoutNowResponse{})
	}
	refused := func(as string) {
		t.Helper()
		if err := ask(as); err == nil || !strings.Contains(err.Error(), "refused") {
			t.Fatalf("got %v", err)
		}
	}
	refused("a-00000001") // there is no leader
	leader.Store(registry.NodeID("c-00000003"))
	refused("a-00000001")
	refused("c-00000003") // what a request says of its sender is not proven
	refused("")
	leader.Store(registry.NodeID("a-00000001"))
	refused("c-00000003")
	if len(g.reached) != 0 {
		t.Fatal("raft was asked for an election")
	}
	go g.answers(&raft.TimeoutNowResponse{})
	if err := ask("a-00000001"); err != nil {
		t.Fatal(err)
	}
}

func damagedEntry(t *testing.T) {
	g := guard(t, func(c *peer.Config) {
		c.CheckEntry = func(l *raft.Log) error {
			if string(l.Data) == "damaged" {
				return errors.New("wrong checksum")
			}
			return nil
		}
	})
	appendEntries := func(data ...string) error {
		r := &raft.AppendEntriesRequest{}
		for i, d := range data {
			r.Entries = append(r.Entries, &raft.Log{Index: uint64(i), Data: []byte(d)})
		}
		return g.a.Transport().AppendEntries("b-00000002", "b-00000002", r, &raft.AppendEntriesResponse{})
	}
	if err := appendEntries("whole", "damaged"); err == nil || !strings.Contains(err.Error(), "wrong checksum") {
		t.Fatalf("got %v", err)
	}
	if len(g.reached) != 0 {
		t.Fatal("raft was given a damaged entry")
	}
	go g.answers(&raft.AppendEntriesResponse{Success: true})
	if err := appendEntries("whole", "whole"); err != nil {
		t.Fatal(err)
	}
}

// TestDisconnectBeforeShutdown: a follower that accepts and never answers holds
// raft's requests for as long as their deadline.
func TestDisconnectBeforeShutdown(t *testing.T) {
	known := newAddresses()
	addr, shaken := shakesHands(t)
	known.set("b-00000002", addr)
	ids := []registry.NodeID{"a-00000001", "b-00000002", "c-00000003"}
	peers := []*raftPeer{known.raft(t, ids[0], members(ids...)), known.raft(t, ids[2], members(ids...))}
	leader := leaderOf(t, peers)
	eventually(t, func() error { return leader.Apply([]byte("x"), time.Second).Error() })
	<-shaken
	begin := time.Now()
	for range 2 {
		if err := leader.network.Disconnect(); err != nil {
			t.Fatal(err)
		}
	}
	if err := leader.Shutdown().Error(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took > time.Second {
		t.Fatalf("took %v", took)
	}
	if open := leader.network.Connections(); len(open) != 0 {
		t.Fatalf("%d connections are open", len(open))
	}
	if _, err := forward(within(t, soon), leader.network, "c-00000003", "x"); !errors.Is(err, peer.ErrUnreachable) {
		t.Fatalf("a call: %v", err)
	}
	if err := leader.network.Close(); err != nil {
		t.Fatal(err)
	}
}
