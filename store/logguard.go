package store

import (
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	bbolterrors "go.etcd.io/bbolt/errors"

	"github.com/lookupd/lookupd/seeded"
)

// diskGuard runs the log's operations on the disk. The first that fails or
// hangs is the last.
type diskGuard struct {
	onFatal   func(error)
	hungAfter time.Duration

	once    sync.Once
	failure atomic.Pointer[error]
	closed  atomic.Bool
}

func newDiskGuard(cfg LogConfig) *diskGuard {
	return &diskGuard{onFatal: cfg.OnFatal, hungAfter: cfg.HungAfter}
}

// write runs an operation that must succeed.
func (g *diskGuard) write(what string, op func() error) error {
	if seeded.FailedWriteIgnored {
		_ = g.run(what, op, func(error) bool { return true })
		return nil
	}
	return g.run(what, op, func(err error) bool { return err == nil })
}

// read runs an operation that must succeed or find nothing.
func (g *diskGuard) read(what string, op func() error) error {
	return g.run(what, op, func(err error) bool {
		return err == nil || errors.Is(err, raft.ErrLogNotFound) || errors.Is(err, raftboltdb.ErrKeyNotFound)
	})
}

// close runs op once, unless the disk has failed.
func (g *diskGuard) close(op func() error) error {
	if g.failed() != nil || g.closed.Swap(true) {
		return nil
	}
	return g.watched("close log", op)
}

// run returns op's error as it is. One that is not harmless is fatal.
func (g *diskGuard) run(what string, op func() error, harmless func(error) bool) error {
	if err := g.failed(); err != nil {
		return err
	}
	if g.closed.Load() {
		return ErrLogClosed
	}
	err := g.watched(what, op)
	if errors.Is(err, bbolterrors.ErrDatabaseNotOpen) { // closed meanwhile
		return err
	}
	if !harmless(err) {
		g.fatal(fmt.Errorf("%s: %w", what, err))
		return err
	}
	// An operation that came back too late was not in time: the process is
	// ending, nobody may act on it.
	if failure := g.failed(); failure != nil {
		return failure
	}
	return err
}

func (g *diskGuard) watched(what string, op func() error) error {
	watch := startStopwatch(g.hungAfter, func() {
		g.fatal(fmt.Errorf("%w: %s takes more than %s", ErrDiskHung, what, g.hungAfter))
	})
	defer watch.stop()
	return guarded(op)
}

func (g *diskGuard) fatal(err error) {
	g.once.Do(func() {
		g.failure.Store(&err)
		g.onFatal(err)
	})
}

func (g *diskGuard) failed() error {
	if err := g.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// guarded runs op and makes ErrDamaged of a panic. bbolt panics on pages that
// make no sense, and where the file is shorter than its mapping, or the disk
// cannot read it, memory faults.
func guarded(op func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("%w: %v", ErrDamaged, cause)
		}
	}()
	return op()
}

// stopwatchSteps is how often a stopwatch looks before it calls time.
const stopwatchSteps = 10

// stopwatch calls late once, unless stopped before limit has passed. It goes in
// steps: of the time in which the process was paused, or the machine asleep, no
// more than one step counts. A disk is not hung because nobody could look.
type stopwatch struct {
	step time.Duration
	late func()

	mu      sync.Mutex
	timer   *time.Timer
	left    int
	stopped bool
}

func startStopwatch(limit time.Duration, late func()) *stopwatch {
	w := &stopwatch{step: limit / stopwatchSteps, late: late, left: stopwatchSteps}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(w.step, w.tick)
	return w
}

func (w *stopwatch) tick() {
	if w.isLate() {
		w.late()
	}
}

func (w *stopwatch) isLate() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return false
	}
	w.left--
	if w.left > 0 {
		w.timer.Reset(w.step)
	}
	return w.left == 0
}

func (w *stopwatch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	w.timer.Stop()
}
