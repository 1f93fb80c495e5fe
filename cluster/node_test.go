package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
)

func TestMain(m *testing.M) {
	// memberlist's Shutdown does not wait for a probe under way, which ends by
	// its own time-out.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).probeNode"))
}

func TestAlonePeerFoundsItsCluster(t *testing.T) {
	p := startPeer(t, "solo", nil)
	p.waitReady()
	results, index := p.propose(registry.CreateTopic{Topic: "orders"})
	if results[0] != registry.ResultChanged || index == 0 {
		t.Fatalf("results %v at %d", results, index)
	}
	topics, info := p.topics()
	if !slices.Equal(topics, []string{"orders"}) || info.Index < index || info.Leader != "solo" {
		t.Fatalf("topics %v, %+v", topics, info)
	}
	id, epoch, clusterID := p.ID(), p.Epoch(), p.ClusterID()
	p.stop()
	p.start()
	p.waitReady()
	if at, ok := p.ReadyAt(); !ok || at <= index {
		t.Errorf("ready at %d, %v: the log that it applied again ends above %d", at, ok, index)
	}
	if p.ID() != id || p.Epoch() != epoch+1 || p.ClusterID() != clusterID {
		t.Fatalf("after a restart: %s epoch %d cluster %s", p.ID(), p.Epoch(), p.ClusterID())
	}
	if topics, _ := p.topics(); !slices.Equal(topics, []string{"orders"}) {
		t.Fatalf("after a restart: topics %v", topics)
	}
}

// Every write answered by any peer is in every read that begins later, on any
// other peer.
func TestReadsSeeWritesOfEveryPeer(t *testing.T) {
	peers := startCluster(t, 3)
	for i := range 60 {
		writer, reader := peers[i%3], peers[(i+1+i/3%2)%3]
		topic := fmt.Sprintf("topic-%02d", i)
		_, index := writer.propose(registry.CreateTopic{Topic: topic})
		topics, info := reader.topics()
		if !slices.Contains(topics, topic) {
			t.Fatalf("%s answered %s, %s does not show it", writer.cfg.Name, topic, reader.cfg.Name)
		}
		if info.Index < index {
			t.Fatalf("read at index %d, the write was at %d", info.Index, index)
		}
	}
}

func TestConcurrentWritesAreAppliedOnceInOrder(t *testing.T) {
	peers := startCluster(t, 3)
	var all sync.WaitGroup
	for _, p := range peers {
		for w := range 8 {
			all.Go(func() {
				for i := range 20 {
					results, _ := p.propose(registry.CreateTopic{Topic: fmt.Sprintf("%s-%d-%d", p.cfg.Name, w, i)})
					if results[0] != registry.ResultChanged {
						t.Errorf("created twice: %v", results)
					}
				}
			})
		}
	}
	all.Wait()
	if topics, _ := peers[0].topics(); len(topics) != 3*8*20 {
		t.Fatalf("%d topics", len(topics))
	}
	sameHash(t, peers)
}

// sameHash waits until all peers have applied as much and compares their states.
func sameHash(t *testing.T, peers []*testPeer) {
	t.Helper()
	eventually(t, 20*time.Second, "equal states", func() error {
		var seen []string
		for _, p := range peers {
			s := p.status()
			seen = append(seen, fmt.Sprintf("%d %s", s.Index, s.StateHash))
		}
		if len(slices.Compact(slices.Clone(seen))) != 1 {
			return errors.New(strings.Join(seen, ", "))
		}
		return nil
	})
}

func TestLeaderStopsWhileOthersWrite(t *testing.T) {
	peers := startCluster(t, 3)
	leader, followers := leaderOf(t, peers)
	var all sync.WaitGroup
	for _, p := range followers {
		all.Go(func() {
			for i := range 50 {
				results, _ := p.propose(registry.CreateTopic{Topic: fmt.Sprintf("%s-%d", p.cfg.Name, i)})
				if results[0] != registry.ResultChanged {
					t.Errorf("%s-%d: created twice: %v", p.cfg.Name, i, results)
				}
			}
		})
	}
	leader.stop()
	all.Wait()
	if topics, _ := followers[0].topics(); len(topics) != 100 {
		t.Fatalf("%d topics", len(topics))
	}
	sameHash(t, followers)
}

