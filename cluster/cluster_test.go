package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
)

// testPeer is one Node on loopback that can be stopped and started again on its
// data directory.
type testPeer struct {
	*cluster.Node
	t    testing.TB
	cfg  cluster.Config
	path string
	dir  *store.Dir
}

// startPeer starts a peer with fresh data; change may set what differs.
func startPeer(t testing.TB, name string, change func(*cluster.Config)) *testPeer {
	t.Helper()
	p := newTestPeer(t, name, t.TempDir()+"/"+name)
	if change != nil {
		change(&p.cfg)
	}
	p.start()
	return p
}

func newTestPeer(t testing.TB, name, path string) *testPeer {
	p := &testPeer{t: t, path: path, cfg: cluster.Config{
		Name: name, Version: "0.0.0-test",
		PeerAddress: "127.0.0.1:0", GossipAddress: "127.0.0.1:0",
		TombstoneLifetime: time.Hour, InactiveTimeout: time.Hour, RaftTimeScale: raftTimeScale,
		Logger: testLogger(t, name),
	}}
	p.cfg.OnFatal = func(err error) { t.Errorf("%s: fatal: %v", name, err) }
	t.Cleanup(p.stop)
	return p
}

func testLogger(t testing.TB, name string) *slog.Logger {
	if os.Getenv("LOOKUPD_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})).With("peer", name)
}

func (p *testPeer) start() {
	p.t.Helper()
	dir, err := store.OpenDir(p.path)
	if err != nil {
		p.t.Fatal(err)
	}
	p.cfg.Dir, p.dir = dir, dir
	p.Node = cluster.New(p.cfg)
	if err := p.Open(); err != nil {
		p.t.Fatalf("%s: %v", p.cfg.Name, err)
	}
}

func (p *testPeer) stop() {
	if p.dir == nil {
		return
	}
	if err := p.Close(); err != nil {
		p.t.Errorf("close %s: %v", p.cfg.Name, err)
	}
	if err := p.dir.Close(); err != nil {
		p.t.Errorf("close directory of %s: %v", p.cfg.Name, err)
	}
	p.dir = nil
}

// startCluster starts peers that form one cluster, and waits until all are ready.
func startCluster(t testing.TB, size int, change ...func(*cluster.Config)) []*testPeer {
	t.Helper()
	var peers []*testPeer
	for i := range size {
		peers = append(peers, startPeer(t, fmt.Sprint("p", i+1), func(c *cluster.Config) {
			c.BootstrapExpect = size
			if i > 0 {
				c.Join = []string{peers[0].GossipAddr()}
			}
			for _, f := range change {
				f(c)
			}
		}))
	}
	for _, p := range peers {
		p.waitReady()
	}
	return peers
}

// eventually polls until check returns nil.
func eventually(t testing.TB, within time.Duration, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %v", what, within, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (p *testPeer) waitReady() {
	p.t.Helper()
	eventually(p.t, 30*time.Second, p.cfg.Name+" is ready", p.Ready)
}

func leaderOf(t testing.TB, peers []*testPeer) (leader *testPeer, followers []*testPeer) {
	t.Helper()
	eventually(t, 30*time.Second, "all agree on a leader", func() error {
		leader, followers = nil, nil
		for _, p := range peers {
			if name := p.Leader(); name == "" || name != peers[0].Leader() {
				return fmt.Errorf("%s: leader %q, %s: %q", p.cfg.Name, name, peers[0].cfg.Name, peers[0].Leader())
			}
			if p.Leader() == p.cfg.Name {
				leader = p
			} else {
				followers = append(followers, p)
			}
		}
		if leader == nil {
			return errors.New("the leader is none of these")
		}
		return nil
	})
	return leader, followers
}

func (p *testPeer) propose(commands ...registry.Command) ([]registry.Result, uint64) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	results, index, err := p.Propose(ctx, commands...)
	if err != nil {
		p.t.Fatalf("%s: propose: %v", p.cfg.Name, err)
	}
	return results, index
}

func (p *testPeer) topics() (topics []string, info cluster.ReadInfo) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	info, err := p.Read(ctx, cluster.Linearizable, func(v *store.View) error {
		topics = v.Topics()
		return nil
	})
	if err != nil {
		p.t.Fatalf("%s: read: %v", p.cfg.Name, err)
	}
	return topics, info
}

func (p *testPeer) status() cluster.Status {
	p.t.Helper()
	s, err := p.Status(context.Background())
	if err != nil {
		p.t.Fatal(err)
	}
	return s
}
