package store_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
)

// BenchmarkOpenSnapshotState verifies and opens a snapshot's state of 180,000
// registrations of 999 producers, as a restart does; time is per registration.
func BenchmarkOpenSnapshotState(b *testing.B) {
	const producers, topics, perTopic = 999, 10_000, 18
	w := newWorld(b)
	for p := range producers {
		w.must(open(nodeA, uint64(p+1), fmt.Sprint("p", p)))
	}
	for t := range topics {
		w.do(func(c *store.Change) registry.Result {
			for i := range perTopic {
				p := (3*t + i%3) % producers
				channel := ""
				if i >= 3 {
					channel = fmt.Sprint("channel-", i/3)
				}
				register(nodeA, uint64(p+1), fmt.Sprint("p", p), topicName(t), channel)(c)
			}
			return changed
		})
	}
	path := filepath.Join(b.TempDir(), "state.db")
	file, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	snapshot, err := w.state.Snapshot()
	if err != nil {
		b.Fatal(err)
	}
	size, err := snapshot.WriteTo(file)
	if err := errors.Join(err, snapshot.Close(), file.Close()); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		s, err := store.OpenSnapshotState(path)
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/topics/perTopic, "ns/registration")
	b.ReportMetric(float64(size)/topics/perTopic, "bytes/registration")
}
