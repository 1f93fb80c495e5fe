package main

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/session"
)

var (
	healthyDesc   = prometheus.NewDesc("lookupd_healthy", "1 if this peer calls the cluster healthy, as /v1/status does.", nil, nil)
	toleranceDesc = prometheus.NewDesc("lookupd_failure_tolerance", "Voters that may still fail.", nil, nil)
	peersDesc     = prometheus.NewDesc("lookupd_peers", "Peers that this one knows of.", []string{"suffrage"}, nil)
	peerUpDesc    = prometheus.NewDesc("lookupd_peer_up", "1 if the other peer answers this one.", []string{"peer"}, nil)
	peerLagDesc   = prometheus.NewDesc("lookupd_peer_lag_entries", "Entries that a peer which answers is behind.", []string{"peer"}, nil)
	sessionsDesc  = prometheus.NewDesc("lookupd_sessions", "V1 sessions: on this peer, open or suspended; and on the leader those of lost peers, orphan.", []string{"state"}, nil)
	producersDesc = prometheus.NewDesc("lookupd_producers", "In the registry, as this peer has it; suspended ones are hidden.", []string{"state"}, nil)
	tombsDesc     = prometheus.NewDesc("lookupd_tombstones", "In the registry, as this peer has it.", nil, nil)
	gossipDesc    = prometheus.NewDesc("lookupd_gossip_members", "Peers that gossip sees, alive, and peers of the cluster that it does not see, absent.", []string{"state"}, nil)
	logDesc       = prometheus.NewDesc("lookupd_log_bytes", "Size of the log's file, which never shrinks.", nil, nil)
	stateDesc     = prometheus.NewDesc("lookupd_state_bytes", "Size of the state's file, and of a snapshot.", nil, nil)
	snapshotDesc  = prometheus.NewDesc("lookupd_snapshot_timestamp_seconds", "When the newest snapshot on this peer was begun, 0 if there is none.", nil, nil)
	orphansDesc   = prometheus.NewDesc("lookupd_orphans", "Sessions in the cluster whose connections are gone, as the leader counts.", nil, nil)
	differDesc    = prometheus.NewDesc("lookupd_states_differ", "1 if this peer found another with a different state at one index.", nil, nil)
)

// statusEvery bounds how often a scrape asks the other peers: anybody may scrape.
const statusEvery = time.Second

// members shows the cluster as this peer sees it, and what this peer counts at
// some cost. It reads what /v1/status reads, so that alerts and operators are told the same.
type members struct {
	status   func(context.Context) (cluster.Status, error)
	sizes    func() cluster.Sizes
	sessions func() session.Stats

	mu   sync.Mutex // held while the others are asked, so that other scrapes wait
	at   time.Time
	last []prometheus.Metric
}

func (*members) Describe(out chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{
		healthyDesc, toleranceDesc, peersDesc, peerUpDesc, peerLagDesc, orphansDesc, differDesc,
		sessionsDesc, producersDesc, tombsDesc, gossipDesc, logDesc, stateDesc, snapshotDesc,
	} {
		out <- desc
	}
}

// Collect sends nothing if the state cannot be read: the peer is stopping.
func (m *members) Collect(out chan<- prometheus.Metric) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if time.Since(m.at) > statusEvery {
		m.last = nil
		if status, err := m.status(context.Background()); err == nil { // it bounds itself
			m.last = append(memberMetrics(status), sizeMetrics(m.sizes(), m.sessions())...)
		}
		m.at = time.Now()
	}
	for _, metric := range m.last {
		out <- metric
	}
}

func memberMetrics(s cluster.Status) (all []prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		all = append(all, prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...))
	}
	orphans := 0
	suffrage := map[string]int{"voter": 0, "non-voter": 0, "joining": 0}
	taken := map[string]bool{}
	for _, p := range s.Peers {
		orphans += p.Orphans
		role := p.Role
		if role == cluster.RoleLeader {
			role = cluster.RoleVoter
		}
		suffrage[string(role)]++
		// A peer that lost its disk and its successor have one name for a while.
		name := p.Name
		if taken[name] {
			name = string(p.ID)
		}
		taken[name] = true
		if p.Name != s.SeenBy { // itself it always reaches
			gauge(peerUpDesc, boolean(p.Health == cluster.HealthOK), name)
		}
		if p.Health == cluster.HealthOK {
			gauge(peerLagDesc, float64(p.Lag), name)
		}
	}
	for name, n := range suffrage {
		gauge(peersDesc, float64(n), name)
	}
	gauge(healthyDesc, boolean(s.State == cluster.StateHealthy))
	gauge(toleranceDesc, float64(s.Tolerance))
	gauge(orphansDesc, float64(orphans))
	gauge(differDesc, boolean(s.StatesDifferAt > 0))
	if s.Leader != s.SeenBy { // one peer tells, so that sums are right
		orphans = 0
	}
	gauge(sessionsDesc, float64(orphans), "orphan")
	return all
}

func sizeMetrics(sizes cluster.Sizes, sessions session.Stats) (all []prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		all = append(all, prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...))
	}
	gauge(sessionsDesc, float64(sessions.Sessions-sessions.Suspended), "open")
	gauge(sessionsDesc, float64(sessions.Suspended), "suspended")
	gauge(producersDesc, float64(sizes.ActiveProducers), "active")
	gauge(producersDesc, float64(sizes.SuspendedProducers), "suspended")
	gauge(tombsDesc, float64(sizes.Tombstones))
	gauge(gossipDesc, float64(sizes.GossipAlive), "alive")
	gauge(gossipDesc, float64(sizes.GossipAbsent), "absent")
	gauge(logDesc, float64(sizes.LogBytes))
	gauge(stateDesc, float64(sizes.StateBytes))
	taken := 0.0
	if !sizes.LastSnapshot.IsZero() {
		taken = float64(sizes.LastSnapshot.UnixMilli()) / 1000
	}
	gauge(snapshotDesc, taken)
	return all
}
