package fsm

import (
	"context"
	"slices"
	"sort"
	"sync"

	"github.com/lookupd/lookupd/registry"
)

// A Feed keeps at most so many changes, with at most so many events in all, a few
// MiB: a reconnect of one producer alone may have 100,000, and then its readers
// read the state anew.
const (
	FeedLength = 10_000
	FeedEvents = 50_000
)

// Feed tells what each entry changed. It keeps the last ones; who falls behind further, or meets a restored snapshot, reads the state anew:
//
//	index := applied index of a View, from which the reader built what it keeps
//	for {
//		feed.Wait(ctx, index)
//		changes, ok := feed.Since(index)
//		if !ok { build anew from a View; index = its applied index; continue }
//		use changes; index = the last one's index
//	}
//
// Entries that changed nothing are not in it. All methods may be called from any goroutine.
type Feed struct {
	mu sync.Mutex
	// kept is of rising index; events is the sum of theirs.
	kept   []registry.Change
	events int
	// floor is the highest index of which something may be missing.
	floor uint64
	// last is the index of the newest change, or floor.
	last uint64
	// more is closed at the next change; nil while nobody waits.
	more chan struct{}
}

// Since returns the changes after index, oldest first; the caller must not
// change them. ok is false if some of them are gone.
func (f *Feed) Since(index uint64) (changes []registry.Change, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if index < f.floor {
		return nil, false
	}
	first := sort.Search(len(f.kept), func(i int) bool { return f.kept[i].Index > index })
	return slices.Clone(f.kept[first:]), true
}

// Wait returns nil once there is something after index: a change, or a reset. Else ctx's error.
func (f *Feed) Wait(ctx context.Context, after uint64) error {
	for {
		f.mu.Lock()
		if f.last > after {
			f.mu.Unlock()
			return nil
		}
		if f.more == nil {
			f.more = make(chan struct{})
		}
		more := f.more
		f.mu.Unlock()
		select {
		case <-more:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// publish adds changes of rising index, all above the last.
func (f *Feed) publish(changes []registry.Change) {
	if len(changes) == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range changes {
		f.kept = append(f.kept, c)
		f.events += len(c.Events)
		for len(f.kept) > FeedLength || f.events > FeedEvents {
			f.floor = f.kept[0].Index
			f.events -= len(f.kept[0].Events)
			f.kept[0] = registry.Change{}
			f.kept = f.kept[1:]
		}
	}
	f.last = changes[len(changes)-1].Index
	f.wakeLocked()
}

// reset forgets all: the state jumped to index.
func (f *Feed) reset(index uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.kept, f.events = nil, 0
	f.floor, f.last = index, index
	f.wakeLocked()
}

func (f *Feed) wakeLocked() {
	if f.more != nil {
		close(f.more)
		f.more = nil
	}
}
