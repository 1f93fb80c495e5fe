package workload

import (
	"context"
	"errors"
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
	asker                    *load.Process
	three, one, nsq, nsqLoud *dataset
	etcdThree, etcdOne       *dataset
	bare, barePair           *target.Target
	etcdSingle, etcdMany     *load.Process // clients of three members: one, many
	etcdAlone                *load.Process // many, of one member
	topics                   int
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
	}{{&r.etcdSingle, three.Etcd(), 1}, {&r.etcdMany, three.Etcd(), etcdClients}, {&r.etcdAlone, one.Etcd(), etcdClients}} {
		if *c.process, err = r.clients.start(ctx, load.Job{Dial: &load.Dial{Endpoints: c.endpoints, Clients: c.clients}}); err != nil {
			return err
		}
	}
	return nil
}

// startBare starts the bare handlers once there is a lookup to copy.
func (r *readers) startBare(ctx context.Context, f *target.Fleet) (err error) {
	if r.bare != nil {
		return nil
	}
	url := "http://" + r.three.target.HTTP()[0] + lookupPath + load.Topic(0)
	if r.bare, err = f.Bare(ctx, url); err != nil {
		return err
	}
	r.barePair, err = f.BarePair(ctx, url)
	return err
}

// grow fills all data sets at the same time, since few sessions do not keep a
// machine busy, and then checks them in turn.
func (r *readers) grow(ctx context.Context, topics int) error {
	r.topics = topics
	all := []*dataset{r.three, r.one, r.nsq, r.nsqLoud, r.etcdThree, r.etcdOne}
	errs := make([]error, len(all))
	var wait sync.WaitGroup
	for i, d := range all {
		wait.Go(func() { errs[i] = d.fill(topics) })
	}
	wait.Wait()
	for i, d := range all {
		if errs[i] == nil {
			errs[i] = d.verify(ctx, r.asker)
		}
	}
	return errors.Join(errs...)
}

// place is where a contender is asked over HTTP.
type place struct {
	system    string
	target    *target.Target
	addresses func() []string // at the time of a sample: leaders change
}

func leaderOf(system string, t *target.Target) place {
	return place{system, t, func() []string { return t.HTTP()[:1] }}
}

func followerOf(system string, t *target.Target) place {
	return place{system, t, func() []string { return t.HTTP()[1:2] }}
}

func allOf(system string, t *target.Target) place { return place{system, t, t.HTTP} }

// getting is a contender that is asked over HTTP.
func (r *readers) getting(p place, path string, connections int) contender {
	job := load.Get{Window: r.Window, Connections: connections, Path: path}
	if path == lookupPath || path == stalePath {
		job.Topics = r.topics
	}
	return contender{system: p.system, target: p.target, sample: func(context.Context) (load.Result, error) {
		job.Addresses = p.addresses()
		return r.asker.Do(load.Job{Get: &job})
	}}
}

func (r *readers) peers() []place {
	t := r.three.target
	return []place{leaderOf(report.Leader, t), followerOf(report.Follower, t), allOf(report.All, t)}
}

func (r *readers) lookups(ctx context.Context) error {
	for _, connections := range []int{1, 32, 128} {
		if err := r.contest(ctx, report.LookupWorkload(r.topics, connections), r.lookupContenders(connections)...); err != nil {
			return err
		}
	}
	return r.contest(ctx, report.LookupWorkload(r.topics, etcdClients),
		r.getting(allOf(report.All, r.three.target), lookupPath, etcdClients),
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
			r.getting(p, lookupPath, connections),
			r.getting(place{report.Stale(p.system), p.target, p.addresses}, stalePath, connections))
	}
	all = append(all,
		r.getting(allOf(report.Bare, r.bare), lookupPath, connections),
		r.getting(allOf(report.Alone, r.one.target), lookupPath, connections),
		r.getting(allOf(report.NSQ, r.nsq.target), lookupPath, connections))
	switch connections {
	case 1:
		all = append(all,
			r.getting(allOf(report.BarePair, r.barePair), lookupPath, connections),
			r.ranging(report.Etcd, r.etcdThree.target, r.etcdSingle, false))
	case 128:
		all = append(all, r.getting(allOf(report.NSQLoud, r.nsqLoud.target), lookupPath, connections))
	}
	return all
}

// ranging is a contender whose lookups are ranges of etcd's keys.
func (r *readers) ranging(system string, t *target.Target, process *load.Process, serializable bool) contender {
	s := r.Run.Sizes
	job := load.Range{Window: r.Window, Topics: r.topics, Serializable: serializable, Want: s.Channels * s.Holders}
	return contender{system: system, target: t, sample: func(context.Context) (load.Result, error) {
		return process.Do(load.Job{Range: &job})
	}}
}

func (r *readers) lists(ctx context.Context) error {
	for _, path := range []string{"/nodes", "/topics"} {
		var all []contender
		for _, p := range r.peers()[:2] {
			all = append(all, r.getting(p, path, listers))
		}
		all = append(all,
			r.getting(allOf(report.Alone, r.one.target), path, listers),
			r.getting(allOf(report.NSQ, r.nsq.target), path, listers))
		if err := r.contest(ctx, report.ListWorkload(path, r.topics), all...); err != nil {
			return err
		}
	}
	return nil
}

const (
	mixedWriters = 16
	mixedReaders = 32
)

// mixed measures lookups while other clients register, and the registrations.
func (r *readers) mixed(ctx context.Context) error {
	var all []contender
	for _, p := range []place{
		allOf(report.All, r.three.target), allOf(report.Alone, r.one.target), allOf(report.NSQ, r.nsq.target),
	} {
		connect := load.Connect{Addresses: p.target.V1(), Producers: mixedWriters, Name: "mixed"}
		writer, err := r.clients.start(ctx, load.Job{Connect: &connect})
		if err != nil {
			return err
		}
		all = append(all, r.withWrites(r.getting(p, lookupPath, mixedReaders), writer))
	}
	return r.contest(ctx, report.Mixed, all...)
}

// withWrites makes writer register as fast as it can during each sample of c.
func (r *readers) withWrites(c contender, writer *load.Process) contender {
	name := fmt.Sprintf("%s, the %d that register", report.Mixed, mixedWriters)
	key := report.Key{Workload: name, System: c.system, Metric: report.Rate}
	round, lookups := 0, c.sample
	c.sample = func(ctx context.Context) (load.Result, error) {
		round++
		var registered load.Result
		var err error
		var wait sync.WaitGroup
		wait.Go(func() {
			registered, err = writer.Do(load.Job{Register: &load.Register{Window: r.Window, Fresh: fmt.Sprint("mixed.", round)}})
		})
		result, lookupErr := lookups(ctx)
		wait.Wait()
		r.Run.Add(key, registered.Rate())
		return result, errors.Join(err, lookupErr)
	}
	return c
}
