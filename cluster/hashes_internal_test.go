package cluster

import (
	"testing"

	"github.com/lookupd/lookupd/fsm"
)

func TestOddPeerIsFoundByMajority(t *testing.T) {
	mine := []fsm.HashMark{{Index: 1024, Hash: 1}, {Index: 2048, Hash: 2}}
	same, wrong := map[uint64]uint64{1024: 1, 2048: 2}, map[uint64]uint64{1024: 1, 2048: 9}
	for name, c := range map[string]struct {
		others []map[uint64]uint64
		peers  int
		want   *difference
	}{
		"all equal":                {[]map[uint64]uint64{same, same}, 3, nil},
		"nobody answers":           {[]map[uint64]uint64{{}, {}}, 3, nil},
		"another is odd":           {[]map[uint64]uint64{same, wrong}, 3, &difference{2048, false}},
		"this one is odd":          {[]map[uint64]uint64{wrong, wrong}, 3, &difference{2048, true}},
		"one of two, no majority":  {[]map[uint64]uint64{wrong}, 2, &difference{2048, false}},
		"three of five against us": {[]map[uint64]uint64{wrong, wrong, wrong, same}, 5, &difference{2048, true}},
	} {
		got := odd(mine, c.others, c.peers)
		if (got == nil) != (c.want == nil) || got != nil && *got != *c.want {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
