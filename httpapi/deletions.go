package httpapi

import (
	"context"
	"sync"
	"time"

	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
)

const (
	// rememberFor is how long a channel deleted through another peer may be
	// deleted here once more.
	rememberFor = 60 * time.Second
	// maxRemembered bounds the memory; beyond it the oldest are forgotten and a
	// repeated delete is a 404, which nsqadmin shows as a warning.
	maxRemembered = 10_000
)

type channelName struct{ topic, channel string }

// deletions remembers which channels other peers deleted since this one is
// ready. nsqadmin sends each
// delete to every lookupd it knows; each nsqlookupd has a copy of its own to
// delete, lookupd's peers have one together. So the delete that finds nothing,
// because another peer was first, is a success, once per peer.
type deletions struct {
	node node
	now  func() time.Time

	mu     sync.Mutex
	seen   uint64                    // log index up to which the feed was read
	byName map[channelName]time.Time // when this peer heard of the deletion
	queue  []deletion                // all of byName, and those replaced or taken since, oldest first
}

type deletion struct {
	name channelName
	at   time.Time
}

func newDeletions(n node, now func() time.Time) *deletions {
	return &deletions{node: n, now: now, byName: make(map[channelName]time.Time)}
}

// follow reads the feed until ctx ends, so that deletions get their times.
func (d *deletions) follow(ctx context.Context) error {
	for {
		seen, err := d.catchUp()
		if err != nil {
			return err
		}
		if d.node.Feed().Wait(ctx, seen) != nil {
			return nil // ctx ended
		}
	}
}

// take reports whether another peer deleted the channel lately, and forgets it:
// a repeat here finds nothing. This peer's state must have applied the refusal
// that makes the caller ask.
func (d *deletions) take(topic, channel string) (bool, error) {
	if _, err := d.catchUp(); err != nil {
		return false, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	name := channelName{topic, channel}
	at, found := d.byName[name]
	delete(d.byName, name)
	return found && d.now().Sub(at) < rememberFor, nil
}

// catchUp reads what the feed has and returns the index up to which it was read.
func (d *deletions) catchUp() (uint64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	changes, ok := d.node.Feed().Since(d.seen)
	if !ok {
		// A snapshot was restored, or this peer was too slow. What was deleted
		// in between stays unknown: a repeated delete of it is a 404.
		err := d.node.View(func(v *store.View) error {
			d.seen, _ = v.Applied()
			return nil
		})
		return d.seen, err
	}
	// A peer that starts applies again what was deleted long ago.
	readyAt, ready := d.node.ReadyAt()
	for _, c := range changes {
		d.seen = c.Index
		if !ready || c.Index <= readyAt {
			continue
		}
		for _, e := range c.Events {
			d.note(e)
		}
	}
	d.prune()
	return d.seen, nil
}

func (d *deletions) note(e registry.Event) {
	if e.Kind != registry.ChannelDeleted {
		return
	}
	name := channelName{e.Topic, e.Channel}
	if e.Origin.Name() == d.node.ID().Name() { // under an older id too, from before its disk was lost
		delete(d.byName, name)
		return
	}
	at := d.now()
	d.byName[name] = at
	d.queue = append(d.queue, deletion{name, at})
}

func (d *deletions) prune() {
	now := d.now()
	for len(d.queue) > 0 && (len(d.queue) > maxRemembered || now.Sub(d.queue[0].at) >= rememberFor) {
		oldest := d.queue[0]
		d.queue = d.queue[1:]
		if d.byName[oldest.name].Equal(oldest.at) { // and not deleted again since
			delete(d.byName, oldest.name)
		}
	}
}
