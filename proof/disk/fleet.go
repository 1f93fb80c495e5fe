package disk

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/lookupd/lookupd/supervisor"
)

const (
	peersPerCluster = 3
	// patience is how long peers may take to be well again.
	patience = 60 * time.Second
)

// fleet is a cluster, and the questions that all tests have to it.
type fleet struct {
	group   *supervisor.Group
	cluster *supervisor.Cluster
	web     *web
}

// newFleet makes peers a, b and c without starting them: each with its data in
// dir of its name, its output in logs. lookupd is the path of the executable.
func newFleet(lookupd, logs string, dir func(name string) string) (*fleet, error) {
	f := &fleet{group: supervisor.NewGroup(), web: newWeb(), cluster: &supervisor.Cluster{}}
	ports, err := supervisor.FreePeerPorts(peersPerCluster)
	if err != nil {
		return nil, errors.Join(err, f.end())
	}
	var join []string
	for _, p := range ports {
		join = append(join, supervisor.Address(p.Gossip))
	}
	for i, p := range ports {
		name := string(rune('a' + i))
		f.cluster.Peers = append(f.cluster.Peers, f.group.NewPeer(supervisor.PeerConfig{
			Name: name, Path: lookupd, Dir: dir(name), Log: filepath.Join(logs, name+".log"), Ports: p,
			Join: join, Expect: peersPerCluster,
			// Nothing but changes makes registrations go.
			Args: []string{"-inactive-producer-timeout=1h", "-tombstone-lifetime=1h"},
		}))
	}
	return f, nil
}

// end kills the peers.
func (f *fleet) end() error {
	f.web.close()
	return f.group.KillAll()
}

// start starts peers without waiting for them.
func (f *fleet) start(peers ...*supervisor.Peer) error {
	for _, p := range peers {
		if err := p.Start(); err != nil {
			return err
		}
	}
	return nil
}

// waitWell waits until these peers are ready and there is a leader that serves.
// A peer that has exited, and so needs hands, ends the wait.
func (f *fleet) waitWell(ctx context.Context, peers ...*supervisor.Peer) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	results := make(chan error, len(peers))
	for _, p := range peers {
		go func() { results <- p.WaitReady(ctx) }()
	}
	var first error
	for range peers {
		if err := <-results; err != nil && first == nil {
			first = err
			cancel()
		}
	}
	if first != nil {
		return first
	}
	_, err := f.cluster.WaitLeader(ctx)
	return err
}

// check compares these peers' linearizable lookups with the book, and returns
// what is wrong. With producers it looks for these too.
func (f *fleet) check(ctx context.Context, peers []*supervisor.Peer, b *book, producers bool) (wrong []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var mu sync.Mutex
	var wait sync.WaitGroup
	for _, p := range peers {
		wait.Go(func() {
			var these []string
			failure := f.ask(ctx, p, b, func(t *topicBook, s shown) {
				for _, w := range t.compare(s, producers) {
					these = append(these, "at "+p.Name()+": "+w)
				}
			})
			mu.Lock()
			defer mu.Unlock()
			wrong, err = append(wrong, these...), errors.Join(err, failure)
		})
	}
	wait.Wait()
	return wrong, err
}

// settle decides, by one peer's answers, what is unknown in a book of which
// nobody tries anything any more.
func (f *fleet) settle(ctx context.Context, p *supervisor.Peer, b *book) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return f.ask(ctx, p, b, (*topicBook).settle)
}

// ask makes a lookup of each topic.
func (f *fleet) ask(ctx context.Context, p *supervisor.Peer, b *book, use func(*topicBook, shown)) error {
	for _, t := range b.order {
		var s shown
		err := supervisor.Poll(ctx, func(ctx context.Context) (err error) {
			if s, err = f.web.lookup(ctx, p.HTTPAddress(), t.name); err != nil && !p.Running() {
				return nil // the next step finds out
			}
			return err
		})
		if err == nil && !p.Running() {
			err = fmt.Errorf("%w: exit code %d", supervisor.ErrExited, p.ExitCode())
		}
		if err != nil {
			return fmt.Errorf("lookup of %s at %s: %w", t.name, p.Name(), err)
		}
		use(t, s)
	}
	return nil
}

// sameState waits until these peers have the same state at the same index.
func (f *fleet) sameState(ctx context.Context, peers []*supervisor.Peer) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return supervisor.Poll(ctx, func(ctx context.Context) error {
		var seen []string
		var first status
		same := true
		for i, p := range peers {
			s, err := f.web.status(ctx, p.HTTPAddress())
			if err != nil {
				return err
			}
			if i == 0 {
				first = s
			}
			same = same && s.StateHash != "" && s.StateHash == first.StateHash && s.Index == first.Index
			seen = append(seen, fmt.Sprintf("%s: %s at %d", p.Name(), s.StateHash, s.Index))
		}
		if !same {
			return fmt.Errorf("states differ: %s", strings.Join(seen, ", "))
		}
		return nil
	})
}

// life is a fleet from its founding to its end, each peer on a disk of its own.
type life struct {
	*fleet
	disks *Disks
}

// newLife makes a fleet that is not started, with its disks in disks.
func newLife(ctx context.Context, lookupd, disks, logs string) (l *life, err error) {
	l = &life{}
	if l.disks, err = NewDisks(ctx, disks, "a", "b", "c"); err != nil {
		return nil, err
	}
	if l.fleet, err = newFleet(lookupd, logs, func(name string) string { return l.disks.Image(name).Dir() }); err != nil {
		return nil, errors.Join(err, l.disks.Close())
	}
	return l, nil
}

// end kills the peers and removes their disks.
func (l *life) end() error { return errors.Join(l.fleet.end(), l.disks.Close()) }

func (l *life) image(p *supervisor.Peer) *Image { return l.disks.Image(p.Name()) }
