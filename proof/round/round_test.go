package round_test

import (
	"testing"

	"github.com/lookupd/lookupd/proof/round"
)

func TestThin(t *testing.T) {
	ops := func(ok, unknown int) map[string]map[string]int {
		return map[string]map[string]int{"lookup": {"ok": ok}, "register": {"unknown": unknown}}
	}
	for name, c := range map[string]struct {
		ops     map[string]map[string]int
		seconds float64
		reads   int
		faults  bool
		want    int // reasons
	}{
		"enough":               {ops(4750, 250), 10, 100, true, 0},
		"too slow":             {ops(4748, 249), 10, 100, true, 1},
		"too much is unknown":  {ops(4700, 300), 10, 100, true, 1},
		"no reads in a fault":  {ops(5000, 0), 10, 99, true, 1},
		"no faults, no reads":  {ops(5000, 0), 10, 0, false, 0},
		"nothing was tested":   {nil, 10, 0, true, 2},
		"nothing was measured": {nil, 0, 0, false, 1},
	} {
		if why := round.Thin(c.ops, c.seconds, c.reads, c.faults); len(why) != c.want {
			t.Errorf("%s: %q, want %d reasons", name, why, c.want)
		}
	}
}
