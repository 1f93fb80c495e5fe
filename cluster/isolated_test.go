package cluster_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/lookupd/lookupd/registry"
)

// A follower hears of a commit that no entry follows, and an idle cluster adds
// nothing to the log. raft itself would tell within its CommitTimeout or two, 100
// to 200 ms: a reader must not wait for that.
func TestFollowerReadsIsolatedWriteSoon(t *testing.T) {
	const writes, idle, soon = 12, 300 * time.Millisecond, 50 * time.Millisecond
	peers := startCluster(t, 3)
	leader, followers := leaderOf(t, peers)
	var waits []time.Duration
	for i := range writes {
		before := leader.RaftInfo().CommitIndex
		time.Sleep(idle) // the cluster is to have nothing to do
		if i > 0 && leader.RaftInfo().CommitIndex != before {
			t.Errorf("%d entries in an idle cluster", leader.RaftInfo().CommitIndex-before)
		}
		topic := fmt.Sprintf("topic-%d", i)
		_, index := leader.propose(registry.CreateTopic{Topic: topic})
		began := time.Now()
		topics, info := followers[i%2].topics()
		waits = append(waits, time.Since(began))
		if !slices.Contains(topics, topic) || info.Index < index {
			t.Fatalf("%s, written at %d, is not in what %s reads at %d", topic, index, followers[i%2].cfg.Name, info.Index)
		}
	}
	slices.Sort(waits)
	t.Logf("waits: %v", waits)
	if middle := waits[writes/2]; middle > soon {
		t.Errorf("a follower's reader waits %v for an isolated write, want at most %v", middle, soon)
	}
}

// A follower that starts again has forgotten what is committed. It hears of it
// although nothing new is written, and reads.
func TestFollowerOfIdleClusterStartsAgain(t *testing.T) {
	peers := startCluster(t, 3)
	_, followers := leaderOf(t, peers)
	_, index := peers[0].propose(registry.CreateTopic{Topic: "orders"})
	f := followers[0]
	f.stop()
	f.start()
	f.waitReady()
	if topics, info := f.topics(); !slices.Contains(topics, "orders") || info.Index < index {
		t.Errorf("topics %v at %d, want what was written at %d", topics, info.Index, index)
	}
}

// What a follower's question confirms: that it, a voter of three, knows no later
// term than the leader.
func TestQuestionConfirms(t *testing.T) {
	peers := startCluster(t, 3)
	leader, followers := leaderOf(t, peers)
	asker, own := followers[0].ID(), leader.ClusterID()
	if err := leader.ConfirmedBy(asker, own, 0); err != nil {
		t.Error("a follower of the leader's term:", err)
	}
	for what, err := range map[string]error{
		"a later term":    leader.ConfirmedBy(asker, own, 1),
		"the leader":      leader.ConfirmedBy(leader.ID(), own, 0),
		"a stranger":      leader.ConfirmedBy("stranger-00000000", own, 0),
		"another cluster": leader.ConfirmedBy(asker, "another", 0),
	} {
		if err == nil {
			t.Errorf("%s: confirmed", what)
		}
	}
}
