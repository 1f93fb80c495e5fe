package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lookupd/lookupd/supervisor"
)

// newestSnapshot returns the log index of the latest snapshot that a peer has
// on disk, 0 if there is none. Their directories are called term-index-time.
func newestSnapshot(p *supervisor.Peer) uint64 {
	var newest uint64
	directories, _ := filepath.Glob(filepath.Join(p.DataPath(), "raft", "snapshots", "*"))
	for _, dir := range directories {
		var term, index, ms uint64
		if n, _ := fmt.Sscanf(filepath.Base(dir), "%d-%d-%d", &term, &index, &ms); n == 3 && filepath.Ext(dir) != ".tmp" {
			newest = max(newest, index)
		}
	}
	return newest
}

// writeEntries changes the registry, each through its own peer, so that every
// change is a log entry of its own: a batch holds what one peer has at once.
func writeEntries(t *testing.T, peers []*supervisor.Peer, entries int) {
	t.Helper()
	began := time.Now()
	errs := make(chan error, len(peers))
	each := entries / len(peers)
	for i, p := range peers {
		conn := fakeNSQD(t, p.TCPAddress(), fmt.Sprintf("writer%d.example", i))
		go func() {
			errs <- errors.Join(toggle(conn, each), conn.Close())
		}()
	}
	for range peers {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d changes through %d peers in %v", entries, len(peers), time.Since(began).Round(time.Millisecond))
}

// toggle registers and unregisters a channel, n changes in all.
func toggle(conn *v1Conn, n int) error {
	for i := range n {
		command := "REGISTER busy c\n"
		if i%2 == 1 {
			command = "UNREGISTER busy c\n"
		}
		answer, err := conn.call(command)
		for deadline := time.Now().Add(patience); strings.HasPrefix(answer, "E_UNAVAILABLE") && time.Now().Before(deadline); {
			answer, err = conn.call(command) // a slow machine: the change is under way, and waited for again
		}
		if err != nil || answer != "OK" {
			return fmt.Errorf("change %d: %q %w", i, answer, err)
		}
	}
	return nil
}

func TestSnapshots(t *testing.T) {
	skipShort(t, "writes 40,000 log entries")
	t.Parallel() // bound by the disk's sync, not by the processor
	const (
		// What the daemon has built in: a snapshot each 8,192 entries, looked for
		// every 15 to 30 s, and so many entries kept behind it.
		trailingLogs = 20480
		forSnapshot  = 9000
		forInstall   = trailingLogs + forSnapshot
	)
	w := newWorld(t)
	c := w.cluster(3)
	for i := range 50 {
		mustPost(t, c.Peers[i%3].URL("/channel/create?topic="+topicName(i)+"&channel=c"))
	}
	writeEntries(t, c.Peers, forSnapshot)
	for _, p := range c.Peers {
		eventually(t, func(context.Context) error {
			if newestSnapshot(p) == 0 {
				return fmt.Errorf("%s has no snapshot", p.Name())
			}
			return nil
		})
	}
	mustPost(t, c.Peers[0].URL("/topic/create?topic=after-the-snapshot"))

	t.Run("restart from snapshot and log", func(t *testing.T) {
		p := follower(t, c)
		before := sameState(t, c)
		if err := p.Kill(); err != nil {
			t.Fatal(err)
		}
		w.start(p)
		if after := sameState(t, c); after.Index == before.Index && after.StateHash != before.StateHash {
			t.Errorf("hash %s at %d, was %s", after.StateHash, after.Index, before.StateHash)
		}
		if _, err := lookupTopic(within(t, patience), p, "after-the-snapshot"); err != nil {
			t.Error(err)
		}
	})
	t.Run("lagging peer gets a snapshot", func(t *testing.T) {
		p := follower(t, c)
		stopped := sameState(t, c).Index
		if err := p.Kill(); err != nil {
			t.Fatal(err)
		}
		writeEntries(t, c.Running(), forInstall)
		mustPost(t, c.Running()[0].URL("/topic/create?topic=while-away"))
		// The entries that p needs are gone once the leader has a late enough snapshot.
		eventually(t, func(context.Context) error {
			l := leader(t, c)
			if newest := newestSnapshot(l); newest < stopped+trailingLogs {
				return fmt.Errorf("newest snapshot of %s at %d, want %d", l.Name(), newest, stopped+trailingLogs)
			}
			return nil
		})
		w.start(p)
		if _, err := lookupTopic(within(t, patience), p, "while-away"); err != nil {
			t.Error(err)
		}
		if newest := newestSnapshot(p); newest <= stopped {
			t.Errorf("newest snapshot of %s at %d: it was not sent one", p.Name(), newest)
		}
		sameState(t, c)
	})
}
