package main

import (
	"context"
	"errors"
	"net/http/httptest"
	"regexp"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/session"
)

func TestMembersShowTheStatus(t *testing.T) {
	asked := 0
	m := &members{status: func(context.Context) (cluster.Status, error) {
		asked++
		return cluster.Status{
			SeenBy: "a", Leader: "a", State: cluster.StateDegraded, Tolerance: 1, StatesDifferAt: 7,
			Peers: []cluster.PeerStatus{
				{Name: "a", ID: "a-1", Role: cluster.RoleLeader, Health: cluster.HealthOK},
				{Name: "b", ID: "b-1", Role: cluster.RoleVoter, Health: cluster.HealthDown, Orphans: 2},
				{Name: "b", ID: "b-2", Role: cluster.RoleJoining, Health: cluster.HealthOK, Lag: 9},
				{Name: "c", ID: "c-1", Role: cluster.RoleNonVoter, Health: cluster.HealthOK, Orphans: 1},
			},
		}, nil
	}, sizes: func() cluster.Sizes {
		return cluster.Sizes{
			LogBytes: 10, StateBytes: 20, LastSnapshot: time.UnixMilli(1500), GossipAlive: 2, GossipAbsent: 1,
			ActiveProducers: 5, SuspendedProducers: 6, Tombstones: 7,
		}
	}, sessions: func() session.Stats { return session.Stats{Sessions: 9, Suspended: 2} }}
	want := `lookupd_failure_tolerance 1
lookupd_gossip_members{state="absent"} 1
lookupd_gossip_members{state="alive"} 2
lookupd_healthy 0
lookupd_log_bytes 10
lookupd_orphans 3
lookupd_peer_lag_entries{peer="a"} 0
lookupd_peer_lag_entries{peer="b-2"} 9
lookupd_peer_lag_entries{peer="c"} 0
lookupd_peer_up{peer="b"} 0
lookupd_peer_up{peer="b-2"} 1
lookupd_peer_up{peer="c"} 1
lookupd_peers{suffrage="joining"} 1
lookupd_peers{suffrage="non-voter"} 1
lookupd_peers{suffrage="voter"} 2
lookupd_producers{state="active"} 5
lookupd_producers{state="suspended"} 6
lookupd_sessions{state="open"} 7
lookupd_sessions{state="orphan"} 3
lookupd_sessions{state="suspended"} 2
lookupd_snapshot_timestamp_seconds 1.5
lookupd_state_bytes 20
lookupd_states_differ 1
lookupd_tombstones 7
`
	reg := prometheus.NewRegistry()
	reg.MustRegister(m)
	for range 2 { // the second within statusEvery
		answer := httptest.NewRecorder()
		promhttp.HandlerFor(reg, promhttp.HandlerOpts{}).ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
		got := regexp.MustCompile("(?m)^#.*\n").ReplaceAllString(answer.Body.String(), "")
		if got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	}
	if asked != 1 {
		t.Errorf("the peers were asked %d times within %s", asked, statusEvery)
	}
}

// A scrape while the state cannot be read shows everything else.
func TestMembersWithoutStatus(t *testing.T) {
	m := &members{status: func(context.Context) (cluster.Status, error) { return cluster.Status{}, errors.New("closed") }}
	reg := prometheus.NewRegistry()
	reg.MustRegister(m)
	if families, err := reg.Gather(); err != nil || len(families) > 0 {
		t.Error(families, err)
	}
}
