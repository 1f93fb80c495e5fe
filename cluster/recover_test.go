package cluster_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/fsm"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
)

// TestRecover: two of three peers are lost for good. The third, with snapshots
// or without, becomes a cluster that others join; an old peer that turns up
// after all is a stranger to it.
func TestRecover(t *testing.T) {
	for name, snapshots := range map[string]cluster.SnapshotConfig{
		"log alone": {}, "snapshots": {Threshold: 8, TrailingLogs: 4, Interval: 20e6},
	} {
		t.Run(name, func(t *testing.T) {
			peers := startCluster(t, 3, func(c *cluster.Config) { c.Snapshots = snapshots })
			_, followers := leaderOf(t, peers)
			left, old := followers[0], followers[1]
			for i := range 40 {
				peers[i%3].propose(registry.CreateTopic{Topic: fmt.Sprintf("topic-%02d", i)})
			}
			want, _ := left.topics()
			if _, err := cluster.Examine(left.path); !errors.Is(err, store.ErrLocked) {
				t.Errorf("while it runs: %v", err)
			}
			oldCluster, index := left.ClusterID(), left.status().Index
			for _, p := range peers {
				p.stop()
			}

			before := directory(t, left.path)
			r, err := cluster.Examine(left.path)
			if err != nil || r.ID != left.ID() || r.ClusterID != oldCluster || r.LastIndex < index || len(r.Voters) != 3 {
				t.Fatalf("%+v %v", r, err)
			}
			rebuilt := rebuild(t, left.path)
			if !slices.Equal(rebuilt, want) {
				t.Errorf("rebuilt %v, want %v", rebuilt, want)
			}
			entries := 0
			if err := cluster.ReadLog(left.path, 0, func(cluster.Entry) bool { entries++; return true }); err != nil || entries == 0 {
				t.Errorf("%d entries, %v", entries, err)
			}
			if after := directory(t, left.path); !slices.Equal(before, after) {
				t.Errorf("looking changed the directory: %v, was %v", after, before)
			}

			recovered, err := cluster.Recover(left.path, slog.New(slog.DiscardHandler))
			if err != nil || recovered.ClusterID == oldCluster || !slices.Equal(recovered.Voters, []registry.NodeID{left.ID()}) {
				t.Fatalf("%+v %v", recovered, err)
			}
			left.start()
			left.waitReady()
			if topics, _ := left.topics(); !slices.Equal(topics, want) {
				t.Errorf("topics %v, want %v", topics, want)
			}
			left.propose(registry.CreateTopic{Topic: "after"})
			fresh := startPeer(t, "fresh", func(c *cluster.Config) { c.Join = []string{left.GossipAddr()} })
			fresh.waitReady()
			if topics, _ := fresh.topics(); len(topics) != len(want)+1 {
				t.Errorf("the one that joined has %d topics", len(topics))
			}

			old.cfg.Join = []string{left.GossipAddr()}
			old.start()
			if all := roles(left); len(all) != 2 {
				t.Errorf("peers %v", all)
			}
			if err := old.Ready(); !errors.Is(err, cluster.ErrNotReady) {
				t.Errorf("the stranger: %v", err)
			}
			left.stop()
			left.start()
			left.waitReady()
		})
	}
}

// directory lists files with their sizes.
func directory(t *testing.T, path string) (files []string) {
	t.Helper()
	err := fsWalk(path, func(name string, size int64) { files = append(files, fmt.Sprint(name, " ", size)) })
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func fsWalk(path string, fn func(string, int64)) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := fsWalk(path+"/"+e.Name(), fn); err != nil {
				return err
			}
			continue
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		fn(path+"/"+e.Name(), info.Size())
	}
	return nil
}

func rebuild(t *testing.T, path string) (topics []string) {
	t.Helper()
	err := cluster.Rebuild(path, t.TempDir(), slog.New(slog.DiscardHandler), func(s *fsm.Saved) error {
		var b bytes.Buffer
		if _, err := s.WriteTo(&b); err != nil {
			return err
		}
		return fsm.ReadSnapshot(&b, t.TempDir(), func(_ fsm.SnapshotInfo, v *store.View) error {
			topics = v.Topics()
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return topics
}

func TestExamineRefuses(t *testing.T) {
	empty := t.TempDir()
	if _, err := cluster.Examine(empty); !errors.Is(err, store.ErrIdentityMissing) {
		t.Errorf("an empty directory: %v", err)
	}
	if _, err := cluster.Examine(empty + "/nothing"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("nothing: %v", err)
	}
	if left, err := os.ReadDir(empty); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	p := startPeer(t, "solo", nil)
	p.waitReady()
	p.stop()
	log := p.path + "/raft/raft.db"
	content, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(log, content[:len(content)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := cluster.Examine(p.path); !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), log) {
		t.Errorf("half a log: %v", err)
	}
	if _, err := cluster.Recover(p.path, slog.New(slog.DiscardHandler)); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("recover from half a log: %v", err)
	}
}
