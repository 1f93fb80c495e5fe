package store_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"

	"github.com/lookupd/lookupd/store"
)

// BenchmarkStoreLogs is a StoreLogs of entries of 250 bytes, each with what it
// costs to empty the journal, and the same with raft-boltdb alone.
func BenchmarkStoreLogs(b *testing.B) {
	open := map[string]func(b *testing.B) raft.LogStore{
		"journal": func(b *testing.B) raft.LogStore {
			l, err := openDir(b, b.TempDir()).OpenLog(store.LogConfig{OnFatal: func(err error) { b.Errorf("fatal: %v", err) }})
			must(b, err)
			b.Cleanup(func() { l.Close() })
			return l
		},
		"raft-boltdb": func(b *testing.B) raft.LogStore {
			l, err := raftboltdb.New(raftboltdb.Options{Path: b.TempDir() + "/raft.db", BoltOptions: &bbolt.Options{
				NoFreelistSync: true, FreelistType: bbolt.FreelistMapType,
			}})
			must(b, err)
			b.Cleanup(func() { l.Close() })
			return l
		},
	}
	for _, entries := range []int{1, 64} {
		for _, name := range []string{"journal", "raft-boltdb"} {
			b.Run(fmt.Sprintf("%s/%d", name, entries), func(b *testing.B) {
				log := open[name](b)
				data, next, worst := make([]byte, 250), uint64(1), time.Duration(0)
				var before, after syscall.Rusage
				must(b, syscall.Getrusage(syscall.RUSAGE_SELF, &before))
				for b.Loop() {
					batch := make([]*raft.Log, entries)
					for i := range batch {
						batch[i] = &raft.Log{Index: next, Term: 1, Data: data}
						next++
					}
					began := time.Now()
					must(b, log.StoreLogs(batch))
					worst = max(worst, time.Since(began))
				}
				must(b, syscall.Getrusage(syscall.RUSAGE_SELF, &after))
				cpu := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
				b.ReportMetric(float64(cpu)/float64(b.N), "cpu-ns/op")
				b.ReportMetric(float64(worst.Microseconds()), "worst-us")
			})
		}
	}
}