func TestHandOverKeepsServing(t *testing.T) {
	peers := startCluster(t, 3)
	leader, followers := leaderOf(t, peers)
	leader.HandOver(t.Context())
	eventually(t, 10*time.Second, "another leader", func() error {
		if name := followers[0].Leader(); name == "" || name == leader.cfg.Name {
			return fmt.Errorf("leader %q", name)
		}
		return nil
	})
	leader.propose(registry.CreateTopic{Topic: "after"})
}

// Without a quorum nothing is read or written, and what was given up without
// being sent is not done later.
func TestNoQuorum(t *testing.T) {
	peers := startCluster(t, 3)
	peers[0].propose(registry.CreateTopic{Topic: "before"})
	peers[0].topics()
	left := peers[2]
	left.topics()
	peers[0].stop()
	peers[1].stop()
	eventually(t, 30*time.Second, "the leader is gone", func() error {
		if left.HasLeader() {
			return errors.New(left.Leader())
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	if _, err := left.ReadBarrier(ctx); !errors.Is(err, cluster.ErrNoQuorum) {
		t.Errorf("read: %v", err)
	}
	ctx, cancel = context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	if _, _, err := left.Propose(ctx, registry.CreateTopic{Topic: "given-up"}); !errors.Is(err, cluster.ErrNoQuorum) {
		t.Errorf("propose: %v", err)
	}
	submitted, err := left.Submit(context.Background(), registry.CreateTopic{Topic: "kept"})
	if err != nil {
		t.Fatal(err)
	}
	var topics []string
	info, err := left.Read(context.Background(), cluster.Stale, func(v *store.View) error {
		topics = v.Topics()
		return nil
	})
	if err != nil || !info.Stale || info.StaleFor <= 0 || !slices.Equal(topics, []string{"before"}) {
		t.Errorf("stale read: %v %+v %v", topics, info, err)
	}
	if s := left.status(); s.State != cluster.StateNoQuorum || s.Leader != "" {
		t.Errorf("status: %s", s.Sentence)
	}

	peers[0].cfg.Join = []string{left.GossipAddr()}
	peers[0].start()
	select {
	case <-submitted.Done():
	case <-time.After(30 * time.Second):
		t.Fatal("what was submitted is not committed after the quorum is back")
	}
	if results, _, err := submitted.Result(); err != nil || results[0] != registry.ResultChanged {
		t.Fatalf("submitted: %v %v", results, err)
	}
	if topics, _ := left.topics(); !slices.Equal(topics, []string{"before", "kept"}) {
		t.Fatalf("topics %v", topics)
	}
}

// All peers stop and come back on other ports: node ids are what raft knows.
func TestAllPeersMove(t *testing.T) {
	peers := startCluster(t, 3)
	peers[0].propose(registry.CreateTopic{Topic: "kept"})
	for _, p := range peers {
		p.stop()
	}
	for i, p := range peers { // port 0: other ports than before
		if i > 0 {
			p.cfg.Join = []string{peers[0].GossipAddr()}
		}
		p.start()
	}
	for _, p := range peers {
		p.waitReady()
		if topics, _ := p.topics(); !slices.Equal(topics, []string{"kept"}) {
			t.Fatalf("%s: topics %v", p.cfg.Name, topics)
		}
	}
}

// A peer that lost its disk comes back under its name with a new id, which
// replaces the dead one.
func TestWipedPeerReplacesItsOldID(t *testing.T) {
	peers := startCluster(t, 3)
	_, followers := leaderOf(t, peers)
	lost := followers[0]
	others := slices.DeleteFunc(slices.Clone(peers), func(p *testPeer) bool { return p == lost })
	others[0].propose(registry.CreateTopic{Topic: "kept"})
	old := lost.ID()
	lost.stop()
	if err := os.RemoveAll(lost.path); err != nil {
		t.Fatal(err)
	}
	lost.cfg.Join, lost.cfg.BootstrapExpect = []string{others[0].GossipAddr(), others[1].GossipAddr()}, 0
	lost.start()
	lost.waitReady()
	if lost.ID() == old {
		t.Fatalf("the id %s came back without its disk", old)
	}
	if topics, _ := lost.topics(); !slices.Equal(topics, []string{"kept"}) {
		t.Fatalf("topics %v", topics)
	}
	for _, p := range lost.status().Peers {
		if p.ID == old {
			t.Errorf("%s is still in the configuration", old)
		}
	}
	eventually(t, 60*time.Second, "the new id votes", func() error {
		for _, p := range lost.status().Peers {
			if p.ID == lost.ID() && p.Role != cluster.RoleNonVoter {
				return nil
			}
		}
		return errors.New(lost.status().Sentence)
	})
}

// A batch is applied once, though the leader changes again and again.
func TestLeaderChangesUnderLoad(t *testing.T) {
	peers := startCluster(t, 3)
	stop := make(chan struct{})
	var all sync.WaitGroup
	var written sync.Map
	for _, p := range peers {
		all.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				topic := fmt.Sprintf("%s-%d", p.cfg.Name, i)
				if results, _ := p.propose(registry.CreateTopic{Topic: topic}); results[0] != registry.ResultChanged {
					t.Errorf("%s: created twice", topic)
				}
				written.Store(topic, true)
			}
		})
	}
	for range 5 {
		leader, _ := leaderOf(t, peers)
		leader.HandOver(t.Context())
	}
	close(stop)
	all.Wait()
	topics, _ := peers[1].topics()
	have := map[string]bool{}
	for _, topic := range topics {
		have[topic] = true
	}
	written.Range(func(topic, _ any) bool {
		if !have[topic.(string)] {
			t.Errorf("%s was acknowledged and is not there", topic)
		}
		return true
	})
	sameHash(t, peers)
}

