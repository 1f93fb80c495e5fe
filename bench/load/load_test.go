package load

import (
	"errors"
	"testing"
	"time"
)

func TestQuantile(t *testing.T) {
	hundred := make([]int, 100)
	for i := range hundred {
		hundred[i] = i + 1
	}
	for _, test := range []struct {
		values []int
		q      float64
		want   int
	}{
		{[]int{7}, 0.5, 7},
		{[]int{7}, 0.99, 7},
		{[]int{1, 2}, 0.5, 1},
		{[]int{1, 2, 3}, 0.5, 2},
		{[]int{1, 2, 3}, 0.99, 3},
		{hundred, 0.5, 50},
		{hundred, 0.99, 99},
		{hundred[:50], 0.99, 50},
	} {
		if got := Quantile(test.values, test.q); got != test.want {
			t.Errorf("%v of %d values: %d, want %d", test.q, len(test.values), got, test.want)
		}
	}
}

func TestCountedCountsFailuresApart(t *testing.T) {
	broken := errors.New("broken")
	r := counted(3, 10, func(worker, i int) error {
		if worker == 1 && i < 4 {
			return broken
		}
		return nil
	})
	if r.Ops != 26 || r.Failed != 4 || r.FirstError != "broken" {
		t.Errorf("%+v, want 26 done and 4 failed", r)
	}
}

// What ends before the window opens is no part of the rate.
func TestWindowLeavesOutTheWarmUp(t *testing.T) {
	w := Window{Warm: 50 * time.Millisecond, For: time.Second}
	began := time.Now()
	early, all := 0, 0
	r := inWindow(1, w, func(int) error {
		time.Sleep(time.Millisecond)
		if all++; time.Since(began) < w.Warm {
			early++
		}
		return nil
	})
	if r.Took != w.For || r.Ops > all-early || r.Ops == 0 {
		t.Errorf("%d of %d in %v, %d of them early", r.Ops, all, r.Took, early)
	}
}

// A system that needs longer than the window for one operation has a rate too.
func TestWindowWaitsForSlowOperations(t *testing.T) {
	const slow = 300 * time.Millisecond
	r := inWindow(leastOps, Window{For: slow / 3}, func(int) error {
		time.Sleep(slow)
		return nil
	})
	if r.Ops == 0 || r.Took < slow || r.Rate() > leastOps/slow.Seconds() {
		t.Errorf("%d in %v, %.0f a second", r.Ops, r.Took, r.Rate())
	}
	broken := errors.New("broken")
	if r := inWindow(1, Window{For: slow / 3}, func(int) error { return broken }); r.Ops != 0 || r.Failed == 0 {
		t.Errorf("%+v, want failures alone", r)
	}
}

// Each registration of the data set must have one holder, and no nsqd two
// places in one topic.
func TestHolders(t *testing.T) {
	const holders = 3
	for _, producers := range []int{3, 99, 999} {
		seen := make([]int, producers)
		const topics = 999
		for topic := range topics {
			of := map[int]bool{}
			for i := range holders {
				h := Holder(topic, i, holders, producers)
				of[h] = true
				seen[h]++
			}
			if len(of) != holders {
				t.Fatalf("topic %d of %d producers has holders %v", topic, producers, of)
			}
		}
		for h, n := range seen {
			if mean := topics * holders / producers; n < mean || n > mean+1 {
				t.Errorf("producer %d of %d holds %d topics", h, producers, n)
			}
		}
	}
}

func TestFreshNamesAreFresh(t *testing.T) {
	seen := map[[2]string]bool{}
	for _, start := range []string{"a.1", "a.2"} {
		for session := range 12 {
			for n := range 120 {
				topic, channel := freshNames(start, session, n)
				if seen[[2]string{topic, channel}] {
					t.Fatalf("%s %s comes twice", topic, channel)
				}
				seen[[2]string{topic, channel}] = true
			}
		}
	}
}
