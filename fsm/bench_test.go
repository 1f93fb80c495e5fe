package fsm_test

import (
	"fmt"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/lookupd/lookupd/fsm"
)

// BenchmarkApply registers new names, decoding included, as a busy cluster
// does: entries of so many commands, 16 entries at a time; time is per command.
func BenchmarkApply(b *testing.B) {
	for _, perEntry := range []int{1, 16, 64} {
		b.Run(fmt.Sprint(perEntry), func(b *testing.B) {
			const producers = 64
			m := newMachine(b)
			for p := range producers {
				m.apply(batch(nodeA, uint64(p+1), open(nodeA, uint64(p+1), fmt.Sprint("p", p))))
			}
			var groups [][]*raft.Log
			index, done := m.index, 0
			for done < b.N {
				var logs []*raft.Log
				for range 16 {
					index++
					entry := fsm.Batch{Origin: nodeA, Epoch: 1, Number: index}
					for range perEntry {
						p, n := done%producers, done/producers
						entry.Commands = append(entry.Commands, register(nodeA, uint64(p+1), fmt.Sprint("p", p),
							fmt.Sprint("topic-", n/5), fmt.Sprint("channel-", n%5)))
						done++
					}
					logs = append(logs, entryOf(b, index, entry))
				}
				groups = append(groups, logs)
			}
			b.ReportAllocs()
			b.ResetTimer()
			for _, logs := range groups {
				m.ApplyBatch(logs)
			}
			b.StopTimer()
		})
	}
}
