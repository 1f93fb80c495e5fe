package fsm_test

import (
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/lookupd/lookupd/fsm"
)

// TestFailedCommit: the timer's too ends the process, and nothing of it is visible.
func TestFailedCommit(t *testing.T) {
	m := newMachine(t)
	fsm.HoldFor(m.FSM, time.Hour)
	m.topics(3)
	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
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
