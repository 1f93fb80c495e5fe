package cluster_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/registry"
)

// TestLargeEntriesAreSaved: two hundred commands in a single entry are as much to
// apply again as two hundred entries, of which raft would make a snapshot.
func TestLargeEntriesAreSaved(t *testing.T) {
	p := startPeer(t, "a", func(c *cluster.Config) {
		c.Snapshots = cluster.SnapshotConfig{Commands: 200, Interval: 20 * time.Millisecond}
	})
	p.waitReady()
	saved := func() int {
		kept, err := filepath.Glob(filepath.Join(p.path, "raft", "snapshots", "*", "state.bin"))
		if err != nil {
			t.Fatal(err)
		}
		return len(kept)
	}
	create := func(first, n int) {
		var commands []registry.Command
		for i := range n {
			commands = append(commands, registry.CreateTopic{Topic: fmt.Sprint("t", first+i)})
		}
		p.propose(commands...)
	}
	create(0, 150)
	time.Sleep(200 * time.Millisecond) // a snapshot that comes too early would come now
	if n := saved(); n != 0 {
		t.Errorf("%d snapshots after 150 commands", n)
	}
	create(150, 100)
	eventually(t, time.Minute, "a snapshot is taken", func() error {
		if saved() == 0 {
			return errors.New("there is none")
		}
		return nil
	})
	p.stop()
	if err := os.RemoveAll(filepath.Join(p.path, "state")); err != nil {
		t.Fatal(err)
	}
	p.start()
	p.waitReady()
	if topics, _ := p.topics(); len(topics) != 250 {
		t.Errorf("%d topics after a restart", len(topics))
	}
}
