package cluster_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
)

// openSession opens a session that offers topic through p.
func openSession(p *testPeer, seq uint64, host, topic string) registry.ProducerInfo {
	p.t.Helper()
	info := registry.ProducerInfo{BroadcastAddress: host, TCPPort: 4150, HTTPPort: 4151, Version: "1.3.0"}
	session := registry.SessionID{Node: p.ID(), Epoch: p.Epoch(), Seq: seq}
	p.propose(registry.OpenSession{Session: session, Producer: info},
		registry.Register{Session: session, Producer: info.ID(), Topic: topic})
	return info
}

func (p *testPeer) producers(topic string) (n int) {
	p.t.Helper()
	err := p.View(func(v *store.View) error {
		t, _ := v.Topic(topic)
		n = len(t.Producers)
		return nil
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return n
}

// A lost peer's sessions stay, and end when the timeout has passed. A new leader
// counts anew.
func TestSessionsOfALostPeerEnd(t *testing.T) {
	peers := startCluster(t, 3, func(c *cluster.Config) { c.InactiveTimeout = 3 * time.Second })
	leader, followers := leaderOf(t, peers)
	lost, next := followers[0], followers[1]
	openSession(lost, 1, "through-lost", "t")
	openSession(next, 1, "through-next", "t")
	lost.stop()
	began := time.Now()
	eventually(t, 10*time.Second, "the leader counts", func() error {
		for _, g := range leader.Orphans(t.Context()) {
			if g.Peer == lost.ID() && g.Epoch == 0 {
				return nil
			}
		}
		return errors.New("no orphans yet")
	})
	leader.HandOver(t.Context()) // the next one begins at the whole timeout again
	moved := time.Now()
	eventually(t, 30*time.Second, "the session ended", func() error {
		n := next.producers("t")
		if n == 2 && time.Since(moved) > 0 {
			return errors.New("both show")
		}
		if n != 1 {
			t.Fatalf("%d producers", n)
		}
		return nil
	})
	if took := time.Since(moved); took < 3*time.Second {
		t.Errorf("ended %s after the change of leader, %s after the loss", took, time.Since(began))
	}
}

// A peer that is back has 45 s (here 5) for its nsqds to reconnect; then what
// its earlier start left goes, and what they declared again stays.
func TestSessionsOfAnEarlierStartEnd(t *testing.T) {
	peers := startCluster(t, 3, func(c *cluster.Config) { c.ReturnGrace = 5 * time.Second })
	_, followers := leaderOf(t, peers)
	back := followers[0]
	openSession(back, 1, "stays-away", "t")
	openSession(back, 2, "reconnects", "t")
	back.stop()
	back.cfg.Join = []string{peers[0].GossipAddr(), peers[1].GossipAddr(), peers[2].GossipAddr()}
	back.start()
	back.waitReady()
	if n := back.producers("t"); n != 2 {
		t.Fatalf("%d producers right after the restart", n)
	}
	openSession(back, 1, "reconnects", "t")
	eventually(t, 30*time.Second, "the old session ended", func() error {
		if n := back.producers("t"); n != 1 {
			return fmt.Errorf("%d producers", n)
		}
		return nil
	})
	back.propose(registry.CreateTopic{Topic: "u"})
	if n := back.producers("t"); n != 1 {
		t.Fatalf("%d producers at the end", n)
	}
}
