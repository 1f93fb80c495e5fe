package main

import (
	"context"
	"fmt"
	"net/url"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lookupd/lookupd/supervisor"
)

const (
	devPeers     = 3
	maxDevPeers  = 9
	devNSQDs     = 1
	maxDevNSQDs  = 9
	maxDevLoad   = 500              // a peer takes 512 connections from one address, and one peer may be left
	devStart     = time.Minute      // limit for the start of all; nine peers on two cores took 15 s
	devConnect   = 5 * time.Second  // limit for nsqd's first connections
	devPing      = 15 * time.Second // of simulated producers, as of nsqd
	devStep      = 100              // from a peer's ports to those of the next
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

// devSize says how much dev runs.
type devSize struct {
	peers, nsqds, load int
	nsqdAsked          bool // nsqds is no default
}

func (s devSize) validate() error {
	for _, limit := range []struct {
		name           string
		n, least, most int
	}{{"peers", s.peers, 1, maxDevPeers}, {"nsqd", s.nsqds, 0, maxDevNSQDs}, {"load", s.load, 0, maxDevLoad}} {
		if limit.n < limit.least || limit.n > limit.most {
			return fmt.Errorf("--%s %d: want %d to %d", limit.name, limit.n, limit.least, limit.most)
		}
	}
	return nil
}

// flags returns what peers of so large a cluster need.
func (s devSize) flags() []string {
	const enough, forEach = 7, 9 // peers that the default bears, connections for each
	if s.peers <= enough {
		return nil
	}
	return []string{"-peer-max-connections", strconv.Itoa(forEach * s.peers)}
}

// devPorts are the ports of all processes of dev.
type devPorts struct {
	peers []supervisor.PeerPorts
	nsqds []supervisor.NSQPorts
	admin int
}

// layout returns the ports that documentation shows, moved by shift.
func layout(size devSize, shift int) devPorts {
	ports := devPorts{admin: shift + 4171}
	for i := range size.nsqds {
		first := shift + 4150 + devStep*i
		ports.nsqds = append(ports.nsqds, supervisor.NSQPorts{TCP: first, HTTP: first + 1})
	}
	for i := range size.peers {
		first := shift + 4160 + devStep*i
		ports.peers = append(ports.peers, supervisor.PeerPorts{TCP: first, HTTP: first + 1, Peer: first + 2, Gossip: first + 3})
	}
	return ports
}

func (p devPorts) all() []int {
	all := []int{p.admin}
	for _, nsqd := range p.nsqds {
		all = append(all, nsqd.TCP, nsqd.HTTP)
	}
	for _, peer := range p.peers {
		all = append(all, peer.TCP, peer.HTTP, peer.Peer, peer.Gossip)
	}
	return all
}

// freeLayout moves all ports together until none is taken.
func freeLayout(size devSize) (devPorts, error) {
	for i := range devMaxShifts {
		if ports := layout(size, i*devShift); supervisor.PortsFree(ports.all()...) {
			return ports, nil
		}
	}
	first := layout(size, 0).all()
	return devPorts{}, fmt.Errorf("%w: tried %d-%d and the same up to %d higher", supervisor.ErrNoPorts,
		slices.Min(first), slices.Max(first), (devMaxShifts-1)*devShift)
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
	size    devSize
	ports   devPorts
	nsqds   []daemon         // none if the program is not there
	admin   daemon           // nil likewise
	load    *supervisor.Load // nil before start, and without --load
	missing []string
}

// newDevCluster adds the processes to the group, without starting them.
func newDevCluster(group *supervisor.Group, p programs, dir string, size devSize) (*devCluster, error) {
	ports, err := freeLayout(size)
	if err != nil {
		return nil, err
	}
	c := &devCluster{size: size, ports: ports}
	c.peers = group.NewCluster(supervisor.ClusterConfig{Path: p.lookupd, Dir: dir, Ports: ports.peers, Args: size.flags()})
	if p.nsqd == "" && size.nsqds > 0 {
		c.missing = append(c.missing, nsqdName)
	} else if err := c.addNSQDs(group, p.nsqd, dir); err != nil {
		return nil, err
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

// addNSQDs adds nsqd, nsqd2, nsqd3 and so on: the first keeps its name, and so
// its data, whatever their number.
func (c *devCluster) addNSQDs(group *supervisor.Group, path, dir string) error {
	for i, ports := range c.ports.nsqds {
		name := nsqdName
		if i > 0 {
			name += strconv.Itoa(i + 1)
		}
		nsqd, err := group.NewNSQD(supervisor.NSQDConfig{
			Name: name, Path: path, Dir: dir, Ports: ports, Lookupds: c.peers.TCPAddresses(),
		})
		if err != nil {
			return err
		}
		c.nsqds = append(c.nsqds, nsqd)
	}
	return nil
}

// nsq returns the processes of NSQ's programs.
func (c *devCluster) nsq() []daemon {
	if c.admin == nil {
		return c.nsqds
	}
	return append(slices.Clone(c.nsqds), c.admin)
}

// daemons returns all processes, peers first.
func (c *devCluster) daemons() []daemon {
	var all []daemon
	for _, p := range c.peers.Peers {
		all = append(all, p)
	}
	return append(all, c.nsq()...)
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
	for _, d := range c.nsq() {
		if err := d.Start(); err != nil {
			return err
		}
		if err := d.WaitReady(ctx); err != nil {
			return err
		}
	}
	return c.startLoad(ctx)
}

func (c *devCluster) startLoad(ctx context.Context) (err error) {
	if c.size.load == 0 {
		return nil
	}
	if c.load, err = supervisor.StartLoad(c.peers.TCPAddresses(), c.size.load, devPing); err != nil {
		return err
	}
	return c.load.WaitDeclared(ctx)
}

func (c *devCluster) stopLoad() error {
	if c.load == nil {
		return nil
	}
	return c.load.Close()
}

// describe tells the user what runs where, and what to try.
func (c *devCluster) describe(ctx context.Context) string {
	right := append(c.describeNSQ(ctx), c.describeLoad()...)
	leader, err := c.peers.Leader(ctx)
	left := c.describePeers(leader)
	var b strings.Builder
	for i := range max(len(left), len(right)) {
		line := strings.Repeat(" ", len(left[0]))
		if i < len(left) {
			line = left[i]
		}
		if i < len(right) {
			line += "       " + right[i]
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	for _, name := range c.missing {
		fmt.Fprintf(&b, "  -- %s is not on PATH, so it does not run\n", name)
	}
	last := c.peers.Peers[len(c.peers.Peers)-1]
	if len(c.nsqds) > 0 {
		fmt.Fprintf(&b, "    curl -d hello 'http://%s/pub?topic=orders'\n", supervisor.Address(c.ports.nsqds[0].HTTP))
	} else {
		fmt.Fprintf(&b, "    curl -X POST '%s'\n", c.peers.Peers[0].URL("/topic/create?topic=orders"))
	}
	fmt.Fprintf(&b, "    curl '%s'     # asked %s\n", last.URL("/lookup?topic=orders"), last.Name())
	if c.load != nil {
		fmt.Fprintf(&b, "    lookupctl -a %s producers\n", last.HTTPAddress())
	}
	if err == nil {
		fmt.Fprintf(&b, "    lookupctl dev kill %s     # kills the leader\n", leader.Name())
	}
	fmt.Fprintf(&b, "  Logs and data: %s\n", filepath.Dir(last.LogPath()))
	return b.String()
}

// describePeers returns a line for each peer; leader may be nil.
func (c *devCluster) describePeers(leader *supervisor.Peer) (lines []string) {
	for _, p := range c.peers.Peers {
		role := "follower"
		if p == leader {
			role = "leader"
		}
		lines = append(lines, fmt.Sprintf("  ok %s  tcp %d  http %d  %-8s", p.Name(), p.Ports().TCP, p.Ports().HTTP, role))
	}
	return lines
}

// describeNSQ returns a line for each process of NSQ's programs.
func (c *devCluster) describeNSQ(ctx context.Context) (lines []string) {
	sessions := c.waitSessions(ctx)
	for i, d := range c.nsqds {
		ports := c.ports.nsqds[i]
		lines = append(lines, fmt.Sprintf("ok %-8s  %d/%d  on %d of %d peers", d.Name(), ports.TCP, ports.HTTP, sessions[i], len(c.peers.Peers)))
	}
	if c.admin != nil {
		lines = append(lines, fmt.Sprintf("ok %-8s  http://%s", adminName, supervisor.Address(c.ports.admin)))
	}
	return lines
}

func (c *devCluster) describeLoad() []string {
	if c.load == nil {
		return nil
	}
	topics := "topic " + supervisor.LoadTopic(0)
	if n := supervisor.LoadTopics(c.size.load); n > 1 {
		topics = fmt.Sprintf("topics %s to %s", supervisor.LoadTopic(0), supervisor.LoadTopic(n-1))
	}
	return []string{fmt.Sprintf("ok %-8s  %d of %s connected, %s", "load", c.load.Declared(), plural(c.size.load, "producer"), topics)}
}

// waitSessions returns, for each nsqd, the number of peers to which it is
// connected, after it had time to connect to all.
func (c *devCluster) waitSessions(ctx context.Context) []int {
	ctx, cancel := context.WithTimeout(ctx, devConnect)
	defer cancel()
	connected := make([]int, len(c.nsqds))
	_ = supervisor.Poll(ctx, func(ctx context.Context) (err error) { // what there is in the end is shown
		for i, ports := range c.ports.nsqds[:len(c.nsqds)] {
			if connected[i], err = c.sessions(ctx, supervisor.Address(ports.TCP)); err != nil {
				return err
			}
			if connected[i] < len(c.peers.Peers) {
				return fmt.Errorf("%s is on %d peers", c.nsqds[i].Name(), connected[i])
			}
		}
		return nil
	})
	return connected
}

// sessions returns the number of peers to which a producer is connected.
func (c *devCluster) sessions(ctx context.Context, id string) (n int, err error) {
	var found producersDocument
	if err := c.peers.Peers[0].GetJSON(ctx, "/v1/producers?prefix="+url.QueryEscape(id), &found); err != nil {
		return 0, err
	}
	for _, p := range found.Producers {
		for _, s := range p.Sessions {
			if p.ID == id && s.State == "open" {
				n++
			}
		}
	}
	return n, nil
}
