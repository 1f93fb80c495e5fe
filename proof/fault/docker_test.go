package fault_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/lookupd/lookupd/proof/fault"
)

func TestDockerRound(t *testing.T) {
	if why := fault.DockerMissing(t.Context()); why != "" {
		notRun(t, why)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	done, acknowledged, err := fault.DockerRound(t.Context(), "../..", rand.New(rand.NewPCG(seed, 0)))
	for _, d := range done {
		t.Logf("%s: %s", d.Kind, d.Evidence)
	}
	t.Logf("%d topics acknowledged", acknowledged)
	if err != nil {
		t.Fatal(err)
	}
	if len(done) != 6 || acknowledged < 100 {
		t.Errorf("%d faults, %d topics", len(done), acknowledged)
	}
}
