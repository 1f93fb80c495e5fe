package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/supervisor"
)

const (
	devPeers     = 3
	devStart     = 30 * time.Second // limit for the start of all
	devConnect   = 5 * time.Second  // limit for nsqd's first connections
	devShift     = 1000             // ports move by this when one is taken
	devMaxShifts = 20
	nsqdName     = "nsqd"
	adminName    = "nsqadmin"
)

// programs are the executables that dev runs; those of NSQ may be "".
type programs struct{ lookupd, nsqd, nsqadmin string }

// findPrograms looks for lookupd next to this executable, then on PATH, and for
// NSQ's programs on PATH.
func findPrograms() (programs, error) {
	var p programs
	var err error
	if p.lookupd, err = findLookupd(); err != nil {
		return p, err
	}
	p.nsqd, _ = exec.LookPath(nsqdName)      // optional
	p.nsqadmin, _ = exec.LookPath(adminName) // optional
	return p, nil
}

// devPorts are the ports of all processes of dev.
type devPorts struct {
	peers []supervisor.PeerPorts
	nsqd  supervisor.NSQPorts
	admin int
}

// layout returns the ports that documentation shows, moved by shift.
func layout(shift int) devPorts {
	ports := devPorts{nsqd: supervisor.NSQPorts{TCP: shift + 4150, HTTP: shift + 4151}, admin: shift + 4171}
	for i := range devPeers {
		first := shift + 4160 + 100*i
		ports.peers = append(ports.peers, supervisor.PeerPorts{TCP: first, HTTP: first + 1, Peer: first + 2, Gossip: first + 3})
	}
	return ports
}

func (p devPorts) all() []int {
	all := []int{p.nsqd.TCP, p.nsqd.HTTP, p.admin}
	for _, peer := range p.peers {
		all = append(all, peer.TCP, peer.HTTP, peer.Peer, peer.Gossip)
	}
	return all
}

// freeLayout moves all ports together until none is taken.
func freeLayout() (devPorts, error) {
	for i := range devMaxShifts {
		if ports := layout(i * devShift); supervisor.PortsFree(ports.all()...) {
			return ports, nil
		}
	}
	return devPorts{}, fmt.Errorf("%w: tried 4150-4363 and the same up to %d higher", supervisor.ErrNoPorts, (devMaxShifts-1)*devShift)
}

// daemon is a process of dev, a peer or one of NSQ's.
type daemon interface {
	Name() string
	Start() error
	WaitReady(context.Context) error
	Kill() error
	Stop(time.Duration) error
	Running() bool
	LogPath() string
	LogTail() string
}

// devCluster is what dev runs.
type devCluster struct {
	peers   *supervisor.Cluster
	ports   devPorts
	nsqd    daemon // nil if the program is not there
	admin   daemon // likewise
	missing []string
}

// newDevCluster adds the processes to the group, without starting them.
func newDevCluster(group *supervisor.Group, p programs, dir string) (*devCluster, error) {
	ports, err := freeLayout()
	if err != nil {
		return nil, err
	}
	c := &devCluster{ports: ports}
	c.peers = group.NewCluster(supervisor.ClusterConfig{Path: p.lookupd, Dir: dir, Ports: ports.peers})
	if p.nsqd == "" {
		c.missing = append(c.missing, nsqdName)
	} else {
		nsqd, err := group.NewNSQD(supervisor.NSQDConfig{
			Name: nsqdName, Path: p.nsqd, Dir: dir, Ports: ports.nsqd, Lookupds: c.peers.TCPAddresses(),
		})
		if err != nil {
			return nil, err
		}
		c.nsqd = nsqd
	}
	if p.nsqadmin == "" {
		c.missing = append(c.missing, adminName)
	} else {
		c.admin = group.NewNSQAdmin(supervisor.NSQAdminConfig{
			Name: adminName, Path: p.nsqadmin, Dir: dir, Port: ports.admin, Lookupds: c.peers.HTTPAddresses(),
		})
	}
	return c, nil
}

