package cluster

import (
	"testing"

	"github.com/lookupd/lookupd/registry"
)

// The peer that asks a leader for the read index stands for itself alone.
func TestAskerAndLeaderAreAMajority(t *testing.T) {
	for _, c := range []struct {
		voters string
		asker  registry.NodeID
		want   bool
	}{
		{"L", "F", false}, // a leader alone needs nobody, but a non-voter counts for nothing
		{"LF", "F", true},
		{"LFG", "G", true},
		{"LFG", "N", false},
		{"LFGH", "F", false},
		{"LFGHI", "F", false},
	} {
		var voters []registry.NodeID
		for _, v := range c.voters {
			voters = append(voters, registry.NodeID(v))
		}
		if got := suffices(voters, c.asker); got != c.want {
			t.Errorf("voters %s, %s asks: %v", c.voters, c.asker, got)
		}
	}
}
