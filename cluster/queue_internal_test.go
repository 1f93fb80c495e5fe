package cluster

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lookupd/lookupd/registry"
)

// The index of an entry must tell whether a name was declared before or after a
// deletion, so both are never in one.
func TestDeletionHasAnEntryOfItsOwn(t *testing.T) {
	create := []registry.Command{registry.CreateTopic{Topic: "t"}}
	deletion := []registry.Command{registry.DeleteTopic{Topic: "t"}}
	channel := []registry.Command{registry.DeleteChannel{Topic: "t", Channel: "c"}}
	for name, c := range map[string]struct {
		waiting [][]registry.Command
		size    int
		want    int
	}{
		"nothing":               {nil, 1, 0},
		"all that waits":        {[][]registry.Command{create, create, create}, 1, 3},
		"up to a deletion":      {[][]registry.Command{create, create, deletion, create}, 1, 2},
		"a deletion":            {[][]registry.Command{deletion, create}, 1, 1},
		"one of two deletions":  {[][]registry.Command{channel, deletion}, 1, 1},
		"what fits":             {[][]registry.Command{create, create, create}, maxBatchBytes / 2, 2},
		"one that does not fit": {[][]registry.Command{create, create}, 2 * maxBatchBytes, 1},
	} {
		got := batchLength(len(c.waiting), func(i int) ([]registry.Command, int) { return c.waiting[i], c.size })
		if got != c.want {
			t.Errorf("%s: %d", name, got)
		}
	}
}

func TestQueueHasRoom(t *testing.T) {
	const room, none = 10 * time.Second, 10 * time.Millisecond // how long to wait where there must be room, or must not
	add := func(q *queue, within time.Duration) (*Proposal, error) {
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		return q.add(ctx, []registry.Command{registry.CreateTopic{Topic: "t"}})
	}
	for name, l := range map[string]Limits{
		"for commands": {PendingCommands: 2, PendingBytes: 1 << 20},
		"for bytes":    {PendingCommands: 4096, PendingBytes: 2 * int64(commandSize(registry.CreateTopic{}))},
	} {
		t.Run(name, func(t *testing.T) {
			q := newQueue(l)
			var last *Proposal
			for range 2 {
				p, err := add(q, room)
				if err != nil {
					t.Fatal(err)
				}
				last = p
			}
			for range 3 { // a refusal takes no room
				if _, err := add(q, none); !errors.Is(err, ErrOverloaded) {
					t.Errorf("one too many: %v", err)
				}
			}
			if !last.Withdraw() {
				t.Fatal("not withdrawn")
			}
			if _, err := add(q, room); err != nil {
				t.Errorf("after a withdrawal: %v", err)
			}
			q.finish(q.take(), func(*Proposal, int) {})
			for range 2 {
				if _, err := add(q, room); err != nil {
					t.Errorf("after two results: %v", err)
				}
			}
		})
	}
}

func TestDiskLowRefusesWhatAdds(t *testing.T) {
	low := false
	n := &Node{cfg: Config{DiskLow: func() bool { return low }}, queue: newQueue(DefaultLimits()), metrics: NewMetrics(prometheus.NewRegistry())}
	for _, low = range []bool{false, true} {
		for _, c := range []registry.Command{
			registry.OpenSession{}, registry.Register{}, registry.CreateTopic{Topic: "t"}, registry.CreateChannel{}, registry.Tombstone{},
		} {
			if _, err := n.Submit(t.Context(), registry.DeleteTopic{Topic: "t"}, c); errors.Is(err, ErrDiskLow) != low {
				t.Errorf("%T, low %t: %v", c, low, err)
			}
		}
		if _, err := n.Submit(t.Context(), registry.DeleteTopic{Topic: "t"}); err != nil {
			t.Errorf("deletion, low %t: %v", low, err)
		}
	}
}
