package cluster

import (
	"slices"
	"time"

	"github.com/lookupd/lookupd/registry"
)

// slowAnswer is how long quickest waits before it asks everybody.
const slowAnswer = 5 * time.Millisecond

// quickest asks as many peers as must say yes, those first that did so last time,
// and the others when one of these says no or is slow: with three voters a round
// costs one call in place of two. It belongs to one goroutine.
type quickest struct {
	last []registry.NodeID // that said yes
}

// ask reports whether so many of the peers said yes. It returns as soon as that is
// sure; question is called at most once for each peer, and must end by itself.
func (q *quickest) ask(peers []registry.NodeID, needed int, question func(registry.NodeID) bool) bool {
	if needed > len(peers) {
		return false
	}
	slices.SortStableFunc(peers, func(a, b registry.NodeID) int { return q.rank(a) - q.rank(b) })
	q.last = q.last[:0]
	type answer struct {
		peer registry.NodeID
		yes  bool
	}
	answers := make(chan answer, len(peers))
	open := 0
	ask := func(some []registry.NodeID) {
		open += len(some)
		for _, peer := range some {
			go func() { answers <- answer{peer, question(peer)} }()
		}
	}
	ask(peers[:needed])
	rest := peers[needed:]
	slow := time.NewTimer(slowAnswer)
	defer slow.Stop()
	for len(q.last) < needed {
		if open == 0 && len(rest) == 0 {
			return false
		}
		select {
		case a := <-answers:
			open--
			if a.yes {
				q.last = append(q.last, a.peer)
				continue
			}
		case <-slow.C:
		}
		ask(rest)
		rest = nil
	}
	return true
}

func (q *quickest) rank(peer registry.NodeID) int {
	if slices.Contains(q.last, peer) {
		return 0
	}
	return 1
}
