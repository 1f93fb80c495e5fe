package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/lookupd/lookupd/supervisor"
)

const (
	stopWithin    = 10 * time.Second       // lookupd promises 5 s
	electWithin   = 15 * time.Second       // limit for a new leader
	readyWithin   = 15 * time.Second       // limit for a started process
	watchFollower = 500 * time.Millisecond // how long the loss of a follower is watched
)

// do carries out a sub-command.
func (c *devCluster) do(ctx context.Context, verb, name string) (string, error) {
	d, err := c.find(name)
	if err != nil {
		return "", err
	}
	switch verb {
	case "kill":
		return c.kill(ctx, d)
	case "start":
		return c.startOne(ctx, d)
	case "restart":
		return c.restart(ctx, d)
	case "logs":
		return fmt.Sprintf("%s%s: %s", d.LogTail(), d.Name(), d.LogPath()), nil
	}
	return "", fmt.Errorf("dev has no %q", verb)
}

func (c *devCluster) find(name string) (daemon, error) {
	var names []string
	for _, d := range c.daemons() {
		if d.Name() == name {
			return d, nil
		}
		names = append(names, d.Name())
	}
	return nil, fmt.Errorf("nothing is called %q here; there are %s", name, strings.Join(names, ", "))
}

func (c *devCluster) startOne(ctx context.Context, d daemon) (string, error) {
	began := time.Now()
	if err := d.Start(); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	err := d.WaitReady(ctx)
	switch {
	case err == nil:
		return fmt.Sprintf("  %s started. Ready after %s.", d.Name(), seconds(time.Since(began))), nil
	case d.Running() && c.quorumLost():
		return fmt.Sprintf("  %s started. Not ready: no quorum, start another.", d.Name()), nil
	}
	return "", err
}

func (c *devCluster) restart(ctx context.Context, d daemon) (string, error) {
	if !d.Running() {
		return "", fmt.Errorf("%s does not run; start it with: lookupctl dev start %s", d.Name(), d.Name())
	}
	if err := d.Stop(stopWithin); err != nil {
		return "", err
	}
	message, err := c.startOne(ctx, d)
	return strings.Replace(message, "started", "stopped and started", 1), err
}

func (c *devCluster) quorumLost() bool {
	return len(c.peers.Running()) <= len(c.peers.Peers)/2
}

// kill ends a process with SIGKILL. Of a peer it tells what users of the others
// saw while the cluster got over it.
func (c *devCluster) kill(ctx context.Context, d daemon) (string, error) {
	if !d.Running() {
		return "", fmt.Errorf("%s does not run; start it with: lookupctl dev start %s", d.Name(), d.Name())
	}
	peer := c.peers.Peer(d.Name())
	if peer == nil {
		return fmt.Sprintf("  %s killed.", d.Name()), d.Kill()
	}
	var survivors []*supervisor.Peer
	for _, p := range c.peers.Running() {
		if p != peer {
			survivors = append(survivors, p)
		}
	}
	if len(survivors) <= len(c.peers.Peers)/2 {
		if err := d.Kill(); err != nil {
			return "", err
		}
		if len(survivors) == 0 {
			return fmt.Sprintf("  %s killed. No peer is up; nsqds and consumers keep what they know.", d.Name()), nil
		}
		return fmt.Sprintf("  %s killed. No quorum: %d of %d peers up; lookups answer 503, nsqds stay connected.",
			d.Name(), len(survivors), len(c.peers.Peers)), nil
	}
	return c.killMeasured(ctx, peer, survivors)
}

// killMeasured kills a peer that the others can do without.
func (c *devCluster) killMeasured(ctx context.Context, peer *supervisor.Peer, survivors []*supervisor.Peer) (string, error) {
	old, err := c.peers.WaitLeader(ctx)
	if err != nil {
		return "", err
	}
	before, err := registrations(ctx, survivors[0])
	if err != nil {
		return "", err
	}
	watch, err := supervisor.NewWatch(ctx, survivors)
	if err != nil {
		return "", err
	}
	defer watch.Stop()
	began := time.Now()
	if err := peer.Kill(); err != nil {
		return "", err
	}
	election, cancel := context.WithTimeout(ctx, electWithin)
	defer cancel()
	leader, err := c.peers.WaitLeader(election)
	took := time.Since(began)
	if err != nil {
		return "", fmt.Errorf("%s killed, and no new leader within %v: %w", peer.Name(), electWithin, err)
	}
	said := fmt.Sprintf("New leader %s after %s.", leader.Name(), seconds(took))
	if old != peer {
		said = fmt.Sprintf("Leader %s goes on.", leader.Name())
		pause(ctx, watchFollower)
	}
	after, err := registrations(ctx, leader)
	report := watch.Stop()
	if err != nil {
		return "", err
	}
	lost := 0
	for r := range before {
		if !after[r] {
			lost++
		}
	}
	said = fmt.Sprintf("  %s killed. %s Lookups wrong: %d, refused: %d. Registrations lost: %d.",
		peer.Name(), said, report.Wrong, report.Refused, lost)
	for _, example := range report.Examples {
		said += "\n    wrong: " + example
	}
	return said, nil
}

// pause waits, or returns early when ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// registrations returns what producers offer, as a peer sees it.
func registrations(ctx context.Context, p *supervisor.Peer) (map[string]bool, error) {
	var nodes struct {
		Producers []struct {
			BroadcastAddress string   `json:"broadcast_address"`
			TCPPort          int      `json:"tcp_port"`
			Topics           []string `json:"topics"`
		} `json:"producers"`
	}
	if err := p.GetJSON(ctx, "/nodes", &nodes); err != nil {
		return nil, err
	}
	all := map[string]bool{}
	for _, n := range nodes.Producers {
		for _, topic := range n.Topics {
			all[fmt.Sprintf("%s:%d %s", n.BroadcastAddress, n.TCPPort, topic)] = true
		}
	}
	return all, nil
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1fs", d.Seconds()) }
