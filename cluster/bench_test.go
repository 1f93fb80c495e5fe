package cluster_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/lookupd/lookupd/registry"
)

// The two benchmarks report the p50 of registrations that are made one after
// another on an otherwise idle cluster of three, on the leader and through a
// follower. raft's CommitTimeout must not be in the way of the second.
func BenchmarkRegisterOneAfterAnother(b *testing.B) {
	peers := startCluster(b, 3)
	leader, followers := leaderOf(b, peers)
	for _, via := range []struct {
		name string
		peer *testPeer
	}{{"leader", leader}, {"follower", followers[0]}} {
		p := via.peer
		info := registry.ProducerInfo{BroadcastAddress: "host-" + via.name, TCPPort: 4150, HTTPPort: 4151, Version: "1.3.0"}
		session := registry.SessionID{Node: p.ID(), Epoch: p.Epoch(), Seq: 1}
		p.propose(registry.OpenSession{Session: session, Producer: info})
		next := 0
		b.Run(via.name, func(b *testing.B) {
			took := make([]time.Duration, 0, b.N)
			for b.Loop() {
				began := time.Now()
				next++
				results, _, err := p.Propose(context.Background(), registry.Register{
					Session: session, Producer: info.ID(), Topic: fmt.Sprintf("topic-%s-%d", via.name, next), Channel: "c",
				})
				if err != nil || results[0] != registry.ResultChanged {
					b.Fatal(results, err)
				}
				took = append(took, time.Since(began))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
		})
	}
}

// BenchmarkReadBarrier is the wait of one linearizable reader on an idle cluster.
func BenchmarkReadBarrier(b *testing.B) {
	peers := startCluster(b, 3)
	leader, followers := leaderOf(b, peers)
	for _, via := range []struct {
		name string
		peer *testPeer
	}{{"leader", leader}, {"follower", followers[0]}} {
		b.Run(via.name, func(b *testing.B) {
			for b.Loop() {
				if _, err := via.peer.ReadBarrier(context.Background()); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(via.name+"-128", func(b *testing.B) {
			b.SetParallelism(64)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := via.peer.ReadBarrier(context.Background()); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
