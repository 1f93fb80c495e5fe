package workload

import (
	"context"
	"fmt"
	"time"

	"github.com/lookupd/lookupd/bench/load"
	"github.com/lookupd/lookupd/bench/target"
	"github.com/lookupd/lookupd/supervisor"
)

const (
	fillTimeout  = 2 * time.Minute
	mostVerified = 1000 // topics where each lookup is a scan of all
	// perProducer occurs once in an answer for each producer.
	perProducer = `"broadcast_address"`
)

// dataset is a target with the topics, channels and producers that lookups ask
// for. It grows; what is there is not filled in again.
type dataset struct {
	bench  *Bench
	target *target.Target
	filler *load.Process // holds the producers' sessions
	topics int
	scans  bool // each of its lookups is a scan of all registrations
}

// overV1 makes an empty data set of so many nsqds. If there are few of them each
// has a session at every address, so that enough work is under way.
func (b *Bench) overV1(ctx context.Context, c *clients, t *target.Target, producers int) (*dataset, error) {
	filler, err := c.start(ctx, load.Job{Connect: &load.Connect{
		Addresses: t.V1(), Producers: producers, Name: "nsqd", Everywhere: producers < 100,
	}})
	return &dataset{bench: b, target: t, filler: filler}, err
}

// overEtcd makes an empty data set in etcd.
func (b *Bench) overEtcd(ctx context.Context, c *clients, t *target.Target) (*dataset, error) {
	filler, err := c.start(ctx, load.Job{Dial: &load.Dial{Endpoints: t.Etcd(), Clients: 32}})
	return &dataset{bench: b, target: t, filler: filler}, err
}

// grow fills in topics up to so many, and checks every answer.
func (d *dataset) grow(ctx context.Context, asker *load.Process, topics int) error {
	if err := d.fill(topics); err != nil {
		return err
	}
	return d.verify(ctx, asker)
}

// fill declares what is missing up to so many topics.
func (d *dataset) fill(topics int) error {
	sizes := d.bench.Run.Sizes
	more := load.Declare{From: d.topics, To: topics, Channels: sizes.Channels, Holders: sizes.Holders}
	job := load.Job{Declare: &more}
	if d.inEtcd() {
		job = load.Job{Fill: (*load.Fill)(&more)}
	}
	r, err := d.filler.Do(job)
	if err != nil {
		return fmt.Errorf("fill %s: %w", d.target.Name, err)
	}
	if r.Failed > 0 { // to be committed later, or found missing
		d.bench.logf("%s: %s", d.target.Name, r.FirstError)
	}
	d.topics = topics
	d.bench.logf("%s holds %d topics; %d registrations in %.1f s", d.target.Name, topics, r.Ops, r.Took.Seconds())
	return nil
}

func (d *dataset) inEtcd() bool { return d.target.Nodes[0].Etcd != "" }

// verify asks every node for every topic until all answers have all producers.
// What is in etcd is checked with each answer anyway.
func (d *dataset) verify(ctx context.Context, asker *load.Process) error {
	if d.inEtcd() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, fillTimeout)
	defer cancel()
	topics := d.topics
	if d.scans {
		topics = min(topics, mostVerified)
	}
	for _, n := range d.target.Nodes {
		err := supervisor.Poll(ctx, func(context.Context) error {
			_, err := asker.Must(load.Job{Get: &load.Get{
				Addresses: []string{n.HTTP}, Connections: 16, Path: lookupPath, Topics: topics, Once: true,
				Contains: perProducer, Want: d.bench.Run.Sizes.Holders,
			}})
			return err
		})
		if err != nil {
			return fmt.Errorf("verify %s: %w", d.target.Name, err)
		}
	}
	return nil
}
