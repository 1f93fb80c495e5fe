package store_test

import (
	"fmt"
	"testing"

	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
)

// fillTopics makes topics x 5 channels x 3 producers.
func fillTopics(b *testing.B, topics int) *world {
	b.Helper()
	w := newWorld(b)
	err := w.state.Update(func(c *store.Change) error {
		c.Entry(1, 1, nodeA)
		for p := range 3 {
			host := fmt.Sprint("p", p)
			open(nodeA, uint64(p+1), host)(c)
			for t := range topics {
				for ch := range 5 {
					register(nodeA, uint64(p+1), host, fmt.Sprintf("topic-%05d", t), fmt.Sprint("channel-", ch))(c)
				}
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return w
}

// BenchmarkTopic is a lookup: its cost must not grow with the registry.
func BenchmarkTopic(b *testing.B) {
	for _, topics := range []int{10, 10_000} {
		w := fillTopics(b, topics)
		names := make([]string, topics)
		for i := range names {
			names[i] = fmt.Sprintf("topic-%05d", i)
		}
		b.Run(fmt.Sprint(topics), func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				w.view(func(v *store.View) error {
					if t, _ := v.Topic(names[i%topics]); len(t.Channels) != 5 || len(t.Producers) != 3 {
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
	for _, perEntry := range []int{1, 16, 64, 256} {
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
							fmt.Sprintf("topic-%05d", n/5), fmt.Sprint("channel-", n%5))(c)
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
