package fault_test

import (
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/lookupd/lookupd/proof/fault"
	"github.com/lookupd/lookupd/supervisor/lab"
)

// needOthers are the kinds that the three peers on loopback cannot take.
var needOthers = []string{
	"isolate leader", "isolate follower", "leader hears nobody", "nobody hears leader", "follower hears nobody",
	"nobody hears follower", "bridge", "ring", "majority and minority", "loss of 30 %", "slow link",
}

var pauseTrials = flag.Int("pause-trials", 5, "how often TestPauseTrials stops a leader")

func TestOnLoopback(t *testing.T) {
	w := newWorld(t, 3, nil)
	runKinds(t, w, func(k fault.Kind) bool { return !slices.Contains(needOthers, k.Name) })
}

func TestInNetwork(t *testing.T) {
	inside(t, func(t *testing.T, n *lab.Network) {
		w := newWorld(t, 3, n)
		runKinds(t, w, func(k fault.Kind) bool {
			return slices.Contains(needOthers, k.Name) && k.Name != "ring" || k.Name == "hold replies between peers"
		})
	})
}

func TestFivePeers(t *testing.T) {
	inside(t, func(t *testing.T, n *lab.Network) {
		w := newWorld(t, 5, n)
		runKinds(t, w, func(k fault.Kind) bool {
			return slices.Contains([]string{"ring", "bridge", "majority and minority"}, k.Name)
		})
	})
}

// runKinds runs each chosen kind once.
func runKinds(t *testing.T, w *world, chosen func(fault.Kind) bool) {
	for _, k := range fault.All() {
		if !chosen(k) {
			continue
		}
		t.Run(k.Name, func(t *testing.T) {
			if why := k.Needs(w.Target); why != "" {
				notRun(t, why)
			}
			began := time.Now()
			evidence, err := k.Run(t.Context(), w.Target)
			t.Logf("%v: %s", time.Since(began).Round(time.Millisecond), evidence)
			if err != nil {
				t.Error(err)
			}
			w.checkWhole(t)
		})
	}
}

func TestPauseTrials(t *testing.T) {
	w := newWorld(t, 3, nil)
	r, err := fault.PauseTrials(t.Context(), w.Target, *pauseTrials)
	t.Log(r)
	if err != nil {
		t.Fatal(err)
	}
	if r.Trials != *pauseTrials || r.Current+r.Refused == 0 || r.Stale > 0 {
		t.Errorf("%+v", r)
	}
	w.checkWhole(t)
}

// Runs overlap of which one is exclusive. None may take away what another needs.
func TestTwoAtATime(t *testing.T) {
	inside(t, func(t *testing.T, n *lab.Network) {
		w := newWorld(t, 3, n)
		for _, pair := range [][2]string{
			{"kill all", "loss of 30 %"},
			{"isolate leader", "wall clocks jump"},
			{"pause leader", "slow link"},
			{"kill leader", "hold replies between peers"},
		} {
			t.Run(pair[0]+" and "+pair[1], func(t *testing.T) {
				var runs sync.WaitGroup
				for _, k := range fault.All() {
					if !slices.Contains(pair[:], k.Name) {
						continue
					}
					own := *w.Target
					own.Rand = rand.New(rand.NewPCG(w.Rand.Uint64(), 0))
					runs.Go(func() {
						evidence, err := k.Run(t.Context(), &own)
						t.Logf("%s: %s", k.Name, evidence)
						if err != nil {
							t.Errorf("%s: %v", k.Name, err)
						}
					})
				}
				runs.Wait()
				w.checkWhole(t)
			})
		}
	})
}

// A run that is ended in its middle leaves nothing behind.
func TestEndedInTheMiddle(t *testing.T) {
	inside(t, func(t *testing.T, n *lab.Network) {
		w := newWorld(t, 5, n)
		for _, k := range fault.All() {
			t.Run(k.Name, func(t *testing.T) {
				if why := k.Needs(w.Target); why != "" {
					notRun(t, why)
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				timer := time.AfterFunc(200*time.Millisecond, cancel)
				defer timer.Stop()
				if _, err := k.Run(ctx, w.Target); err != nil && !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				w.checkWhole(t)
			})
		}
	})
}
