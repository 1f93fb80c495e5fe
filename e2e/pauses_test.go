package e2e_test

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// pauses tells whether the machine stood still. Some tests want that no request
// fails and no leader changes for many seconds; a cluster can't promise that where
// neither processor nor disk are to be had for as long as raft waits for news.
type pauses struct {
	t       *testing.T
	mu      sync.Mutex
	longest time.Duration
}

// stoodStill is half the time without news after which raft elects.
const stoodStill = 250 * time.Millisecond

// watchPauses measures, until the test ends, how late a goroutine is that sleeps
// and brings a byte to the disk.
func watchPauses(t *testing.T) *pauses {
	t.Helper()
	const every = 50 * time.Millisecond
	file, err := os.Create(filepath.Join(t.TempDir(), "pauses"))
	must(t, err)
	p := &pauses{t: t}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for began := time.Now(); ; began = time.Now() {
			select {
			case <-stop:
				return
			case <-time.After(every):
			}
			if _, err := file.WriteAt([]byte{1}, 0); err != nil {
				t.Error(err)
				return
			}
			if err := file.Sync(); err != nil {
				t.Error(err)
				return
			}
			p.note(time.Since(began) - every)
		}
	}()
	t.Cleanup(func() {
		close(stop)
		<-stopped
		_ = file.Close()
	})
	return p
}

func (p *pauses) note(late time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.longest = max(p.longest, late)
}

// excuse says whether the machine stood still since the last call, and that what
// was seen meanwhile is not judged.
func (p *pauses) excuse(what string) bool {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	longest := p.longest
	p.longest = 0
	if longest < stoodStill {
		return false
	}
	p.t.Logf("the machine stood still for %v, so this is not judged: %s", longest, what)
	return true
}

// attempts is how often a test may look again after an excuse.
const attempts = 3
