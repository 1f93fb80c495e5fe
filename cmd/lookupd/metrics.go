package main

import (
	"math"
	"runtime"
	"runtime/debug"
	"strings"

	gometrics "github.com/hashicorp/go-metrics"
	gometricsprom "github.com/hashicorp/go-metrics/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/session"
	"github.com/lookupd/lookupd/store"
	"github.com/lookupd/lookupd/tcpproto"
)

// newMetricsRegistry returns what /metrics shows: lookupd's own metrics, added
// by whoever makes them, Go's, and those of raft, raft-boltdb and memberlist,
// which report to a global registry of their own.
func newMetricsRegistry() (*prometheus.Registry, error) {
	reg := prometheus.NewRegistry()
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "lookupd_build_info", Help: "Always 1; the labels tell the version."}, []string{"version", "goversion", "revision"})
	info.WithLabelValues(version, runtime.Version(), revision()).Set(1)
	reg.MustRegister(info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	sink, err := gometricsprom.NewPrometheusSinkFrom(gometricsprom.PrometheusOpts{Registerer: reg})
	if err != nil {
		return nil, err
	}
	cfg := gometrics.DefaultConfig("")
	cfg.EnableHostname, cfg.EnableRuntimeMetrics = false, false
	if _, err := gometrics.NewGlobal(cfg, sink); err != nil {
		return nil, err
	}
	return reg, nil
}

// revision is the commit that this binary was built from, "unknown" if Go was not told.
func revision() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return "unknown"
}

// registerGauges shows what is counted elsewhere anyway.
func registerGauges(reg prometheus.Registerer, node *cluster.Node, sessions *session.Manager) {
	gauge := func(name, help string, value func() float64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
	}
	gauge("lookupd_declared_pending", "Changes that nsqds declared here and that are not committed.", func() float64 { return float64(sessions.Stats().DeclaredPending) })
	for name, count := range map[string]func(registry.Counts) int{
		"lookupd_topics":        func(c registry.Counts) int { return c.Topics },
		"lookupd_channels":      func(c registry.Counts) int { return c.Channels },
		"lookupd_registrations": func(c registry.Counts) int { return c.Registrations },
	} {
		gauge(name, "In the registry, as this peer has it.", func() float64 {
			var n int
			if err := node.View(func(v *store.View) error { n = count(v.Counts()); return nil }); err != nil {
				return math.NaN()
			}
			return float64(n)
		})
	}
	raft := func(value func(cluster.RaftInfo) float64) func() float64 {
		return func() float64 { return value(node.RaftInfo()) }
	}
	gauge("lookupd_raft_is_leader", "1 on the leader.", raft(func(r cluster.RaftInfo) float64 { return boolean(r.IsLeader) }))
	gauge("lookupd_raft_has_leader", "1 if this peer knows a leader.", raft(func(r cluster.RaftInfo) float64 { return boolean(r.HasLeader) }))
	gauge("lookupd_raft_term", "Current term.", raft(func(r cluster.RaftInfo) float64 { return float64(r.Term) }))
	gauge("lookupd_raft_commit_index", "Committed entries that this peer knows of.", raft(func(r cluster.RaftInfo) float64 { return float64(r.CommitIndex) }))
	gauge("lookupd_raft_last_contact_seconds", "Since the leader was last heard, 0 on the leader, -1 if never.", raft(func(r cluster.RaftInfo) float64 { return r.LastContact.Seconds() }))
	gauge("lookupd_applied_index", "Entries that this peer's state has applied.", raft(func(r cluster.RaftInfo) float64 { return float64(r.AppliedIndex) }))
}

// listeners shows what the V1 and peer ports count; the HTTP port does so itself.
type listeners struct {
	tcp  *tcpproto.Server
	node *cluster.Node
}

// Describe says nothing: the reasons of refusals are known when they happen.
func (listeners) Describe(chan<- *prometheus.Desc) {}

// Collect sends the numbers of this moment, under httpapi's names and words.
func (l listeners) Collect(out chan<- prometheus.Metric) {
	open := prometheus.NewDesc("lookupd_connections", "Open connections.", []string{"listener"}, nil)
	refused := prometheus.NewDesc("lookupd_refused_total", "Refused connections and requests.", []string{"listener", "reason"}, nil)
	stats := l.tcp.Stats()
	out <- prometheus.MustNewConstMetric(open, prometheus.GaugeValue, float64(stats.Connections), "tcp")
	out <- prometheus.MustNewConstMetric(open, prometheus.GaugeValue, float64(l.node.PeerConnections()), "peer")
	for reason, n := range stats.Refused {
		out <- prometheus.MustNewConstMetric(refused, prometheus.CounterValue, float64(n), "tcp", strings.ToLower(reason))
	}
	out <- prometheus.MustNewConstMetric(refused, prometheus.CounterValue, float64(l.node.Refused()), "peer", "connections")
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
