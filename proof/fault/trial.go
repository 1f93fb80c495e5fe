package fault

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/lookupd/lookupd/supervisor"
)

// Trials counts what came of leaders that were stopped with lookups in their
// sockets.
type Trials struct {
	Trials   int // in which another peer led before the stopped one went on
	Current  int // lookups that it answered with a state as new as the new leader's
	Refused  int // lookups that it answered with an error, or not at all
	Stale    int // lookups that it answered with an older state
	Examples []error
}

func (r Trials) String() string {
	return fmt.Sprintf("%d trials: of the lookups in a stopped leader's socket %d got a current state, %d an error, %d a stale state",
		r.Trials, r.Current, r.Refused, r.Stale)
}

// PauseTrials stops the leader n times, each time until another peer leads and
// has answered a lookup; only then lookups are sent into the stopped one's
// socket, which goes on a little later. Their answers are counted; a stale one is
// no error here, so that the trials can also be made with a bug planted. The
// cluster must be whole, and nothing else may break it meanwhile.
func PauseTrials(ctx context.Context, t *Target, n int) (r Trials, err error) {
	for r.Trials < n {
		if err := t.pauseTrial(ctx, &r); err != nil {
			return r, fmt.Errorf("trial %d: %w", r.Trials+1, err)
		}
	}
	return r, nil
}

// pauseTrial makes one trial.
func (t *Target) pauseTrial(ctx context.Context, r *Trials) error {
	const lookups = 16
	leader, asked, err := t.openAskers(ctx, lookups)
	if err != nil {
		return err
	}
	defer closeAll(asked)
	var least uint64
	release := t.holdReplies(without(t.Cluster.Peers, leader.peer))
	defer release()
	_, err = t.stopped(ctx, []*supervisor.Peer{leader.peer}, func() error {
		release()
		if _, least, err = t.waitIndex(ctx, without(t.Cluster.Peers, leader.peer)); err != nil {
			return err
		}
		for _, a := range asked {
			if err := a.send(); err != nil {
				return err
			}
		}
		return hold(ctx, t.between(0, 300*time.Millisecond))
	})
	if err != nil {
		_, err := t.ended(ctx, "", err)
		return err
	}
	r.Trials++
	for _, a := range asked {
		switch current, _, err := a.check(least); {
		case errors.Is(err, ErrViolation):
			r.Stale++
			r.Examples = append(r.Examples, err)
		case err != nil:
			return err
		case current:
			r.Current++
		default:
			r.Refused++
		}
	}
	_, err = t.whole(ctx)
	return err
}

// holdReplies keeps back what these peers say to others, for so short that nobody
// notices, and returns what lets it go. A leader that is stopped before that finds
// answers to questions from before its stop when it goes on: those are what must
// not count for a lookup that came meanwhile. Without proxies it does nothing.
func (t *Target) holdReplies(peers []*supervisor.Peer) (release func()) {
	const shorterThanLease = 150 * time.Millisecond
	var proxies []*Proxy
	for _, p := range peers {
		if before := t.Proxies[p.Name()]; before != nil {
			before.Peer.Hold(Replies)
			proxies = append(proxies, before.Peer)
		}
	}
	if len(proxies) > 0 {
		time.Sleep(shorterThanLease)
	}
	return sync.OnceFunc(func() {
		for _, p := range proxies {
			p.Release(Replies)
		}
	})
}
