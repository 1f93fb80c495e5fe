package workload

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/lookupd/lookupd/bench/load"
	"github.com/lookupd/lookupd/bench/report"
	"github.com/lookupd/lookupd/bench/target"
)

const (
	stopTimeout  = 10 * time.Second
	hugeTimeout  = 2 * time.Minute
	snapshotWait = 45 * time.Second // snapshots are considered every 15 to 30 s
)

// huge compares a huge registry with a small one, and measures what the huge
// one takes.
func (b *Bench) huge(ctx context.Context) error {
	return b.withFleet(func(f *target.Fleet) error {
		var c clients
		defer c.close()
		asker, err := c.start(ctx, load.Job{})
		if err != nil {
			return err
		}
		s := b.Run.Sizes
		few, err := b.registry(ctx, f, &c, "few", s.Holders)
		if err != nil {
			return err
		}
		many, err := b.registry(ctx, f, &c, "many", s.HugeProducers)
		if err != nil {
			return err
		}
		if err := few.grow(ctx, asker, s.Few); err != nil {
			return err
		}
		began := time.Now()
		if err := many.grow(ctx, asker, s.Many); err != nil {
			return err
		}
		b.noteHuge("filled and checked", report.Seconds, time.Since(began).Seconds())
		if err := b.compareSizes(ctx, asker, few, many); err != nil {
			return err
		}
		if err := b.resources(ctx, many.target); err != nil {
			return err
		}
		return b.restarts(ctx, many.target)
	})
}

func (b *Bench) noteHuge(system, metric string, value float64) {
	b.Run.Add(report.Key{Workload: report.Huge, System: system, Metric: metric}, value)
}

// registry starts three peers with an empty data set.
func (b *Bench) registry(ctx context.Context, f *target.Fleet, c *clients, name string, producers int) (*dataset, error) {
	t, err := f.Lookupd(ctx, name, 3)
	if err != nil {
		return nil, err
	}
	return b.overV1(ctx, c, t, producers)
}

// compareSizes asks both registries for topics drawn at random. The answers
// have one size; those of all topics have been asked for once before.
func (b *Bench) compareSizes(ctx context.Context, asker *load.Process, few, many *dataset) error {
	r := &readers{Bench: b, asker: asker}
	var all []contender
	for _, d := range []*dataset{few, many} {
		name := report.RegistrationsText(b.Run.Sizes, d.topics)
		r.topics = d.topics
		all = append(all,
			r.getting(leaderOf(name, d.target), lookupPath, 1),
			r.getting(followerOf(name+", follower", d.target), lookupPath, 1))
	}
	return b.contest(ctx, report.Huge, all...)
}

// resources notes memory and disk once the last snapshot is written.
func (b *Bench) resources(ctx context.Context, t *target.Target) error {
	wait := snapshotWait
	if b.Quick {
		wait = time.Second
	}
	if err := pause(ctx, wait); err != nil {
		return err
	}
	for _, c := range []struct {
		system string
		of     func(*target.Node) (int64, error)
	}{
		{"largest peer", func(n *target.Node) (int64, error) { return n.Memory("VmRSS") }},
		{"largest peer, without mapped files", func(n *target.Node) (int64, error) { return n.Memory("RssAnon") }},
		{"largest data directory", func(n *target.Node) (int64, error) { return target.DiskBytes(n.Data) }},
		{"largest state", func(n *target.Node) (int64, error) { return target.DiskBytes(filepath.Join(n.Data, "state")) }},
		{"largest snapshots, all that are kept", func(n *target.Node) (int64, error) {
			return target.DiskBytes(filepath.Join(n.Data, "raft", "snapshots"))
		}},
	} {
		var most int64
		for _, n := range t.Nodes {
			bytes, err := c.of(n)
			if err != nil {
				return err
			}
			most = max(most, bytes)
		}
		b.noteHuge(c.system, report.MB, float64(most)/1e6)
	}
	return nil
}

// restarts measures each peer's way from its start to ready: with its data, and
// at last one without, which takes a snapshot from the leader.
func (b *Bench) restarts(ctx context.Context, t *target.Target) error {
	nodes := slices.Clone(t.Nodes) // whose order changes with the leader
	for _, n := range nodes {
		if err := b.restartOne(ctx, t, n); err != nil {
			return err
		}
	}
	empty := t.Nodes[1]
	if err := empty.Stop(stopTimeout); err != nil {
		return err
	}
	if err := os.RemoveAll(empty.Data); err != nil {
		return err
	}
	return b.startToReady(ctx, t, empty, "start without data to ready")
}

func (b *Bench) restartOne(ctx context.Context, t *target.Target, n *target.Node) error {
	if err := n.Stop(stopTimeout); err != nil {
		return err
	}
	return b.startToReady(ctx, t, n, "restart to ready")
}

func (b *Bench) startToReady(ctx context.Context, t *target.Target, n *target.Node, name string) error {
	ctx, cancel := context.WithTimeout(ctx, hugeTimeout)
	defer cancel()
	began := time.Now()
	if err := n.Start(); err != nil {
		return err
	}
	if err := n.WaitReady(ctx); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	b.noteHuge(name, report.Seconds, time.Since(began).Seconds())
	b.logf("%s, %s: %.2f s", report.Huge, name, time.Since(began).Seconds())
	return t.Settle(ctx)
}
