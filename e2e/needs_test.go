package e2e_test

import (
	"fmt"
	"io"
	"os"
	"sync"
	"testing"
)

// faultsEnv set to "require" makes a test fail that cannot run here.
const faultsEnv = "LOOKUPD_FAULTS"

// skips are the tests that this machine could not run.
var skips struct {
	mu    sync.Mutex
	lines []string
}

// skipNeeds skips a test that needs what this machine does not give.
func skipNeeds(t *testing.T, what string) {
	t.Helper()
	line := fmt.Sprintf("SKIPPED %s: needs %s", t.Name(), what)
	skips.mu.Lock()
	skips.lines = append(skips.lines, line)
	skips.mu.Unlock()
	if os.Getenv(faultsEnv) == "require" {
		t.Fatal(line)
	}
	t.Skip(line)
}

// skipShort skips a test in a run with -short; why says what takes long.
func skipShort(t *testing.T, why string) {
	t.Helper()
	if testing.Short() {
		skipNeeds(t, "a run without -short: it "+why)
	}
}

// printSkips ends a run's output, so that nobody takes what was skipped for
// tested.
func printSkips(w io.Writer) {
	skips.mu.Lock()
	defer skips.mu.Unlock()
	for _, line := range skips.lines {
		fmt.Fprintln(w, line)
	}
	if n := len(skips.lines); n > 0 {
		fmt.Fprintf(w, "%d tests SKIPPED, NOT TESTED; %s=require makes them fail\n", n, faultsEnv)
	}
}
