package fsm_test

import (
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lookupd/lookupd/fsm"
)

const failedCommitEnv = "LOOKUPD_TEST_FAILED_COMMIT"

// TestFailedCommit: the timer's too ends the process, and nothing of it is visible.
// It runs in a process of its own, as the limit is the process's: go test's log of
// getenv and open calls, which commits add to, failed with it once in a hundred runs.
func TestFailedCommit(t *testing.T) {
	if os.Getenv(failedCommitEnv) != "" {
		testFailedCommit(t)
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), failedCommitEnv+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("%v\n%s", err, out)
	}
}

func testFailedCommit(t *testing.T) {
	m := newMachine(t)
	fsm.HoldFor(m.FSM, time.Hour)
	m.topics(3)
	signal.Ignore(syscall.SIGXFSZ)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 1, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	err := fsm.Flush(m.FSM)
	if restoreErr := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); restoreErr != nil {
		t.Fatal(restoreErr)
	}
	if err == nil || len(m.fatal) != 1 {
		t.Fatalf("error %v, fatal %v", err, m.fatal)
	}
	m.shows(1)
	if got := m.Apply(entryOf(t, 4, batch(nodeA, 4))); got != any(m.fatal[0]) {
		t.Errorf("response %v", got)
	}
}
