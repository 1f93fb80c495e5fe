package store_test

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
)

// fillTopics makes topics x 5 channels x 3 producers.
func fillTopics(b *testing.B, topics int) *world {
	b.Helper()
	w := newWorld(b)
	for p := range 3 {
		w.must(open(nodeA, uint64(p+1), fmt.Sprint("p", p)))
	}
	for t := range topics {
		w.do(func(c *store.Change) registry.Result {
			for i := range 15 {
				register(nodeA, uint64(i%3+1), fmt.Sprint("p", i%3), topicName(t), fmt.Sprint("channel-", i/3))(c)
			}
			return changed
		})
	}
	return w
}

func topicName(n int) string { return "topic-" + strconv.Itoa(100_000+n) }

// BenchmarkTopic is a lookup: its cost must not grow with the registry.
func BenchmarkTopic(b *testing.B) {
	for _, topics := range []int{10, 10_000} {
		w := fillTopics(b, topics)
		b.Run(fmt.Sprint(topics), func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				w.view(func(v *store.View) error {
					if t, _ := v.Topic(topicName(i % topics)); len(t.Channels) != 5 || len(t.Producers) != 3 {
						b.Fatalf("got %+v", t)
					}
					return nil
				})
				i += 7919
			}
		})
	}
}

// BenchmarkRegister registers new names, so many per log entry and transaction,
// of 64 producers that declare the same topics; time is per command.
func BenchmarkRegister(b *testing.B) {
	for _, perEntry := range []int{1, 16, 64, 256, 1024, 4096, 16384} {
		b.Run(fmt.Sprint(perEntry), func(b *testing.B) {
			w := newWorld(b)
			const producers = 64
			for p := range producers {
				w.must(open(nodeA, uint64(p+1), fmt.Sprint("p", p)))
			}
			b.ReportAllocs()
			b.ResetTimer()
			for done := 0; done < b.N; {
				w.do(func(c *store.Change) registry.Result {
					for range min(perEntry, b.N-done) {
						p, n := done%producers, done/producers
						r := register(nodeA, uint64(p+1), fmt.Sprint("p", p),
							topicName(n/5), fmt.Sprint("channel-", n%5))(c)
						if r != changed {
							b.Fatalf("result %d", r)
						}
						done++
					}
					return changed
				})
			}
			b.StopTimer()
		})
	}
}
