package e2e_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/lookupd/lookupd/supervisor"
)

// TestRegisterThroughFollower holds a follower's REGISTERs, one after another as
// nsqd sends them, to twice the time of the leader's. raft's CommitTimeout,
// after which an idle follower hears of a commit, must not be in the way.
func TestRegisterThroughFollower(t *testing.T) {
	const rounds, block, atMost = 6, 50, 2
	c := newWorld(t).cluster(3)
	lead, follow := leader(t, c), follower(t, c)
	conns := map[*supervisor.Peer]*v1Conn{}
	for _, p := range []*supervisor.Peer{lead, follow} {
		conns[p] = fakeNSQD(t, p.TCPAddress(), "nsqd-of-"+p.Name())
	}
	took := map[*supervisor.Peer][]time.Duration{}
	for round := range rounds { // blocks in turn, so that both meet the same machine
		for p, conn := range conns {
			for i := range block {
				began := time.Now()
				conn.mustCall(t, fmt.Sprintf("REGISTER t%d-%d\n", round, i))
				took[p] = append(took[p], time.Since(began))
			}
		}
	}
	of := func(p *supervisor.Peer) time.Duration {
		slices.Sort(took[p])
		return took[p][len(took[p])/2]
	}
	t.Logf("p50 of REGISTER: leader %v, follower %v", of(lead), of(follow))
	if of(follow) > atMost*of(lead) {
		t.Errorf("follower's p50 %v is more than %d times the leader's %v", of(follow), atMost, of(lead))
	}
}

// BenchmarkRegister sends new registrations one after another to an idle
// cluster of three; again sends one that is there already, as a reconnect does.
func BenchmarkRegister(b *testing.B) {
	for _, bench := range []struct {
		name   string
		leader bool
		again  bool
	}{
		{"leader/new", true, false},
		{"follower/new", false, false},
		{"leader/again", true, true},
		{"follower/again", false, true},
	} {
		b.Run(bench.name, func(b *testing.B) {
			c := newWorld(b).cluster(3)
			p := follower(b, c)
			if bench.leader {
				p = leader(b, c)
			}
			conn := fakeNSQD(b, p.TCPAddress(), "n1.example")
			conn.mustCall(b, "REGISTER t again\n")
			var all []time.Duration
			for i := 0; b.Loop(); i++ {
				channel := "again"
				if !bench.again {
					channel = fmt.Sprintf("c%d", i)
				}
				began := time.Now()
				conn.mustCall(b, "REGISTER t "+channel+"\n")
				all = append(all, time.Since(began))
			}
			slices.Sort(all)
			b.ReportMetric(float64(all[len(all)/2].Microseconds()), "p50-us")
			b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-us")
		})
	}
}
