package fsm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"github.com/lookupd/lookupd/store"
)

// Config is what an FSM needs.
type Config struct {
	// Dir is where the state files go; it exists. What an earlier process left there is deleted.
	Dir string
	// ClusterID goes into snapshots, and those of another cluster are refused.
	// It is asked at each snapshot and restore.
	ClusterID func() string
	Logger    *slog.Logger
	// OnFatal is called once, when the state cannot follow the log any more,
	// and ends the process. If it returns, as in tests, the FSM changes nothing
	// any more and responds to entries with the error.
	OnFatal func(error)
	// Took, if set, is told how long the work of each transaction took that applied
	// entries. It is called before anybody is told of them, and holds up the next ones.
	Took func(time.Duration)
}

// FSM is raft's state machine over a store.State. Package doc has who calls what.
type FSM struct {
	config        Config
	state         atomic.Pointer[store.State]
	applied       applied
	configuration atomic.Uint64 // index of the last raft configuration applied
	unsaved       atomic.Int64  // see Unsaved
	feed          Feed
	marks         marks
	retired       sync.WaitGroup // states that Restore replaced and that have readers still

	// Raft's FSM goroutine alone.
	files int    // state files made
	path  string // of the state

	// mu is held while entries are applied, by raft's FSM goroutine, and while they
	// are committed, by whoever does.
	mu      sync.Mutex
	held    *held         // nil if no transaction is open
	flushed time.Time     // when the last commit began
	failed  error         // what OnFatal was told
	holdFor time.Duration // see the constant
	timer   *time.Timer   // runs flush
}

var _ raft.BatchingFSM = (*FSM)(nil)

// New returns an FSM with an empty state; raft fills it from its snapshot and log.
func New(config Config) (*FSM, error) {
	left, err := filepath.Glob(filepath.Join(config.Dir, "state-*.db"))
	if err != nil {
		return nil, fmt.Errorf("find old state files: %w", err)
	}
	for _, path := range left {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("remove old state file: %w", err)
		}
	}
	f := &FSM{config: config, holdFor: holdFor}
	f.timer = time.AfterFunc(time.Hour, func() { _ = f.flush() }) // OnFatal is told
	f.timer.Stop()                                                // until something is held
	f.path = f.nextFile()
	state, err := store.CreateState(f.path)
	if err != nil {
		return nil, err
	}
	f.state.Store(state)
	return f, nil
}

// nextFile returns a fresh name: a restored state lives beside the old one until its last reader is done.
func (f *FSM) nextFile() string {
	f.files++
	return filepath.Join(f.config.Dir, fmt.Sprintf("state-%d.db", f.files))
}

// Applied returns index and term of the last entry that is committed to the
// state and told by the Feed.
func (f *FSM) Applied() (index, term uint64) { return f.applied.get() }

// ConfigurationIndex returns the index of the last raft configuration applied, 0 if none was.
func (f *FSM) ConfigurationIndex() uint64 { return f.configuration.Load() }

// Unsaved returns how many commands were applied since the latest snapshot: a
// restart applies them again.
func (f *FSM) Unsaved() int { return int(f.unsaved.Load()) }

// WaitApplied returns nil once Applied's index is at least index, or ctx's error.
// What is applied by the time of the call is committed at once.
func (f *FSM) WaitApplied(ctx context.Context, index uint64) error {
	w, commit := f.applied.await(index)
	if w == nil {
		return nil
	}
	if commit {
		// Not here: the disk does not heed ctx, and see flushApart.
		go func() { _ = f.flush() }() // OnFatal is told
	}
	return f.applied.wait(ctx, w)
}

// Feed returns the changes as they are applied.
func (f *FSM) Feed() *Feed { return &f.feed }

// View calls fn with a view of the state that stays as it is until fn returns,
// also when a snapshot is restored meanwhile. Its index may be above Applied's
// for a moment. Errors are fn's and store.State.View's.
func (f *FSM) View(fn func(*store.View) error) error {
	for {
		state := f.state.Load()
		began := false
		err := state.View(func(v *store.View) error {
			began = true
			return fn(v)
		})
		replaced := !began && errors.Is(err, store.ErrStateClosed) && f.state.Load() != state
		if !replaced {
			return err
		}
	}
}

// Unchanged reports whether what was read from footprint at index reads the same
// now. If it was called after Applied's index was taken, it does so at that index too.
func (f *FSM) Unchanged(footprint store.Footprint, index uint64) bool {
	return f.state.Load().Unchanged(footprint, index)
}

// Close closes the state; what is not committed is forgotten, the log has it. It
// waits for Views and snapshots under way and is called after raft has stopped. A
// second call does nothing.
func (f *FSM) Close() error {
	f.timer.Stop()
	f.mu.Lock()
	err := f.drop()
	f.mu.Unlock()
	f.retired.Wait()
	return errors.Join(err, f.state.Load().Close())
}
