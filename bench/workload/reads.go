package workload

import (
	"context"
	"fmt"
	"sync"

	"github.com/lookupd/lookupd/bench/load"
	"github.com/lookupd/lookupd/bench/report"
	"github.com/lookupd/lookupd/bench/target"
)

const (
	lookupPath = "/lookup?topic="
	stalePath  = "/lookup?consistency=stale&topic="

	etcdClients = 64
	listers     = 8
)

// readers is what lookups are measured on.
type readers struct {
	*Bench
	clients
	asker                         *load.Process
	three, one, nsq, nsqLoud      *dataset
	etcdThree, etcdOne            *dataset
	bare                          *target.Target
	etcdOne1, etcdMany, etcdAlone *load.Process // etcd clients: one, many, many of a member alone
	topics                        int
}

// reads measures lookups and lists on growing data sets.
func (b *Bench) reads(ctx context.Context) error {
	return b.withFleet(func(f *target.Fleet) error {
		r := &readers{Bench: b}
		defer r.clients.close()
		if err := r.start(ctx, f); err != nil {
			return err
		}
		for _, topics := range []int{b.Run.Sizes.Small, b.Run.Sizes.Medium, b.Run.Sizes.Large} {
			if err := r.grow(ctx, topics); err != nil {
				return err
			}
			if err := r.startBare(ctx, f); err != nil {
				return err
			}
			if err := r.atThisSize(ctx); err != nil {
				return err
			}
		}
		return nil
	})
}

func (r *readers) atThisSize(ctx context.Context) error {
	if r.wants("lookup") {
		if err := r.lookups(ctx); err != nil {
			return err
		}
	}
	if r.wants("lists") {
		if err := r.lists(ctx); err != nil {
			return err
		}
	}
	if r.wants("mixed") && r.topics == r.Run.Sizes.Large {
		return r.mixed(ctx)
	}
	return nil
}

// start starts all but the bare handler, which needs an answer to copy.
func (r *readers) start(ctx context.Context, f *target.Fleet) (err error) {
	if r.asker, err = r.clients.start(ctx, load.Job{}); err != nil {
		return err
	}
	overV1 := func(t *target.Target, err error) (*dataset, error) {
		if err != nil {
			return nil, err
		}
		return r.overV1(ctx, &r.clients, t, r.Run.Sizes.Holders)
	}
	if r.three, err = overV1(f.Lookupd(ctx, "lookupd 3", 3)); err != nil {
		return err
	}
	if r.one, err = overV1(f.Lookupd(ctx, report.Alone, 1)); err != nil {
		return err
	}
	if r.nsq, err = overV1(f.NSQLookupd(ctx, report.NSQ, 1, true)); err != nil {
		return err
	}
	if r.nsqLoud, err = overV1(f.NSQLookupd(ctx, report.NSQLoud, 1, false)); err != nil {
		return err
	}
	r.nsq.scans, r.nsqLoud.scans = true, true
	return r.startEtcd(ctx, f)
}

func (r *readers) startEtcd(ctx context.Context, f *target.Fleet) error {
	three, err := f.Etcd(ctx, report.Etcd, 3)
	if err != nil {
		return err
	}
	one, err := f.Etcd(ctx, report.EtcdAlone, 1)
	if err != nil {
		return err
	}
	if r.etcdThree, err = r.overEtcd(ctx, &r.clients, three); err != nil {
		return err
	}
	if r.etcdOne, err = r.overEtcd(ctx, &r.clients, one); err != nil {
		return err
	}
	for _, c := range []struct {
		process   **load.Process
		endpoints []string
		clients   int
	}{{&r.etcdOne1, three.Etcd(), 1}, {&r.etcdMany, three.Etcd(), etcdClients}, {&r.etcdAlone, one.Etcd(), etcdClients}} {
		if *c.process, err = r.clients.start(ctx, load.Job{Dial: &load.Dial{Endpoints: c.endpoints, Clients: c.clients}}); err != nil {
			return err
		}
	}
	return nil
}

// startBare starts the bare handler once there is a lookup to copy.
func (r *readers) startBare(ctx context.Context, f *target.Fleet) (err error) {
	if r.bare == nil {
		r.bare, err = f.Bare(ctx, "http://"+r.three.target.HTTP()[0]+lookupPath+load.Topic(0))
	}
	return err
}

// grow fills all data sets, at the same time, and then checks them in turn.
func (r *readers) grow(ctx context.Context, topics int) error {
	r.topics = topics
	for _, d := range []*dataset{r.three, r.one, r.nsq, r.nsqLoud, r.etcdThree, r.etcdOne} {
		if err := d.grow(ctx, r.asker, topics); err != nil {
			return err
		}
	}
	return nil
}

// getting is a contender that is asked over HTTP.
func (r *readers) getting(system string, t *target.Target, addresses func() []string, path string, topics, connections int) contender {
	job := load.Get{Window: r.Window, Connections: connections, Path: path, Topics: topics}
	return contender{system: system, target: t, sample: func(context.Context) (load.Result, error) {
		job.Addresses = addresses()
		return r.asker.Do(load.Job{Get: &job})
	}}
}

