package fault

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/lookupd/lookupd/supervisor"
)

func killKinds() []Kind {
	const atOnce, soon, late = 0, time.Second, 5 * time.Second
	kind := func(name string, c choice, away, apart time.Duration) Kind {
		return Kind{Name: name, Exclusive: true, Needs: needsPeers(3), Run: func(ctx context.Context, t *Target) (string, error) {
			return t.kill(ctx, c, away, apart)
		}}
	}
	return []Kind{
		kind("kill leader", theLeader, late, atOnce),
		kind("kill leader, start at once", theLeader, atOnce, atOnce),
		kind("kill follower", oneFollower, late, atOnce),
		kind("kill majority", aMajority, late, soon),
		kind("kill all", everyPeer, soon, atOnce),
		kind("kill all, start one after another", everyPeer, soon, late),
		{Name: "hand over by SIGTERM", Exclusive: true, Needs: needsPeers(3), Run: handOver},
		{Name: "restart all by SIGTERM, one after another", Exclusive: true, Needs: needsPeers(3), Run: rollingRestart},
	}
}

// kill kills peers at the same time. They are away for a random time of at most
// away, and start in random order with random waits of at most apart.
func (t *Target) kill(ctx context.Context, c choice, away, apart time.Duration) (string, error) {
	leader, victims, err := t.choose(ctx, c)
	if err != nil {
		return "", err
	}
	evidence, err := killAtOnce(victims)
	evidence = leader.String() + "; " + evidence
	if err == nil && away > 0 {
		err = hold(ctx, t.between(0, away))
	}
	t.shuffle(victims)
	for _, p := range victims {
		if err == nil {
			err = p.Start()
		}
		if err == nil && apart > 0 {
			err = hold(ctx, t.between(0, apart))
		}
	}
	return t.ended(ctx, evidence, err)
}

// killAtOnce kills peers at the same time and proves that it did.
func killAtOnce(victims []*supervisor.Peer) (string, error) {
	evidence, errs := make([]string, len(victims)), make([]error, len(victims))
	var wait sync.WaitGroup
	for i, p := range victims {
		wait.Go(func() {
			if err := p.Kill(); err != nil {
				errs[i] = err
				return
			}
			evidence[i], errs[i] = endedBy(p, syscall.SIGKILL)
		})
	}
	wait.Wait()
	return strings.Join(evidence, ", "), errors.Join(errs...)
}

// endedBy proves that a signal ended a peer.
func endedBy(p *supervisor.Peer, want os.Signal) (string, error) {
	if got := p.EndedBy(); got != want {
		return "", fmt.Errorf("%w: %s was ended by signal %v, exit code %d\n%s", ErrNoEvidence, p.Name(), got, p.ExitCode(), p.LogTail())
	}
	return fmt.Sprintf("%s ended by signal %v", p.Name(), want), nil
}

// stopTimeout is how long a peer may take to stop; lookupd promises 5 s.
const stopTimeout = 10 * time.Second

// stop ends a peer as its operator would, and proves that it ended by itself.
func stop(p *supervisor.Peer) (string, error) {
	began := time.Now()
	if err := p.Stop(stopTimeout); err != nil {
		return "", err
	}
	if code := p.ExitCode(); code != 0 {
		return "", fmt.Errorf("%w: exit code %d of %s after SIGTERM\n%s", ErrNoEvidence, code, p.Name(), p.LogTail())
	}
	return fmt.Sprintf("%s exited with 0 %v after SIGTERM", p.Name(), time.Since(began).Round(time.Millisecond)), nil
}

// handOver stops the leader politely: another one takes over before it is gone.
func handOver(ctx context.Context, t *Target) (string, error) {
	leader, _, err := t.roles(ctx)
	if err != nil {
		return "", err
	}
	evidence, err := stop(leader.peer)
	if err == nil {
		var next lead
		if next, err = t.waitLead(ctx, t.Cluster.Running()); err == nil {
			evidence += "; " + next.String()
			err = hold(ctx, t.between(0, 2*time.Second))
		}
		if err == nil && next.term <= leader.term {
			err = fmt.Errorf("%w: %s, before %s", ErrNoEvidence, next, leader)
		}
	}
	return t.ended(ctx, leader.String()+"; "+evidence, err)
}

// rollingRestart restarts all peers in random order, each when the one before is
// ready again, as an upgrade does.
func rollingRestart(ctx context.Context, t *Target) (string, error) {
	peers := everyPeer(t, nil, nil)
	var evidence []string
	var err error
	for _, p := range peers {
		var one string
		if one, err = stop(p); err != nil {
			break
		}
		evidence = append(evidence, one)
		if err = p.Start(); err != nil {
			break
		}
		if err = p.WaitReady(ctx); err != nil {
			break
		}
		if err = hold(ctx, t.between(0, time.Second)); err != nil {
			break
		}
	}
	return t.ended(ctx, strings.Join(evidence, ", "), err)
}
