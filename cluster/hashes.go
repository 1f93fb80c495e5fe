package cluster

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/lookupd/lookupd/fsm"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
)

// compareEvery is how often a peer compares the hashes of its state with the
// others'.
const compareEvery = 10 * time.Second

// compareHashes stops this peer if its state differs, at one index, from that
// of a majority. A difference that does not tell who is wrong is an alarm.
func (n *Node) compareHashes(ctx context.Context) {
	ticker := time.NewTicker(compareEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		mine := n.fsm.HashMarks()
		others, peers := n.askHashes(ctx) // without marks too: contacts come of it
		if len(mine) == 0 {
			continue
		}
		switch different := odd(mine, others, peers); {
		case different == nil:
			n.statesDiffer.Store(0)
			n.metrics.hashesCompared("equal")
		case different.certain:
			n.fatal(fmt.Errorf("%w: this peer's state differs from the others' at index %d: give it an empty data directory and -join", store.ErrDamaged, different.index))
		default:
			n.metrics.hashesCompared("different")
			n.statesDiffer.Store(different.index)
			n.log.Error("peers have different states at one index", "index", different.index, "peers", peers)
		}
	}
}

// askHashes returns the hash marks of each other peer that answers, and how
// many peers there are, this one included.
func (n *Node) askHashes(ctx context.Context) (others []map[uint64]uint64, peers int) {
	servers := n.raft.GetConfiguration().Configuration().Servers
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, s := range servers {
		if s.ID == raft.ServerID(n.id) {
			continue
		}
		all.Go(func() {
			answer := n.askStatus(ctx, registry.NodeID(s.ID))
			marks := map[uint64]uint64{}
			for _, m := range answer.GetHashMarks() {
				marks[m.Index] = m.Hash
			}
			mu.Lock()
			defer mu.Unlock()
			others = append(others, marks)
		})
	}
	all.Wait()
	return others, len(servers)
}

type difference struct {
	index   uint64
	certain bool // a majority of the peers has one hash there, and this peer another
}

// odd returns the first index at which this peer differs from another, or nil.
func odd(mine []fsm.HashMark, others []map[uint64]uint64, peers int) *difference {
	var found *difference
	for _, m := range mine {
		votes := map[uint64]int{}
		for _, marks := range others {
			if hash, ok := marks[m.Index]; ok && hash != m.Hash {
				votes[hash]++
			}
		}
		for _, count := range votes {
			if count > peers/2 {
				return &difference{m.Index, true}
			}
			if found == nil {
				found = &difference{m.Index, false}
			}
		}
	}
	return found
}
