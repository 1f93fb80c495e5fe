package supervisor

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
)

// ErrNoLeader: no peer that is asked knows a leader that serves.
var ErrNoLeader = errors.New("no leader")

// Cluster is several peers that form one lookupd cluster.
type Cluster struct {
	Peers []*Peer
}

// ClusterConfig describes a cluster; its peers are called a, b, c and so on.
type ClusterConfig struct {
	Path  string // of the lookupd executable
	Dir   string
	Ports []PeerPorts // one per peer
	Args  []string    // further flags of each peer
	Env   []string
}

// NewCluster adds the peers to the group, without starting them. A cluster of
// one is started with no flags of the cluster at all.
func (g *Group) NewCluster(config ClusterConfig) *Cluster {
	c := &Cluster{}
	for i, ports := range config.Ports {
		peer := PeerConfig{
			Name: string(rune('a' + i)), Path: config.Path, Dir: config.Dir, Ports: ports,
			Args: config.Args, Env: config.Env,
		}
		if len(config.Ports) > 1 {
			peer.Join, peer.Expect = gossipAddresses(config.Ports), len(config.Ports)
		}
		c.Peers = append(c.Peers, g.NewPeer(peer))
	}
	return c
}

func gossipAddresses(ports []PeerPorts) []string {
	addresses := make([]string, len(ports))
	for i, p := range ports {
		addresses[i] = Address(p.Gossip)
	}
	return addresses
}

// Start starts all peers and waits until all are ready.
func (c *Cluster) Start(ctx context.Context) error {
	for _, p := range c.Peers {
		if err := p.Start(); err != nil {
			return err
		}
	}
	return c.WaitReady(ctx)
}

// WaitReady waits until all peers are ready, one has exited or ctx ends.
func (c *Cluster) WaitReady(ctx context.Context) error {
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	return c.each(func(p *Peer) error {
		err := p.WaitReady(ctx)
		if err != nil {
			giveUp(fmt.Errorf("%s will not be ready", p.Name())) // nor will all
		}
		return err
	})
}

// Kill ends all peers with SIGKILL, all at once.
func (c *Cluster) Kill() error { return c.each((*Peer).Kill) }

func (c *Cluster) each(do func(*Peer) error) error {
	errs := make([]error, len(c.Peers))
	var wait sync.WaitGroup
	for i, p := range c.Peers {
		wait.Go(func() { errs[i] = do(p) })
	}
	wait.Wait()
	return errors.Join(errs...)
}

// Move gives all peers other ports for their next start.
func (c *Cluster) Move(ports []PeerPorts) {
	for i, p := range c.Peers {
		p.Move(ports[i], gossipAddresses(ports))
	}
}

// Peer returns the peer of that name, or nil.
func (c *Cluster) Peer(name string) *Peer {
	for _, p := range c.Peers {
		if p.Name() == name {
			return p
		}
	}
	return nil
}

// Running returns the peers that run.
func (c *Cluster) Running() []*Peer {
	var running []*Peer
	for _, p := range c.Peers {
		if p.Running() {
			running = append(running, p)
		}
	}
	return running
}

// HTTPAddresses returns the peers' HTTP addresses, in order.
func (c *Cluster) HTTPAddresses() []string {
	addresses := make([]string, len(c.Peers))
	for i, p := range c.Peers {
		addresses[i] = p.HTTPAddress()
	}
	return addresses
}

// TCPAddresses returns the peers' V1 addresses, in order.
func (c *Cluster) TCPAddresses() []string {
	addresses := make([]string, len(c.Peers))
	for i, p := range c.Peers {
		addresses[i] = p.TCPAddress()
	}
	return addresses
}

// Leader returns the running peer that a running peer names as its leader, and
// that answers a linearizable read at present.
func (c *Cluster) Leader(ctx context.Context) (*Peer, error) {
	last := ErrNoLeader
	for _, p := range c.Running() {
		name, err := p.Leader(ctx)
		if err != nil {
			last = fmt.Errorf("%w: %w", ErrNoLeader, err)
			continue
		}
		leader := c.Peer(name)
		if leader == nil || !leader.Running() {
			last = fmt.Errorf("%w: %s knows %q", ErrNoLeader, p.Name(), name)
			continue
		}
		status, body, err := Get(ctx, leader.URL("/topics"))
		if err == nil && status == http.StatusOK {
			return leader, nil
		}
		last = fmt.Errorf("%w: %s does not serve: %d %.100s %v", ErrNoLeader, name, status, body, err)
	}
	return nil, last
}

// WaitLeader waits until there is a leader that serves.
func (c *Cluster) WaitLeader(ctx context.Context) (*Peer, error) {
	var leader *Peer
	err := Poll(ctx, func(ctx context.Context) (err error) {
		leader, err = c.Leader(ctx)
		return err
	})
	return leader, err
}
