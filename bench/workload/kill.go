package workload

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/lookupd/lookupd/bench/load"
	"github.com/lookupd/lookupd/bench/report"
	"github.com/lookupd/lookupd/bench/target"
)

const (
	recoverWithin = 30 * time.Second
	askAgain      = 5 * time.Millisecond
	calm          = 500 * time.Millisecond // and up to as much again, before a kill
)

// kills measures how long a cluster at default settings is without writes and
// lookups when its leader is killed.
func (b *Bench) kills(ctx context.Context) error {
	return b.withFleet(func(f *target.Fleet) error {
		t, err := f.Lookupd(ctx, "lookupd 3", 3)
		if err != nil {
			return err
		}
		holder, err := load.OpenSession(ctx, t.V1()[0], "kill.example")
		if err != nil {
			return err
		}
		defer holder.Close()
		if err := holder.Register("kill", "c"); err != nil {
			return err
		}
		var writes, lookups []float64
		for i := range b.Run.Sizes.Kills {
			write, lookup, err := killLeader(ctx, t, i)
			if err != nil {
				return fmt.Errorf("kill %d: %w", i, err)
			}
			writes, lookups = append(writes, write.Seconds()), append(lookups, lookup.Seconds())
		}
		b.noteTimes(report.Kill, report.FirstWrite, report.P50Sec, report.P99Sec, writes)
		b.noteTimes(report.Kill, report.FirstLookup, report.P50Sec, report.P99Sec, lookups)
		b.logf("%s", report.Kill)
		return nil
	})
}

// killLeader kills the leader and returns after which time the first REGISTER
// was committed and the first lookup was answered, at any of the others.
func killLeader(ctx context.Context, t *target.Target, i int) (write, lookup time.Duration, err error) {
	if err := t.Settle(ctx); err != nil {
		return 0, 0, err
	}
	if err := pause(ctx, calm+rand.N(calm)); err != nil {
		return 0, 0, err
	}
	leader, others := t.Nodes[0], slices.Clone(t.Nodes[1:])
	sessions := make([]*load.Session, len(others))
	for j, n := range others {
		if sessions[j], err = load.OpenSession(ctx, n.V1, fmt.Sprintf("kill%d.%d.example", i, j)); err != nil {
			return 0, 0, err
		}
		defer sessions[j].Close()
	}
	began := time.Now()
	if err := leader.Kill(); err != nil {
		return 0, 0, err
	}
	within, cancel := context.WithTimeout(ctx, recoverWithin)
	defer cancel()
	written := firstOf(within, len(others), func(_ context.Context, j int) error {
		return sessions[j].Register(fmt.Sprint("kill.", i), fmt.Sprint("c", j))
	})
	client := &http.Client{Timeout: 2 * time.Second}
	defer client.CloseIdleConnections()
	asked := firstOf(within, len(others), func(ctx context.Context, j int) error {
		_, err := get(ctx, client, others[j].HTTP, lookupPath+"kill")
		return err
	})
	writeAt, lookupAt := <-written, <-asked
	if writeAt.IsZero() || lookupAt.IsZero() {
		return 0, 0, errors.Join(fmt.Errorf("no write or no lookup within %v", recoverWithin), ctx.Err())
	}
	if err := leader.Start(); err != nil {
		return 0, 0, err
	}
	return writeAt.Sub(began), lookupAt.Sub(began), leader.WaitReady(within)
}

// firstOf calls try for each of n again and again until one has succeeded, and
// sends the time of that, or zero when ctx has ended.
func firstOf(ctx context.Context, n int, try func(ctx context.Context, j int) error) <-chan time.Time {
	succeeded := make(chan time.Time, n)
	ctx, cancel := context.WithCancel(ctx)
	for j := range n {
		go func() {
			for ctx.Err() == nil {
				if try(ctx, j) == nil {
					succeeded <- time.Now()
					return
				}
				time.Sleep(askAgain)
			}
			succeeded <- time.Time{}
		}()
	}
	first := make(chan time.Time, 1)
	go func() {
		defer cancel()
		var at time.Time
		for range n {
			if at = <-succeeded; !at.IsZero() {
				break
			}
		}
		first <- at
	}()
	return first
}
