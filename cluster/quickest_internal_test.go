package cluster

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lookupd/lookupd/registry"
)

func TestQuickest(t *testing.T) {
	const yes, no, silent = "yes", "no", "silent"
	for name, c := range map[string]struct {
		say    map[registry.NodeID]string // what the peers say
		last   []registry.NodeID          // that said yes before
		needed int
		want   bool
		asked  int64 // peers
		within time.Duration
	}{
		"one of two":                     {say: map[registry.NodeID]string{"b": yes, "c": yes}, needed: 1, want: true, asked: 1},
		"who answered last is asked":     {say: map[registry.NodeID]string{"b": silent, "c": yes}, last: []registry.NodeID{"c"}, needed: 1, want: true, asked: 1},
		"the other one after a no":       {say: map[registry.NodeID]string{"b": no, "c": yes}, needed: 1, want: true, asked: 2},
		"the other one after a silence":  {say: map[registry.NodeID]string{"b": silent, "c": yes}, needed: 1, want: true, asked: 2, within: slowAnswer},
		"two of four":                    {say: map[registry.NodeID]string{"b": yes, "c": yes, "d": yes, "e": yes}, needed: 2, want: true, asked: 2},
		"two of four, one no":            {say: map[registry.NodeID]string{"b": yes, "c": no, "d": yes, "e": yes}, needed: 2, want: true, asked: 4},
		"all say no":                     {say: map[registry.NodeID]string{"b": no, "c": no}, needed: 1, asked: 2},
		"not enough say yes":             {say: map[registry.NodeID]string{"b": yes, "c": no, "d": no, "e": no}, needed: 2, asked: 4},
		"nobody is needed":               {say: map[registry.NodeID]string{"b": silent}, needed: 0, want: true},
		"more are needed than there are": {needed: 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var peers []registry.NodeID
				for _, id := range []registry.NodeID{"b", "c", "d", "e"} {
					if c.say[id] != "" {
						peers = append(peers, id)
					}
				}
				var asked atomic.Int64
				q := quickest{last: c.last}
				began := time.Now()
				got := q.ask(peers, c.needed, func(id registry.NodeID) bool {
					asked.Add(1)
					if c.say[id] == silent {
						time.Sleep(roundWithin)
						return false
					}
					return c.say[id] == yes
				})
				if got != c.want || time.Since(began) != c.within {
					t.Errorf("%v after %v, want %v after %v", got, time.Since(began), c.want, c.within)
				}
				time.Sleep(roundWithin) // until nobody is being asked
				if n := asked.Load(); n != c.asked {
					t.Errorf("%d peers were asked, want %d", n, c.asked)
				}
			})
		})
	}
}
