package fault_test

import (
	"context"
	"errors"
	"slices"
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
