package target

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/lookupd/lookupd/supervisor"
)

// LookupdLimits raises the limits that one machine full of clients meets and
// that many machines would not; all else is lookupd's default.
func LookupdLimits() []string {
	return []string{
		"-tcp-max-connections", "50000",
		"-tcp-max-connections-per-address", "50000", // all clients have one address
		"-tcp-accept-rate", "20000", "-tcp-accept-burst", "20000", // a storm is to be measured, not held back
		"-tcp-command-rate", "1000000", // the data set comes through few sessions
		"-http-max-connections-per-address", "4096",
		"-max-registrations", "20000000", "-max-registrations-per-producer", "1000000", "-max-topics", "1000000",
	}
}

// Lookupd starts a cluster of so many peers.
func (f *Fleet) Lookupd(ctx context.Context, name string, peers int) (*Target, error) {
	dir, err := f.place(name)
	if err != nil {
		return nil, err
	}
	ports, err := supervisor.FreePeerPorts(peers)
	if err != nil {
		return nil, err
	}
	cluster := f.group.NewCluster(supervisor.ClusterConfig{Path: f.binaries.Lookupd, Dir: dir, Ports: ports, Args: LookupdLimits()})
	t := &Target{Name: name}
	for _, p := range cluster.Peers {
		t.Nodes = append(t.Nodes, &Node{Process: p.Process, HTTP: p.HTTPAddress(), V1: p.TCPAddress(), Data: p.DataPath(), Peer: p})
	}
	t.leader = func(ctx context.Context) (*Node, error) {
		leader, err := cluster.Leader(ctx)
		if err != nil {
			return nil, err
		}
		for _, n := range t.Nodes {
			if n.Peer == leader {
				return n, nil
			}
		}
		return nil, supervisor.ErrNoLeader
	}
	// A peer sets its flags when it starts; afterwards they stay.
	for _, p := range cluster.Peers {
		if err := p.Start(); err != nil {
			return nil, err
		}
	}
	return t, t.ready(ctx)
}

// Metric returns the sum of a lookupd metric over its labels.
func (n *Node) Metric(ctx context.Context, name string) (float64, error) {
	status, body, err := supervisor.Get(ctx, "http://"+n.HTTP+"/metrics")
	if err != nil || status != http.StatusOK {
		return 0, fmt.Errorf("metrics of %s: %d %w", n.Name(), status, err)
	}
	return metricValue(string(body), name)
}

// metricValue finds a metric in Prometheus's text form.
func metricValue(text, name string) (sum float64, err error) {
	found := false
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), name)
		if !ok || rest == "" || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		v, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		if err != nil {
			return 0, fmt.Errorf("metric %s: %w", name, err)
		}
		sum, found = sum+v, true
	}
	if !found {
		return 0, fmt.Errorf("there is no metric %s", name)
	}
	return sum, nil
}
