package workload

import (
	"context"
	"fmt"
	"os"
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
		few, err := b.registry(ctx, f, &c, asker, "few", b.Run.Sizes.Few, b.Run.Sizes.Holders)
		if err != nil {
			return err
		}
		began := time.Now()
		many, err := b.registry(ctx, f, &c, asker, "many", b.Run.Sizes.Many, b.Run.Sizes.HugeProducers)
		if err != nil {
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

func (b *Bench) registry(ctx context.Context, f *target.Fleet, c *clients, asker *load.Process, name string, topics, producers int) (*dataset, error) {
	t, err := f.Lookupd(ctx, name, 3)
	if err != nil {
		return nil, err
	}
	d, err := b.overV1(ctx, c, t, producers)
	if err != nil {
		return nil, err
	}
	return d, d.grow(ctx, asker, topics)
}

// compareSizes asks both registries for topics drawn at random. The answers
// have one size; those of all topics have been asked for once before.
func (b *Bench) compareSizes(ctx context.Context, asker *load.Process, few, many *dataset) error {
	r := &readers{Bench: b, asker: asker}
	var all []contender
	for _, d := range []*dataset{few, many} {
		name := report.RegistrationsText(b.Run.Sizes, d.topics)
		leader := func() []string { return d.target.HTTP()[:1] }
		follower := func() []string { return d.target.HTTP()[1:2] }
		all = append(all,
			r.getting(name, d.target, leader, lookupPath, d.topics, 1),
			r.getting(name+", follower", d.target, follower, lookupPath, d.topics, 1))
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
	var resident, anonymous, disk int64
	for _, n := range t.Nodes {
		all, err := n.Memory("VmRSS")
		if err != nil {
			return err
		}
		own, err := n.Memory("RssAnon")
		if err != nil {
			return err
		}
		files, err := target.DiskBytes(n.Data)
		if err != nil {
			return err
		}
		resident, anonymous, disk = max(resident, all), max(anonymous, own), max(disk, files)
	}
	const megabyte = 1e6
	b.noteHuge("largest peer", report.MB, float64(resident)/megabyte)
	b.noteHuge("largest peer, without mapped files", report.MB, float64(anonymous)/megabyte)
	b.noteHuge("largest data directory", report.MB, float64(disk)/megabyte)
	return nil
}

// restarts measures each peer's way from its start to ready: with its data, and
// at last one without, which takes a snapshot from the leader.
func (b *Bench) restarts(ctx context.Context, t *target.Target) error {
	for i := range t.Nodes {
		if err := b.restartOne(ctx, t, t.Nodes[i], "restart to ready", func(string) error { return nil }); err != nil {
			return err
		}
	}
	if err := t.Settle(ctx); err != nil {
		return err
	}
	return b.restartOne(ctx, t, t.Nodes[1], "start without data to ready", os.RemoveAll)
}

func (b *Bench) restartOne(ctx context.Context, t *target.Target, n *target.Node, name string, change func(dir string) error) error {
	if err := n.Stop(stopTimeout); err != nil {
		return err
	}
	if err := change(n.Data); err != nil {
		return err
	}
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
