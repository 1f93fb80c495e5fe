package workload

import (
	"context"
	"fmt"
	"time"

	"github.com/lookupd/lookupd/bench/load"
	"github.com/lookupd/lookupd/bench/report"
	"github.com/lookupd/lookupd/bench/target"
)

// writers is what registrations are measured on.
type writers struct {
	*Bench
	three, one, nsq, nsqThree *target.Target
	etcdThree, etcdOne        *target.Target
}

// writes measures registrations.
func (b *Bench) writes(ctx context.Context) error {
	return b.withFleet(func(f *target.Fleet) error {
		w := &writers{Bench: b}
		if err := w.start(ctx, f); err != nil {
			return err
		}
		for _, part := range []struct {
			name string
			run  func(context.Context) error
		}{{"register", w.register}, {"repeat", w.repeat}, {"serial", w.serial}, {"storm", w.storm}} {
			if !b.wants(part.name) {
				continue
			}
			if err := part.run(ctx); err != nil {
				return err
			}
		}
		return nil
	})
}

func (w *writers) start(ctx context.Context, f *target.Fleet) (err error) {
	if w.three, err = f.Lookupd(ctx, "lookupd 3", 3); err != nil {
		return err
	}
	if w.one, err = f.Lookupd(ctx, report.Alone, 1); err != nil {
		return err
	}
	if w.nsq, err = f.NSQLookupd(ctx, report.NSQ, 1, true); err != nil {
		return err
	}
	if w.wants("serial") {
		if w.nsqThree, err = f.NSQLookupd(ctx, report.NSQ3, 3, true); err != nil {
			return err
		}
	}
	if !w.wants("register") {
		return nil
	}
	if w.etcdThree, err = f.Etcd(ctx, report.Etcd, 3); err != nil {
		return err
	}
	w.etcdOne, err = f.Etcd(ctx, report.EtcdAlone, 1)
	return err
}

// registerRun is the contenders of one number of sessions, and their clients.
type registerRun struct {
	*writers
	clients
	sessions int
	all      []contender
}

func (w *writers) register(ctx context.Context) error {
	for _, sessions := range []int{1, 64, 256, 1000} {
		if err := w.registerFrom(ctx, sessions); err != nil {
			return err
		}
	}
	return nil
}

func (w *writers) registerFrom(ctx context.Context, sessions int) error {
	r := &registerRun{writers: w, sessions: sessions}
	defer r.close()
	leader, follower := w.three.V1()[:1], w.three.V1()[1:2]
	var err error
	add := func(c contender, e error) {
		if err == nil {
			err = e
		}
		r.all = append(r.all, c)
	}
	if sessions == 1 {
		add(r.registering(ctx, report.Leader, w.three, leader))
		add(r.registering(ctx, report.Follower, w.three, follower))
		add(r.putting(ctx, report.EtcdLeader, w.etcdThree, w.etcdThree.Etcd()[:1]))
		add(r.putting(ctx, report.EtcdOther, w.etcdThree, w.etcdThree.Etcd()[1:2]))
	} else {
		add(r.registering(ctx, report.All, w.three, w.three.V1()))
		add(r.putting(ctx, report.Etcd, w.etcdThree, w.etcdThree.Etcd()))
	}
	add(r.registering(ctx, report.Alone, w.one, w.one.V1()))
	add(r.putting(ctx, report.EtcdAlone, w.etcdOne, w.etcdOne.Etcd()))
	add(r.registering(ctx, report.NSQ, w.nsq, w.nsq.V1()))
	if err != nil {
		return err
	}
	return w.contest(ctx, report.RegisterWorkload(sessions), r.all...)
}

// registering is a contender whose sessions register new channels. They stay
// open between rounds: what their end costs must not fall into another's sample.
func (r *registerRun) registering(ctx context.Context, system string, t *target.Target, addresses []string) (contender, error) {
	name := fmt.Sprintf("reg%d.%d.", r.sessions, len(r.all))
	p, err := r.clients.start(ctx, load.Job{Connect: &load.Connect{Addresses: addresses, Producers: r.sessions, Name: name}})
	if err != nil {
		err = fmt.Errorf("%s: connect: %w", system, err)
	}
	round := 0
	return contender{system: system, target: t, sample: func(context.Context) (load.Result, error) {
		round++
		return p.Do(load.Job{Register: &load.Register{Window: r.Window, Fresh: fmt.Sprint(name, round)}})
	}}, err
}

// putting is a contender whose clients put new keys into etcd.
func (r *registerRun) putting(ctx context.Context, system string, t *target.Target, endpoints []string) (contender, error) {
	name := fmt.Sprintf("put%d.%d.", r.sessions, len(r.all))
	p, err := r.clients.start(ctx, load.Job{Dial: &load.Dial{Endpoints: endpoints, Clients: r.sessions}})
	round := 0
	return contender{system: system, target: t, sample: func(context.Context) (load.Result, error) {
		round++
		return p.Do(load.Job{Put: &load.Put{Window: r.Window, Fresh: fmt.Sprint(name, round)}})
	}}, err
}

// repeat measures REGISTERs of what is registered, and that they leave the log
// alone.
func (w *writers) repeat(ctx context.Context) error {
	for _, sessions := range []int{1, 64} {
		if err := w.repeatFrom(ctx, sessions); err != nil {
			return err
		}
	}
	return nil
}

