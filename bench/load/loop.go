package load

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// tally is what one worker saw.
type tally struct {
	times  []time.Duration
	failed int
	err    error // the first
}

func (t *tally) add(took time.Duration, err error) {
	if err != nil {
		t.failed++
		if t.err == nil {
			t.err = err
		}
		return
	}
	t.times = append(t.times, took)
}

const (
	leastOps = 20 // of a sample: a slow system gets a longer window
	mostFor  = 10 // times the window
)

// inWindow runs op again and again in each of so many workers and counts what
// ends between w.Warm and w.Warm+w.For, or later while that is too little.
func inWindow(workers int, w Window, op func(worker int) error) Result {
	from := time.Now().Add(w.Warm)
	until, limit := from.Add(w.For), from.Add(mostFor*w.For)
	var ops, last atomic.Int64 // counted, and when the last of them ended after from
	open := func(now time.Time) bool {
		return now.Before(until) || ops.Load() < leastOps && now.Before(limit)
	}
	tallies := each(workers, func(worker int, t *tally) {
		for began := time.Now(); open(began); {
			err := op(worker)
			ended := time.Now()
			if !ended.Before(from) && open(ended) {
				t.add(ended.Sub(began), err)
				ops.Add(1)
				if !ended.Before(until) {
					last.Store(int64(ended.Sub(from)))
				}
			}
			if err != nil {
				time.Sleep(time.Millisecond) // refusals must not become a flood
				ended = time.Now()
			}
			began = ended
		}
	})
	return sum(tallies, max(w.For, time.Duration(last.Load())))
}

// counted runs op(worker, 0), op(worker, 1), ... up to n in each of so many
// workers.
func counted(workers, n int, op func(worker, i int) error) Result {
	start := time.Now()
	tallies := each(workers, func(worker int, t *tally) {
		for i := range n {
			began := time.Now()
			err := op(worker, i)
			t.add(time.Since(began), err)
		}
	})
	return sum(tallies, time.Since(start))
}

func each(workers int, do func(worker int, t *tally)) []tally {
	tallies := make([]tally, workers)
	var wait sync.WaitGroup
	for i := range workers {
		wait.Go(func() { do(i, &tallies[i]) })
	}
	wait.Wait()
	return tallies
}

func sum(tallies []tally, took time.Duration) Result {
	r := Result{Took: took}
	var all []time.Duration
	for _, t := range tallies {
		all = append(all, t.times...)
		r.Failed += t.failed
		if t.err != nil && r.FirstError == "" {
			r.FirstError = t.err.Error()
		}
	}
	r.Ops = len(all)
	if len(all) == 0 {
		return r
	}
	slices.Sort(all)
	r.P50, r.P99, r.Max = Quantile(all, 0.50), Quantile(all, 0.99), all[len(all)-1]
	return r
}

// Quantile returns the smallest of the sorted values that is not below the share q
// of them. There must be at least one.
func Quantile[T any](sorted []T, q float64) T {
	i := int(q*float64(len(sorted))+0.999999) - 1
	return sorted[min(max(i, 0), len(sorted)-1)]
}
