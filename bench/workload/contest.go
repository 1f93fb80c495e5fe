package workload

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/lookupd/lookupd/bench/load"
	"github.com/lookupd/lookupd/bench/report"
	"github.com/lookupd/lookupd/bench/target"
)

// contender is a system in one workload.
type contender struct {
	system string
	target *target.Target
	// sample makes one round's load.
	sample func(ctx context.Context) (load.Result, error)
	// entries also notes what the raft log grew by.
	entries bool
}

// contest measures all contenders in each round and notes the rates and times.
func (b *Bench) contest(ctx context.Context, name string, contenders ...contender) error {
	for _, c := range contenders {
		if err := c.target.Settle(ctx); err != nil {
			return err
		}
	}
	failed := map[string]load.Result{}
	for range b.Run.Sizes.Rounds {
		for _, c := range contenders {
			if err := ctx.Err(); err != nil {
				return err
			}
			r, err := b.sample(ctx, name, c)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", name, c.system, err)
			}
			if r.Failed > 0 {
				r.Failed += failed[c.system].Failed
				failed[c.system] = r
			}
		}
	}
	for system, r := range failed {
		b.note(fmt.Sprintf("%s, %s: %d operations failed, such as: %s", name, system, r.Failed, r.FirstError))
	}
	b.logf("%s", name)
	return nil
}

func (b *Bench) sample(ctx context.Context, name string, c contender) (load.Result, error) {
	note := func(metric string, value float64) {
		b.Run.Add(report.Key{Workload: name, System: c.system, Metric: metric}, value)
	}
	var logBefore float64
	if c.entries {
		var err error
		if logBefore, err = c.target.Nodes[0].Metric(ctx, commitIndex); err != nil {
			return load.Result{}, err
		}
	}
	used, began := c.target.Usage(), time.Now()
	r, err := c.sample(ctx)
	if err != nil {
		return r, err
	}
	took := time.Since(began)
	used = c.target.Usage() - used
	note(report.Rate, r.Rate())
	note(report.P50, microseconds(r.P50))
	note(report.P99, microseconds(r.P99))
	if r.Ops > 0 {
		perSecond := used.Seconds() / took.Seconds()
		note(report.CPU, perSecond/r.Rate()*1e6)
	}
	if r.Failed > 0 {
		note(report.Failed, float64(r.Failed))
	}
	if c.entries {
		logAfter, err := c.target.Nodes[0].Metric(ctx, commitIndex)
		if err != nil {
			return r, err
		}
		note(report.Entries, logAfter-logBefore)
	}
	return r, nil
}

const commitIndex = "lookupd_raft_commit_index"

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// clients is load processes that end together.
type clients struct {
	mu        sync.Mutex
	processes []*load.Process
}

// start starts a load process and has its first job done, of which nothing may
// fail.
func (c *clients) start(ctx context.Context, first load.Job) (*load.Process, error) {
	p, err := load.Start(ctx)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.processes = append(c.processes, p)
	c.mu.Unlock()
	if first != (load.Job{}) {
		_, err = p.Must(first)
	}
	return p, err
}

func (c *clients) close() {
	for _, p := range c.processes {
		_ = p.Close() // what a job missed, it has told
	}
}
