package fault

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/lookupd/lookupd/supervisor"
)

func pauseKinds() []Kind {
	kind := func(name string, run func(context.Context, *Target) (string, error)) Kind {
		return Kind{Name: name, Exclusive: true, Needs: needsPeers(3), Run: run}
	}
	return []Kind{
		kind("pause leader", pauseLeader),
		kind("pause follower", func(ctx context.Context, t *Target) (string, error) { return t.pause(ctx, oneFollower) }),
		kind("pause majority", func(ctx context.Context, t *Target) (string, error) { return t.pause(ctx, aMajority) }),
	}
}

// How long a pause lasts: from one that nobody notices to one that outlives
// every time-out between peers.
const shortestPause, longestPause = 500 * time.Millisecond, 10 * time.Second

// pause stops peers for a while.
func (t *Target) pause(ctx context.Context, c choice) (string, error) {
	leader, victims, err := t.choose(ctx, c)
	if err != nil {
		return "", err
	}
	evidence, err := t.stopped(ctx, victims, func() error { return hold(ctx, t.between(shortestPause, longestPause)) })
	return t.ended(ctx, leader.String()+"; "+evidence, err)
}

// stopped runs during with these peers stopped, and proves that they were.
func (t *Target) stopped(ctx context.Context, victims []*supervisor.Peer, during func() error) (evidence string, err error) {
	defer func() {
		for _, p := range victims {
			err = errors.Join(err, p.Signal(syscall.SIGCONT))
		}
	}()
	began := time.Now()
	for _, p := range victims {
		if err := p.Signal(syscall.SIGSTOP); err != nil {
			return "", err
		}
	}
	for _, p := range victims {
		if err := waitStopped(ctx, p); err != nil {
			return "", err
		}
	}
	err = during()
	for _, p := range victims {
		if state, stateErr := processState(p); stateErr != nil || state != "T" {
			err = errors.Join(err, fmt.Errorf("%w: %s is in state %q when it is to go on %w", ErrNoEvidence, p.Name(), state, stateErr))
		}
	}
	return fmt.Sprintf("%s in state T for %v", names(victims), time.Since(began).Round(time.Millisecond)), err
}

func waitStopped(ctx context.Context, p *supervisor.Peer) error {
	ctx, cancel := context.WithTimeout(ctx, healTimeout)
	defer cancel()
	return supervisor.Poll(ctx, func(context.Context) error {
		state, err := processState(p)
		if err == nil && state != "T" {
			err = fmt.Errorf("%w: %s is in state %s", ErrNoEvidence, p.Name(), state)
		}
		return err
	})
}

// processState returns the letter after the name in "1234 (lookupd) T 1 ...".
func processState(p *supervisor.Peer) (string, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
	if err != nil {
		return "", err
	}
	text := string(stat)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) == 0 {
		return "", fmt.Errorf("%w: %s has the state %q", ErrNoEvidence, p.Name(), text)
	}
	return fields[0], nil
}

// pauseLeader stops the leader, if there is time until another one leads, and
// then asks it, on a connection that it had before, for a lookup. When it goes
// on it must not answer with an index from before the question.
func pauseLeader(ctx context.Context, t *Target) (string, error) {
	leader, askers, err := t.openAskers(ctx, 1)
	if err != nil {
		return "", err
	}
	asked := askers[0]
	defer asked.Close()
	var note string
	var least uint64
	evidence, err := t.stopped(ctx, []*supervisor.Peer{leader.peer}, func() error {
		pause, cancel := context.WithTimeout(ctx, t.between(shortestPause, longestPause))
		defer cancel()
		next, index, err := t.waitIndex(pause, without(t.Cluster.Peers, leader.peer))
		if err == nil {
			note, least = "; meanwhile "+next.String(), index
		} else if pause.Err() == nil {
			return err
		}
		if err := asked.send(); err != nil { // whether or not there is a leader
			return err
		}
		<-pause.Done()
		return context.Cause(ctx)
	})
	evidence = leader.String() + "; " + evidence + note
	if err == nil {
		var answer string
		_, answer, err = asked.check(least)
		evidence += "; " + answer
	}
	return t.ended(ctx, evidence, err)
}
