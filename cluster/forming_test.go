package cluster_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lookupd/lookupd/cluster"
)

// wait polls until a peer's status says so; the peer must have no cluster.
func (p *testPeer) waitsFor(say string) {
	p.t.Helper()
	eventually(p.t, 20*time.Second, p.cfg.Name+" waits", func() error {
		if s := p.status(); p.ClusterID() != "" || !strings.Contains(s.Sentence, say) {
			return errors.New(p.ClusterID() + s.Sentence)
		}
		return nil
	})
}

// TestFreshPeersThatDoNotFit: no cluster comes into being, and what is wrong is
// named, until it is put right.
func TestFreshPeersThatDoNotFit(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*cluster.Config, *testPeer) // of the second peer
		say    string
	}{
		"C7 too few": {
			func(c *cluster.Config, a *testPeer) { c.BootstrapExpect = 3 }, "have 2 of 3 peers: a, b",
		},
		"C7 unequal numbers": {
			func(c *cluster.Config, a *testPeer) { c.BootstrapExpect = 5 }, "have 1 of 3 peers: a; b has -bootstrap-expect=5",
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := startPeer(t, "a", func(c *cluster.Config) { c.BootstrapExpect = 3 })
			b := startPeer(t, "b", func(c *cluster.Config) {
				c.Join = []string{a.GossipAddr()}
				test.change(c, a)
			})
			a.waitsFor(test.say)
			if b.cfg.BootstrapExpect != 3 {
				b.stop()
				b.cfg.BootstrapExpect = 3
				b.start()
			}
			c := startPeer(t, "c", func(c *cluster.Config) { c.BootstrapExpect, c.Join = 3, []string{a.GossipAddr()} })
			for _, p := range []*testPeer{a, b, c} {
				p.waitReady()
			}
			if a.ClusterID() == "" || a.ClusterID() != b.ClusterID() || a.ClusterID() != c.ClusterID() {
				t.Fatalf("cluster ids %q %q %q", a.ClusterID(), b.ClusterID(), c.ClusterID())
			}
		})
	}
}

// TestFreshPeersTakenForEachOther: two peers cannot found a cluster.
func TestFreshPeersTakenForEachOther(t *testing.T) {
	for name, test := range map[string]struct {
		name   string // of the second peer
		change func(*cluster.Config, *testPeer)
		say    string
	}{
		"C6 duplicate names": {"a", func(*cluster.Config, *testPeer) {}, "two peers are named a"},
		"C6 duplicate addresses": {
			"b", func(c *cluster.Config, a *testPeer) { c.PeerAdvertise = a.PeerAddr() }, "does not agree",
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := startPeer(t, "a", func(c *cluster.Config) { c.BootstrapExpect = 2 })
			b := startPeer(t, test.name, func(c *cluster.Config) {
				c.BootstrapExpect, c.Join = 2, []string{a.GossipAddr()}
				test.change(c, a)
			})
			founder := a // the one of lower id
			if b.ID() < a.ID() {
				founder = b
			}
			founder.waitsFor(test.say)
			if a.ClusterID() != "" || b.ClusterID() != "" {
				t.Errorf("clusters %q and %q", a.ClusterID(), b.ClusterID())
			}
		})
	}
}

// TestStateIsStrongerThanSettings: a peer of a cluster founds no other one.
func TestStateIsStrongerThanSettings(t *testing.T) {
	t.Run("C7 bootstrap-expect with state", func(t *testing.T) {
		var log lockedBuffer
		p := startPeer(t, "a", nil)
		p.waitReady()
		was := p.ClusterID()
		p.stop()
		p.cfg.BootstrapExpect, p.cfg.Logger = 3, slog.New(slog.NewTextHandler(&log, nil))
		p.start()
		p.waitReady()
		if p.ClusterID() != was {
			t.Errorf("cluster %s became %s", was, p.ClusterID())
		}
		if !strings.Contains(log.String(), "-bootstrap-expect has no effect") {
			t.Error("it is not noted")
		}
	})
}

// lockedBuffer is a log that a test reads while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
