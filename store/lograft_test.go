package store_test

import (
	"bytes"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/lookupd/lookupd/store"
)

// words is a state machine that remembers what it was told.
type words struct {
	mu   sync.Mutex
	said bytes.Buffer
}

func (w *words) Apply(entry *raft.Log) any {
	w.mu.Lock()
	defer w.mu.Unlock()
	fmt.Fprintf(&w.said, "%s,", entry.Data)
	return nil
}

func (w *words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.said.String()
}

func (w *words) Snapshot() (raft.FSMSnapshot, error) { return wordsSnapshot(w.String()), nil }

func (w *words) Restore(r io.ReadCloser) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said.Reset()
	_, err := io.Copy(&w.said, r)
	return err
}

type wordsSnapshot string

func (s wordsSnapshot) Persist(sink raft.SnapshotSink) error {
	if _, err := io.WriteString(sink, string(s)); err != nil {
		sink.Cancel()
		return err
	}
	return sink.Close()
}

func (wordsSnapshot) Release() {}

// peer is a raft node on a data directory.
type peer struct {
	raft      *raft.Raft
	log       *store.Log
	state     *words
	transport *raft.InmemTransport
	dir       *store.Dir
}

func raftConfig(id raft.ServerID) *raft.Config {
	cfg := raft.DefaultConfig()
	cfg.LocalID = id
	cfg.HeartbeatTimeout, cfg.ElectionTimeout, cfg.LeaderLeaseTimeout = 200*time.Millisecond, 200*time.Millisecond, 200*time.Millisecond
	cfg.CommitTimeout = 5 * time.Millisecond
	cfg.TrailingLogs = 10
	cfg.SnapshotThreshold = 1 << 20
	cfg.Logger = hclog.NewNullLogger()
	return cfg
}

func startPeer(t *testing.T, path string, name raft.ServerID) *peer {
	t.Helper()
	p := &peer{dir: openDir(t, path), state: &words{}}
	_, p.log = mustStart(t, p.dir)
	snapshots, err := p.dir.OpenSnapshots(hclog.NewNullLogger())
	must(t, err)
	cache, err := raft.NewLogCache(16, p.log)
	must(t, err)
	_, p.transport = raft.NewInmemTransport(raft.ServerAddress(name))
	p.raft, err = raft.NewRaft(raftConfig(name), p.state, cache, p.log, snapshots, p.transport)
	must(t, err)
	t.Cleanup(func() { p.stop(t) })
	return p
}

// stop may be called twice.
func (p *peer) stop(t *testing.T) {
	t.Helper()
	must(t, p.raft.Shutdown().Error())
	must(t, p.log.Close())
	must(t, p.dir.Close())
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline, tick := time.After(30*time.Second), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: not in time", what)
		}
	}
}

func TestRaftOnTheLog(t *testing.T) {
	names := []raft.ServerID{"a", "b", "c"}
	paths := map[raft.ServerID]string{}
	var configuration raft.Configuration
	for _, name := range names {
		paths[name] = t.TempDir()
		configuration.Servers = append(configuration.Servers, raft.Server{ID: name, Address: raft.ServerAddress(name)})
	}
	startAll := func() (peers []*peer) {
		for _, name := range names {
			peers = append(peers, startPeer(t, paths[name], name))
		}
		for _, p := range peers {
			for _, q := range peers {
				p.transport.Connect(q.transport.LocalAddr(), q.transport)
			}
		}
		return peers
	}
	leaderOf := func(peers []*peer) (leader *peer) {
		eventually(t, "leader", func() bool {
			for _, p := range peers {
				if p.raft.State() == raft.Leader {
					leader = p
				}
			}
			return leader != nil
		})
		return leader
	}
	want := ""
	say := func(peers []*peer, n int) {
		leader := leaderOf(peers)
		for i := range n {
			word := fmt.Sprintf("word-%d", i)
			must(t, leader.raft.Apply([]byte(word), 10*time.Second).Error())
			want += word + ","
		}
		for _, p := range peers {
			eventually(t, "apply", func() bool { return p.state.String() == want })
		}
	}

	peers := startAll()
	must(t, peers[0].raft.BootstrapCluster(configuration).Error())
	say(peers, 50)
	sameEntries(t, peers)
	must(t, peers[0].raft.Snapshot().Error())
	for _, p := range peers {
		if _, err := p.log.Get([]byte("LastVoteCand")); err != nil {
			t.Errorf("vote of %s: %v", p.transport.LocalAddr(), err)
		}
		p.stop(t)
	}

	// One from its snapshot and the log behind it, two from their logs.
	peers = startAll()
	say(peers, 20)
	sameEntries(t, peers)
}

// sameEntries compares the peers' last entries, checksums included, on disk.
func sameEntries(t *testing.T, peers []*peer) {
	t.Helper()
	last, err := peers[0].log.LastIndex()
	must(t, err)
	for index := last - 8; index <= last; index++ {
		var first string
		for _, p := range peers {
			var entry raft.Log
			must(t, p.log.GetLog(index, &entry))
			if got := fmt.Sprintf("%d %d %s %s %x", entry.Index, entry.Term, entry.Type, entry.Data, entry.Extensions); first == "" {
				first = got
			} else if got != first {
				t.Errorf("entry %d: %s on one peer, %s on another", index, first, got)
			}
		}
	}
}