// daemons returns all processes, peers first.
func (c *devCluster) daemons() []daemon {
	var all []daemon
	for _, p := range c.peers.Peers {
		all = append(all, p)
	}
	for _, d := range []daemon{c.nsqd, c.admin} {
		if d != nil {
			all = append(all, d)
		}
	}
	return all
}

// start starts everything and waits until it serves.
func (c *devCluster) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, devStart)
	defer cancel()
	if err := c.peers.Start(ctx); err != nil {
		return err
	}
	if _, err := c.peers.WaitLeader(ctx); err != nil {
		return err
	}
	for _, d := range []daemon{c.nsqd, c.admin} {
		if d == nil {
			continue
		}
		if err := d.Start(); err != nil {
			return err
		}
		if err := d.WaitReady(ctx); err != nil {
			return err
		}
	}
	return nil
}

// describe tells the user what runs where, and what to try.
func (c *devCluster) describe(ctx context.Context) string {
	right := c.describeNSQ(ctx)
	leader, err := c.peers.Leader(ctx)
	var b strings.Builder
	for i, p := range c.peers.Peers {
		role := "follower"
		if err == nil && leader == p {
			role = "leader"
		}
		line := fmt.Sprintf("  ok %s  tcp %d  http %d  %-8s", p.Name(), p.Ports().TCP, p.Ports().HTTP, role)
		if i < len(right) {
			line += "       " + right[i]
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	for _, name := range c.missing {
		fmt.Fprintf(&b, "  -- %s is not on PATH, so it does not run\n", name)
	}
	last := c.peers.Peers[len(c.peers.Peers)-1]
	if c.nsqd != nil {
		fmt.Fprintf(&b, "    curl -d hello 'http://%s/pub?topic=orders'\n", supervisor.Address(c.ports.nsqd.HTTP))
	} else {
		fmt.Fprintf(&b, "    curl -X POST '%s'\n", c.peers.Peers[0].URL("/topic/create?topic=orders"))
	}
	fmt.Fprintf(&b, "    curl '%s'     # asked %s\n", last.URL("/lookup?topic=orders"), last.Name())
	if err == nil {
		fmt.Fprintf(&b, "    lookupctl dev kill %s     # kills the leader\n", leader.Name())
	}
	fmt.Fprintf(&b, "  Logs and data: %s\n", filepath.Dir(last.LogPath()))
	return b.String()
}

// describeNSQ returns a line for each of NSQ's programs that runs.
func (c *devCluster) describeNSQ(ctx context.Context) []string {
	var lines []string
	if c.nsqd != nil {
		lines = append(lines, fmt.Sprintf("ok %-8s  %d/%d  on %d of %d peers", nsqdName, c.ports.nsqd.TCP, c.ports.nsqd.HTTP,
			c.waitSessions(ctx), len(c.peers.Peers)))
	}
	if c.admin != nil {
		lines = append(lines, fmt.Sprintf("ok %-8s  http://%s", adminName, supervisor.Address(c.ports.admin)))
	}
	return lines
}

// waitSessions returns the number of peers to which nsqd is connected, after it
// had time to connect to all.
func (c *devCluster) waitSessions(ctx context.Context) int {
	ctx, cancel := context.WithTimeout(ctx, devConnect)
	defer cancel()
	connected := 0
	_ = supervisor.Poll(ctx, func(ctx context.Context) error { // what there is in the end is shown
		var status cluster.Status
		if err := c.peers.Peers[0].GetJSON(ctx, "/v1/status", &status); err != nil {
			return err
		}
		connected = 0
		for _, p := range status.Peers {
			if p.Sessions > 0 {
				connected++
			}
		}
		if connected < len(c.peers.Peers) {
			return fmt.Errorf("nsqd is on %d peers", connected)
		}
		return nil
	})
	return connected
}
