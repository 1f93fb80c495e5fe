package cluster

import (
	"testing"

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
