package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
)

// asked bounds a request of these tests: far more than one takes.
func asked(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// endings takes why peers end, where the removal of one is what they end by.
type endings chan error

func (e endings) expect(c *cluster.Config) {
	c.OnFatal = func(err error) { e <- err }
}

// wait returns when a peer has ended.
func (e endings) wait(t *testing.T) {
	t.Helper()
	select {
	case err := <-e:
		if !errors.Is(err, cluster.ErrRemoved) || !errors.Is(err, store.ErrRefused) {
			t.Fatalf("a peer ends with %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the removed peer runs on")
	}
}

func roles(p *testPeer) map[string]cluster.Role {
	p.t.Helper()
	all := map[string]cluster.Role{}
	for _, peer := range p.status().Peers {
		all[peer.Name] = peer.Role
	}
	return all
}

func TestRemoveALivePeer(t *testing.T) {
	ended := make(endings, 8)
	peers := startCluster(t, 3, ended.expect)
	leader, followers := leaderOf(t, peers)
	gone, stays := followers[0], followers[1]
	gone.propose(registry.CreateTopic{Topic: "through-it"})

	dry, err := stays.RemovePeer(asked(t), gone.cfg.Name, cluster.RemoveHow{DryRun: true})
	if err != nil || dry.Sentence != "voters 3 -> 2, can lose 1 -> 0" || !dry.DryRun || dry.Index != 0 || !dry.HasQuorum {
		t.Fatalf("%+v %v", dry, err)
	}
	if all := roles(stays); len(all) != 3 || all[gone.cfg.Name] != cluster.RoleVoter {
		t.Fatalf("after a dry run: %v", all)
	}
	// Asked of a follower, by id.
	removal, err := stays.RemovePeer(asked(t), string(gone.ID()), cluster.RemoveHow{})
	if err != nil || removal.Sentence != dry.Sentence || removal.Index == 0 || removal.HandedOverTo != "" {
		t.Fatalf("%+v %v", removal, err)
	}
	ended.wait(t)
	gone.stop()
	for _, p := range []*testPeer{leader, stays} {
		if role, there := roles(p)[gone.cfg.Name]; there && role != cluster.RoleJoining {
			t.Errorf("%s still has it as %s", p.cfg.Name, role)
		}
	}
	stays.propose(registry.CreateTopic{Topic: "after"})
	if topics, _ := leader.topics(); !slices.Equal(topics, []string{"after", "through-it"}) {
		t.Errorf("topics %v", topics)
	}
	if _, err := stays.RemovePeer(asked(t), gone.cfg.Name, cluster.RemoveHow{}); !errors.Is(err, cluster.ErrUnknownPeer) {
		t.Errorf("a second removal: %v", err)
	}

	// Started again on its data it must neither serve nor stay.
	gone.cfg.Join = []string{leader.GossipAddr()}
	gone.start()
	ended.wait(t)
	if err := gone.Ready(); !errors.Is(err, cluster.ErrNotReady) {
		t.Errorf("a removed peer is ready: %v", err)
	}
}

func TestRemoveADeadPeerAndWhatTheQuorumForbids(t *testing.T) {
	peers := startCluster(t, 3)
	leader, followers := leaderOf(t, peers)
	dead, other := followers[0], followers[1]
	dead.stop()
	// The other one is needed now.
	removal, err := leader.RemovePeer(asked(t), other.cfg.Name, cluster.RemoveHow{})
	if !errors.Is(err, cluster.ErrWouldLoseQuorum) || removal.HasQuorum || removal.After != (cluster.Voters{Voters: 2, Up: 1}) {
		t.Fatalf("%+v %v", removal, err)
	}
	// A dry run that is forced says what would be.
	removal, err = leader.RemovePeer(asked(t), other.cfg.Name, cluster.RemoveHow{DryRun: true, Force: true})
	if err != nil || removal.HasQuorum || removal.Sentence != "voters 3 -> 2, of which 1 up: no quorum" {
		t.Fatalf("%+v %v", removal, err)
	}
	if !leader.IsMember(dead.ID()) {
		t.Error("the dead peer is no member before it was removed")
	}
	removal, err = other.RemovePeer(asked(t), dead.cfg.Name, cluster.RemoveHow{})
	if err != nil || removal.Sentence != "voters 3 -> 2, can lose 0 -> 0" {
		t.Fatalf("%+v %v", removal, err)
	}
	if leader.IsMember(dead.ID()) || !leader.IsMember(other.ID()) {
		t.Error("the leader still tries to reach the removed peer, or not the other")
	}
	// Were it 0, raft would compare nothing.
	if next := leader.ConfigurationIndex(); next != removal.Index {
		t.Errorf("the next change is meant for configuration %d, the latest is %d", next, removal.Index)
	}
	other.propose(registry.CreateTopic{Topic: "after"})
	if _, err := leader.RemovePeer(asked(t), "nobody", cluster.RemoveHow{}); !errors.Is(err, cluster.ErrUnknownPeer) {
		t.Errorf("nobody: %v", err)
	}
}

// TestRemoveTheLeader: it hands over first, so the cluster is never without one
// that may decide.
func TestRemoveTheLeader(t *testing.T) {
	ended := make(endings, 8)
	peers := startCluster(t, 3, ended.expect)
	leader, followers := leaderOf(t, peers)
	removal, err := leader.RemovePeer(asked(t), leader.cfg.Name, cluster.RemoveHow{})
	if err != nil || removal.HandedOverTo == "" || removal.HandedOverTo == leader.cfg.Name || removal.Sentence != "voters 3 -> 2, can lose 1 -> 0" {
		t.Fatalf("%+v %v", removal, err)
	}
	ended.wait(t)
	leader.stop()
	left, _ := leaderOf(t, followers)
	left.propose(registry.CreateTopic{Topic: "after"})
}

func TestTheLastVoterStays(t *testing.T) {
	p := startPeer(t, "solo", nil)
	p.waitReady()
	for _, force := range []bool{false, true} {
		if _, err := p.RemovePeer(asked(t), "solo", cluster.RemoveHow{Force: force}); !errors.Is(err, cluster.ErrLastVoter) {
			t.Errorf("force %v: %v", force, err)
		}
	}
	for _, dryRun := range []bool{true, false} {
		if _, err := p.TransferLeadership(asked(t), cluster.TransferHow{DryRun: dryRun}); !errors.Is(err, cluster.ErrNoSuccessor) {
			t.Errorf("transfer, dry run %v: %v", dryRun, err)
		}
	}
	p.propose(registry.CreateTopic{Topic: "after"})
}

func TestTransferLeadership(t *testing.T) {
	peers := startCluster(t, 3)
	leader, followers := leaderOf(t, peers)
	to, via := followers[0], followers[1]
	foresees(t, via, leader.cfg.Name, to.cfg.Name)
	transfer, err := via.TransferLeadership(asked(t), cluster.TransferHow{To: to.cfg.Name})
	if err != nil || transfer.Old != leader.cfg.Name || transfer.New != to.cfg.Name {
		t.Fatalf("%+v %v", transfer, err)
	}
	if want := fmt.Sprintf("leader %s -> %s, writes paused ", transfer.Old, transfer.New); !startsWith(transfer.Sentence, want) {
		t.Errorf("%q", transfer.Sentence)
	}
	to.propose(registry.CreateTopic{Topic: "after"}) // it serves, without a wait for it
	if again, err := via.TransferLeadership(asked(t), cluster.TransferHow{To: to.cfg.Name}); err != nil || again.New != to.cfg.Name || again.PauseMS != 0 {
		t.Errorf("to the leader itself: %+v %v", again, err)
	}
	// To whoever is fit: not to the one that is down.
	via.stop()
	transfer, err = leader.TransferLeadership(asked(t), cluster.TransferHow{})
	if err != nil || transfer.New != leader.cfg.Name {
		t.Errorf("%+v %v", transfer, err)
	}
	for _, dryRun := range []bool{true, false} {
		if _, err := leader.TransferLeadership(asked(t), cluster.TransferHow{To: via.cfg.Name, DryRun: dryRun}); !errors.Is(err, cluster.ErrPeerDown) {
			t.Errorf("to a peer that is down, dry run %v: %v", dryRun, err)
		}
		if _, err := leader.TransferLeadership(asked(t), cluster.TransferHow{To: "nobody", DryRun: dryRun}); !errors.Is(err, cluster.ErrUnknownPeer) {
			t.Errorf("to nobody, dry run %v: %v", dryRun, err)
		}
	}
}

// foresees asks via for dry runs, after which old must lead as before.
func foresees(t *testing.T, via *testPeer, old, to string) {
	t.Helper()
	for _, how := range []cluster.TransferHow{{DryRun: true}, {To: to, DryRun: true}, {To: old, DryRun: true}} {
		transfer, err := via.TransferLeadership(asked(t), how)
		want := fmt.Sprintf("leader %s -> %s, writes would pause", old, transfer.New)
		if how.To == old {
			want = fmt.Sprintf("leader %s already, nothing would change", old)
		}
		if err != nil || !transfer.DryRun || transfer.Old != old || transfer.New == "" || !startsWith(transfer.Sentence, want) {
			t.Errorf("%+v: %+v %v", how, transfer, err)
		}
		if how.To != "" && transfer.New != how.To || how.To == "" && transfer.New == old {
			t.Errorf("%+v: %s would lead", how, transfer.New)
		}
	}
	if _, err := via.ReadBarrier(asked(t)); err != nil {
		t.Fatal(err)
	}
	if leads := via.Leader(); leads != old {
		t.Errorf("after dry runs %s leads, not %s", leads, old)
	}
}

// TestReadReplica: a -non-voter serves linearizable reads and stays one.
func TestReadReplica(t *testing.T) {
	first := startPeer(t, "solo", func(c *cluster.Config) { c.BootstrapExpect = 1 })
	first.waitReady()
	replica := startPeer(t, "replica", func(c *cluster.Config) {
		c.Join, c.NonVoter = []string{first.GossipAddr()}, true
	})
	voter := startPeer(t, "voter", func(c *cluster.Config) { c.Join = []string{first.GossipAddr()} })
	replica.waitReady()
	voter.waitReady()
	for i := range 20 {
		topic := fmt.Sprintf("topic-%02d", i)
		_, index := first.propose(registry.CreateTopic{Topic: topic})
		topics, info := replica.topics()
		if !slices.Contains(topics, topic) || info.Index < index {
			t.Fatalf("%s is acknowledged, the replica does not show it", topic)
		}
	}
	// When its neighbour is a voter, autopilot had its chance with both.
	eventually(t, time.Minute, "the other one is promoted", func() error {
		if role := roles(first)["voter"]; role != cluster.RoleVoter {
			return fmt.Errorf("it is %s", role)
		}
		return nil
	})
	state, err := replica.AutopilotState(asked(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range state.Servers {
		if s.NeverVotes != (s.Name == "replica") || s.Name == "replica" && s.Role != cluster.RoleNonVoter {
			t.Errorf("%+v", s)
		}
	}
	for _, dryRun := range []bool{true, false} {
		if _, err := first.TransferLeadership(asked(t), cluster.TransferHow{To: "replica", DryRun: dryRun}); !errors.Is(err, cluster.ErrNotVoter) {
			t.Errorf("leadership to the replica, dry run %v: %v", dryRun, err)
		}
	}
	removal, err := first.RemovePeer(asked(t), "voter", cluster.RemoveHow{DryRun: true})
	if err != nil || removal.After != (cluster.Voters{Voters: 1, Up: 1}) {
		t.Errorf("%+v %v", removal, err)
	}
}

func TestAutopilotState(t *testing.T) {
	peers := startCluster(t, 3)
	_, followers := leaderOf(t, peers)
	eventually(t, 30*time.Second, "autopilot has looked", func() error {
		state, err := followers[0].AutopilotState(asked(t))
		if err != nil {
			return err
		}
		if !state.Healthy || state.FailureTolerance != 1 || len(state.Servers) != 3 || state.Sentence != "All healthy; can lose 1." {
			return fmt.Errorf("%+v", state)
		}
		if s := state.Settings; s.CleanupDeadServers || s.MinQuorum != 3 || s.ServerStabilizationMS != 10_000 {
			t.Fatalf("settings %+v", s)
		}
		return nil
	})
}

func startsWith(s, prefix string) bool { return len(s) >= len(prefix) && s[:len(prefix)] == prefix }

// TestCleanupDeadPeers: the fourth of four is removed once it is dead for long,
// the third stays, because three are expected.
func TestCleanupDeadPeers(t *testing.T) {
	peers := startCluster(t, 4)
	for _, p := range peers {
		p.stop()
	}
	for i, p := range peers {
		p.cfg.BootstrapExpect, p.cfg.CleanupDeadPeers, p.cfg.InactiveTimeout = 3, true, 2*time.Second
		if i > 0 {
			p.cfg.Join = []string{peers[0].GossipAddr()}
		}
		p.start()
	}
	leader, followers := leaderOf(t, peers)
	state, err := leader.AutopilotState(asked(t))
	if err != nil || !state.Settings.CleanupDeadServers || state.Settings.MinQuorum != 3 {
		t.Fatalf("%+v %v", state.Settings, err)
	}
	fourth, third := followers[0], followers[1]
	fourth.stop()
	eventually(t, time.Minute, "the fourth is removed", func() error {
		if role, there := roles(leader)[fourth.cfg.Name]; there {
			return fmt.Errorf("it is %s", role)
		}
		return nil
	})
	third.stop()
	until := time.Now().Add(15 * time.Second) // autopilot looks every 10 s
	for time.Now().Before(until) {
		if _, there := roles(leader)[third.cfg.Name]; !there {
			t.Fatal("the third is removed, although three are expected")
		}
		time.Sleep(100 * time.Millisecond)
	}
}