func (w *writers) repeatFrom(ctx context.Context, sessions int) error {
	var c clients
	defer c.close()
	var all []contender
	for _, d := range []struct {
		system  string
		t       *target.Target
		entries bool
	}{{report.All, w.three, true}, {report.Alone, w.one, true}, {report.NSQ, w.nsq, false}} {
		name := fmt.Sprintf("again%d.", sessions)
		p, err := c.start(ctx, load.Job{Connect: &load.Connect{Addresses: d.t.V1(), Producers: sessions, Name: name}})
		if err != nil {
			return fmt.Errorf("%s: connect: %w", d.system, err)
		}
		again := load.Job{Register: &load.Register{Window: w.Window}}
		if _, err := p.Must(again); err != nil { // registers them
			return fmt.Errorf("%s: register: %w", d.system, err)
		}
		sample := func(context.Context) (load.Result, error) { return p.Do(again) }
		all = append(all, contender{system: d.system, target: d.t, sample: sample, entries: d.entries})
	}
	return w.contest(ctx, report.RepeatWorkload(sessions), all...)
}

const serialPerTopic = 100

// serial measures one nsqd that declares channels one after another, each to
// all its lookup daemons in turn.
func (w *writers) serial(ctx context.Context) error {
	if err := w.three.Settle(ctx); err != nil {
		return err
	}
	v1 := w.three.V1()
	for round := range w.Run.Sizes.Rounds {
		for _, c := range []struct {
			system    string
			addresses []string
		}{
			{report.Leader, v1[:1]},
			{report.Follower, v1[1:2]},
			{report.All, v1},
			{report.Alone, w.one.V1()},
			{report.NSQ, w.nsq.V1()},
			{report.NSQ3, w.nsqThree.V1()},
		} {
			took, err := declareInTurn(ctx, c.addresses, fmt.Sprintf("serial.%d.%d", round, len(c.addresses)), w.Run.Sizes.Declared)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", report.Serial, c.system, err)
			}
			w.Run.Add(report.Key{Workload: report.Serial, System: c.system, Metric: report.Seconds}, took.Seconds())
			if err := pause(ctx, w.Window.Warm); err != nil { // for the end of the sessions
				return err
			}
		}
	}
	w.logf("%s", report.Serial)
	return nil
}

// declareInTurn is an nsqd that has just started.
func declareInTurn(ctx context.Context, addresses []string, name string, channels int) (time.Duration, error) {
	sessions := make([]*load.Session, len(addresses))
	for i, address := range addresses {
		s, err := load.OpenSession(ctx, address, name+".example")
		if err != nil {
			return 0, err
		}
		defer s.Close()
		sessions[i] = s
	}
	start := time.Now()
	for i := range channels {
		topic, channel := fmt.Sprint(name, ".", i/serialPerTopic), load.Channel(i%serialPerTopic)
		for _, s := range sessions {
			if err := s.Register(topic, channel); err != nil {
				return 0, err
			}
		}
	}
	return time.Since(start), ctx.Err()
}

const (
	stormSharedTopics = 1000
	stormRounds       = 3
	restartTimeout    = 60 * time.Second
)

// storm measures how long many nsqds of one daemon need to be back when it was
// killed: each connects and declares its topics one after another.
func (w *writers) storm(ctx context.Context) error {
	if err := w.three.Settle(ctx); err != nil {
		return err
	}
	var c clients
	defer c.close()
	s := w.Run.Sizes
	name := fmt.Sprintf("%s, %d nsqds x %d topics", report.Storm, s.StormProducers, s.StormTopics)
	for _, d := range []struct {
		system string
		t      *target.Target
		node   *target.Node
	}{{report.Follower, w.three, w.three.Nodes[1]}, {report.Alone, w.one, w.one.Nodes[0]}, {report.NSQ, w.nsq, w.nsq.Nodes[0]}} {
		connect := load.Connect{Addresses: []string{d.node.V1}, Producers: s.StormProducers, Name: "storm"}
		p, err := c.start(ctx, load.Job{Connect: &connect})
		if err != nil {
			return fmt.Errorf("%s: connect: %w", d.system, err)
		}
		job := load.Register{PerSession: s.StormTopics, Shared: stormSharedTopics}
		if err := w.stormOnce(d.system, name+", all new", d.t, p, job); err != nil {
			return err
		}
		job.Reconnect = true
		for range min(s.Rounds, stormRounds) {
			if err := restart(ctx, d.node); err != nil {
				return err
			}
			if err := w.stormOnce(d.system, name+", back after a kill", d.t, p, job); err != nil {
				return err
			}
		}
	}
	w.logf("%s", name)
	return nil
}

func (w *writers) stormOnce(system, name string, t *target.Target, p *load.Process, job load.Register) error {
	used := t.Usage()
	r, err := p.Do(load.Job{Register: &job})
	if err != nil {
		return err
	}
	w.Run.Add(report.Key{Workload: name, System: system, Metric: report.Seconds}, r.Took.Seconds())
	w.Run.Add(report.Key{Workload: name, System: system, Metric: report.CPUSeconds}, (t.Usage() - used).Seconds())
	if r.Failed > 0 {
		w.note(fmt.Sprintf("%s, %s: %d answers were not OK, such as: %s", name, system, r.Failed, r.FirstError))
	}
	return nil
}

// restart kills a node, starts it again and waits until it is ready.
func restart(ctx context.Context, n *target.Node) error {
	if err := n.Kill(); err != nil {
		return err
	}
	if err := n.Start(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, restartTimeout)
	defer cancel()
	return n.WaitReady(ctx)
}