// peers are the addresses of a cluster that a contender asks.
type peers struct {
	system string
	of     func() []string
}

func (r *readers) peers() []peers {
	t := r.three.target
	return []peers{
		{report.Leader, func() []string { return t.HTTP()[:1] }},
		{report.Follower, func() []string { return t.HTTP()[1:2] }},
		{report.All, t.HTTP},
	}
}

func (r *readers) lookups(ctx context.Context) error {
	for _, connections := range []int{1, 32, 128} {
		if err := r.contest(ctx, report.LookupWorkload(r.topics, connections), r.lookupContenders(connections)...); err != nil {
			return err
		}
	}
	return r.contest(ctx, report.LookupWorkload(r.topics, etcdClients),
		r.getting(report.All, r.three.target, r.three.target.HTTP, lookupPath, r.topics, etcdClients),
		r.ranging(report.Etcd, r.etcdThree.target, r.etcdMany, false),
		r.ranging(report.EtcdStale, r.etcdThree.target, r.etcdMany, true),
		r.ranging(report.EtcdAlone, r.etcdOne.target, r.etcdAlone, false),
	)
}

func (r *readers) lookupContenders(connections int) []contender {
	var all []contender
	for _, p := range r.peers() {
		if connections == 1 && p.system == report.All {
			continue // one connection is to one peer
		}
		all = append(all,
			r.getting(p.system, r.three.target, p.of, lookupPath, r.topics, connections),
			r.getting(report.Stale(p.system), r.three.target, p.of, stalePath, r.topics, connections))
	}
	all = append(all,
		r.getting(report.Bare, r.bare, r.bare.HTTP, lookupPath, r.topics, connections),
		r.getting(report.Alone, r.one.target, r.one.target.HTTP, lookupPath, r.topics, connections),
		r.getting(report.NSQ, r.nsq.target, r.nsq.target.HTTP, lookupPath, r.topics, connections))
	switch connections {
	case 1:
		all = append(all, r.ranging(report.Etcd, r.etcdThree.target, r.etcdOne1, false))
	case 128:
		all = append(all, r.getting(report.NSQLoud, r.nsqLoud.target, r.nsqLoud.target.HTTP, lookupPath, r.topics, connections))
	}
	return all
}

// ranging is a contender whose lookups are ranges of etcd's keys.
func (r *readers) ranging(system string, t *target.Target, process *load.Process, serializable bool) contender {
	job := load.Range{Window: r.Window, Topics: r.topics, Serializable: serializable, Want: r.Run.Sizes.Channels * r.Run.Sizes.Holders}
	return contender{system: system, target: t, sample: func(context.Context) (load.Result, error) {
		return process.Do(load.Job{Range: &job})
	}}
}

func (r *readers) lists(ctx context.Context) error {
	for _, path := range []string{"/nodes", "/topics"} {
		var all []contender
		for _, p := range r.peers()[:2] {
			all = append(all, r.getting(p.system, r.three.target, p.of, path, 0, listers))
		}
		all = append(all,
			r.getting(report.Alone, r.one.target, r.one.target.HTTP, path, 0, listers),
			r.getting(report.NSQ, r.nsq.target, r.nsq.target.HTTP, path, 0, listers))
		if err := r.contest(ctx, report.ListWorkload(path, r.topics), all...); err != nil {
			return err
		}
	}
	return nil
}

const mixedWriters = 16

// mixed measures lookups while other clients register, and the registrations.
func (r *readers) mixed(ctx context.Context) error {
	var all []contender
	for _, d := range []struct {
		system string
		t      *target.Target
	}{{report.All, r.three.target}, {report.Alone, r.one.target}, {report.NSQ, r.nsq.target}} {
		writer, err := r.clients.start(ctx, load.Job{Connect: &load.Connect{Addresses: d.t.V1(), Producers: mixedWriters, Name: "mixed"}})
		if err != nil {
			return err
		}
		c := r.getting(d.system, d.t, d.t.HTTP, lookupPath, r.topics, 32)
		c.sample = r.while(d.system, writer, c.sample)
		all = append(all, c)
	}
	return r.contest(ctx, report.Mixed, all...)
}

// while makes a sample during which writer registers as fast as it can.
func (r *readers) while(system string, writer *load.Process, sample func(context.Context) (load.Result, error)) func(context.Context) (load.Result, error) {
	round := 0
	return func(ctx context.Context) (load.Result, error) {
		round++
		var registered load.Result
		var err error
		var wait sync.WaitGroup
		wait.Go(func() {
			registered, err = writer.Do(load.Job{Register: &load.Register{Window: r.Window, Fresh: fmt.Sprint("mixed.", round)}})
		})
		result, sampleErr := sample(ctx)
		wait.Wait()
		if err != nil {
			return result, err
		}
		r.Run.Add(report.Key{Workload: report.Mixed + ", " + fmt.Sprint(mixedWriters) + " sessions that register", System: system, Metric: report.Rate}, registered.Rate())
		return result, sampleErr
	}
}
