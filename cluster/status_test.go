package cluster_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/lookupd/lookupd/cluster"
)

// TestPeersTellWhomTheyReach: each peer, not only the leader, keeps in touch with
// all others, and what it tells of its sessions reaches them.
func TestPeersTellWhomTheyReach(t *testing.T) {
	t.Parallel() // it waits most of the time
	const patience = 25 * time.Second
	peers := startCluster(t, 3, func(c *cluster.Config) {
		name := c.Name
		c.Sessions = func() cluster.SessionStats {
			stats := cluster.SessionStats{Sessions: 5, Pending: 7, PendingFor: 41 * time.Second}
			for i := range 12 {
				stats.Shared = append(stats.Shared, cluster.SharedAddress{First: name, Second: fmt.Sprint(i)})
			}
			return stats
		}
	})
	eventually(t, patience, "contacts of all", func() error {
		for _, p := range peers[0].status().Peers {
			if len(p.Contacts) != len(peers) {
				return fmt.Errorf("%s has reached %v", p.Name, p.Contacts)
			}
		}
		return nil
	})
	for _, p := range peers[0].status().Peers {
		for _, c := range p.Contacts {
			if limit := patience.Milliseconds(); c.AgeMS < 0 || c.AgeMS > limit || c.ID == p.ID && c.AgeMS != 0 {
				t.Errorf("%s: %+v", p.Name, c)
			}
		}
		if p.Sessions != 5 || p.Pending != 7 || p.PendingMS != 41_000 || len(p.Shared) != 10 || p.Shared[9].First != p.Name || p.UptimeMS <= 0 {
			t.Errorf("%+v", p)
		}
	}
}
