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
// The topics were declared one after another, or by all producers together. How
// full the pages are then is what fillPercent is about.
func BenchmarkOpenSnapshotState(b *testing.B) {
	b.Run("one after another", func(b *testing.B) {
		openSnapshotState(b, func(n int) (topic, i int) { return n / perTopic, n % perTopic })
	})
	b.Run("together", func(b *testing.B) {
		const wide = producers / 3 // topics that are under way, each with three producers
		openSnapshotState(b, func(n int) (topic, i int) {
			block, in := n/(wide*perTopic), n%(wide*perTopic)
			return block*wide + in%wide, in / wide
		})
	})
}

const (
	producers = 999
	topics    = 9_990
	perTopic  = 18 // with 5 channels
)

// openSnapshotState fills a state in the order that nth tells.
func openSnapshotState(b *testing.B, nth func(n int) (topic, i int)) {
	const perEntry = 300
	w := newWorld(b)
	for p := range producers {
		w.must(open(nodeA, uint64(p+1), fmt.Sprint("p", p)))
	}
	for first := 0; first < topics*perTopic; first += perEntry {
		w.do(func(c *store.Change) registry.Result {
			for n := first; n < min(first+perEntry, topics*perTopic); n++ {
				t, i := nth(n)
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
