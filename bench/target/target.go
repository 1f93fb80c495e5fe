package target

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/lookupd/lookupd/supervisor"
)

const startTimeout = 60 * time.Second

// Target is one system under test. The first of its processes is the leader as
// of the last Settle, where it has one.
type Target struct {
	Name  string
	Nodes []*Node
	// leader returns which node leads, nil where none does.
	leader func(context.Context) (*Node, error)
}

// Node is one process of a target.
type Node struct {
	*supervisor.Process
	HTTP string // address, "" if it has none; so the next two
	V1   string
	Etcd string
	Data string           // directory
	Peer *supervisor.Peer // of a lookupd
}

// Settle waits until the target has a leader and puts it first.
func (t *Target) Settle(ctx context.Context) error {
	if t.leader == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return supervisor.Poll(ctx, func(ctx context.Context) error {
		leader, err := t.leader(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", t.Name, err)
		}
		i := slices.Index(t.Nodes, leader)
		if i < 0 {
			return fmt.Errorf("%s: the leader is no node of it", t.Name)
		}
		t.Nodes[0], t.Nodes[i] = t.Nodes[i], t.Nodes[0]
		return nil
	})
}

// HTTP returns the HTTP addresses, the leader's first.
func (t *Target) HTTP() []string { return t.addresses(func(n *Node) string { return n.HTTP }) }

// V1 returns the addresses for nsqds, the leader's first.
func (t *Target) V1() []string { return t.addresses(func(n *Node) string { return n.V1 }) }

// Etcd returns etcd's client endpoints, the leader's first.
func (t *Target) Etcd() []string { return t.addresses(func(n *Node) string { return n.Etcd }) }

func (t *Target) addresses(of func(*Node) string) (addresses []string) {
	for _, n := range t.Nodes {
		if a := of(n); a != "" {
			addresses = append(addresses, a)
		}
	}
	return addresses
}

// Usage returns the processor time that the target's processes have used.
func (t *Target) Usage() time.Duration {
	var sum time.Duration
	for _, n := range t.Nodes {
		sum += n.Usage()
	}
	return sum
}

// Fleet is targets that run at the same time.
type Fleet struct {
	group    *supervisor.Group
	dir      string
	binaries Binaries
}

// NewFleet returns an empty fleet with its data below dir.
func NewFleet(dir string, binaries Binaries) (*Fleet, error) {
	dir, err := os.MkdirTemp(dir, "fleet-")
	if err != nil {
		return nil, err
	}
	return &Fleet{group: supervisor.NewGroup(), dir: dir, binaries: binaries}, nil
}

// Close kills all targets and removes their data.
func (f *Fleet) Close() error {
	return errors.Join(f.group.KillAll(), os.RemoveAll(f.dir))
}

// start starts the target's nodes and waits until they are ready.
func (t *Target) start(ctx context.Context) error {
	for _, n := range t.Nodes {
		if err := n.Start(); err != nil {
			return err
		}
	}
	return t.ready(ctx)
}

// ready waits until all nodes are ready and one leads.
func (t *Target) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for _, n := range t.Nodes {
		if err := n.WaitReady(ctx); err != nil {
			return err
		}
	}
	return t.Settle(ctx)
}

// place makes a directory for a target.
func (f *Fleet) place(name string) (string, error) {
	dir := filepath.Join(f.dir, name)
	return dir, os.MkdirAll(dir, 0o700)
}