func TestTombstonesEndByTheLeadersClock(t *testing.T) {
	p := startPeer(t, "solo", func(c *cluster.Config) { c.TombstoneLifetime = 50 * time.Millisecond })
	p.waitReady()
	info := registry.ProducerInfo{BroadcastAddress: "h", TCPPort: 4150, HTTPPort: 4151, Version: "1.3.0"}
	id := registry.SessionID{Node: p.ID(), Epoch: p.Epoch(), Seq: 1}
	p.propose(registry.OpenSession{Session: id, Producer: info}, registry.Register{Session: id, Producer: info.ID(), Topic: "t"})
	p.propose(registry.Tombstone{Topic: "t", Node: "h:4151"})
	eventually(t, 10*time.Second, "the producer shows again", func() error {
		return p.View(func(v *store.View) error {
			if topic, _ := v.Topic("t"); len(topic.Producers) != 1 {
				return fmt.Errorf("%d producers, tombstones %v", len(topic.Producers), v.Tombstones())
			}
			return nil
		})
	})
}

// The process ends between raft's two bootstrap writes, or before the first: the
// founder finishes at its next start.
func TestFoundingIsFinishedAfterACrash(t *testing.T) {
	for name, term := range map[string]uint64{"before raft's first write": 0, "between raft's writes": 1} {
		t.Run(name, func(t *testing.T) {
			path := t.TempDir() + "/solo"
			dir, err := store.OpenDir(path)
			if err != nil {
				t.Fatal(err)
			}
			log, err := dir.OpenLog(store.LogConfig{OnFatal: func(err error) { t.Error(err) }})
			if err != nil {
				t.Fatal(err)
			}
			id, err := store.NewIdentity("solo")
			if err != nil {
				t.Fatal(err)
			}
			id.ClusterID, id.Founders = "c1", []registry.NodeID{id.NodeID}
			if _, err := dir.NextEpoch(id, log); err != nil {
				t.Fatal(err)
			}
			if term > 0 {
				if err := log.SetUint64([]byte("CurrentTerm"), term); err != nil {
					t.Fatal(err)
				}
			}
			if err := errors.Join(log.Close(), dir.Close()); err != nil {
				t.Fatal(err)
			}
			p := newTestPeer(t, "solo", path)
			p.start()
			p.waitReady()
			p.propose(registry.CreateTopic{Topic: "t"})
			if p.ID() != id.NodeID || p.ClusterID() != "c1" {
				t.Errorf("%s of %s", p.ID(), p.ClusterID())
			}
		})
	}
}
