package fault

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lookupd/lookupd/supervisor"
)

func memberKinds() []Kind {
	return []Kind{
		{Name: "replace a wiped peer", Exclusive: true, Needs: needsPeers(3), Run: replace},
		{Name: "remove a running peer", Exclusive: true, Needs: needsLookupctl, Run: removeRunning},
		{Name: "remove a dead peer", Exclusive: true, Needs: needsLookupctl, Run: removeDead},
	}
}

const (
	// rejoinTimeout bounds the return of a peer without data: it is a voter again
	// when it has been stable for some time.
	rejoinTimeout = 2 * time.Minute
	// removedTimeout bounds the time in which a removed peer ends. It promises
	// some seconds after its last contact or its start.
	removedTimeout = 30 * time.Second
	// removedExitCode is that of a peer that was removed.
	removedExitCode = 3
)

// replace takes a follower's data away; it returns under its name with a new id,
// which the leader puts in the place of the old.
func replace(ctx context.Context, t *Target) (string, error) {
	leader, followers, err := t.roles(ctx)
	if err != nil {
		return "", err
	}
	victim := followers[0]
	old, err := voterOf(ctx, leader.peer, victim.Name())
	if err != nil {
		return "", err
	}
	killed, err := killAtOnce(followers[:1])
	if err == nil {
		err = hold(ctx, t.between(0, 3*time.Second))
	}
	if err != nil {
		return t.ended(ctx, killed, err)
	}
	joined, err := t.joinFresh(ctx, victim, old)
	return t.ended(ctx, killed+", wiped; "+joined, err)
}

// removeRunning removes a peer that is well, the leader or another one. It must
// end by itself; later one without data comes under its name.
func removeRunning(ctx context.Context, t *Target) (string, error) {
	leader, victim, old, err := t.chooseMember(ctx)
	if err != nil {
		return "", err
	}
	// Until a peer without data has taken its place the cluster is not whole.
	evidence, err := t.remove(ctx, victim, old)
	if err == nil {
		evidence, err = exitsRemoved(victim, evidence)
	}
	return t.fill(ctx, victim, old, leader.String()+"; "+evidence, err)
}

// removeDead removes a peer that was killed, the leader or another one. When it
// is started with its data it must end by itself.
func removeDead(ctx context.Context, t *Target) (string, error) {
	leader, victim, old, err := t.chooseMember(ctx)
	if err != nil {
		return "", err
	}
	killed, err := killAtOnce([]*supervisor.Peer{victim})
	if err == nil {
		err = hold(ctx, t.between(0, 3*time.Second))
	}
	if err != nil {
		return t.ended(ctx, killed, err)
	}
	evidence, err := t.remove(ctx, victim, old)
	evidence = killed + "; " + evidence
	if err == nil {
		err = victim.Start()
	}
	if err == nil {
		evidence, err = exitsRemoved(victim, evidence+", started again")
	}
	return t.fill(ctx, victim, old, leader.String()+"; "+evidence, err)
}

// chooseMember picks the leader, or any other peer, and returns its id.
func (t *Target) chooseMember(ctx context.Context) (leader lead, victim *supervisor.Peer, id string, err error) {
	leader, chosen, err := t.choose(ctx, []choice{theLeader, oneFollower}[t.Rand.IntN(2)])
	if err != nil {
		return leader, nil, "", err
	}
	id, err = voterOf(ctx, leader.peer, chosen[0].Name())
	return leader, chosen[0], id, err
}

// remove takes a peer out of the cluster by lookupctl, through any other one. An
// attempt whose outcome is not known is made again.
func (t *Target) remove(ctx context.Context, victim *supervisor.Peer, id string) (string, error) {
	ctx, cancel := healing(ctx)
	defer cancel()
	others := without(t.Cluster.Peers, victim)
	t.shuffle(others)
	by, began := others[0], time.Now()
	err := supervisor.Poll(ctx, func(ctx context.Context) error {
		_, err := t.lookupctl(ctx, by.HTTPAddress(), "peer", "remove", id)
		if err == nil {
			return nil
		}
		ids, statusErr := votersOf(ctx, by, victim.Name())
		if statusErr == nil && len(ids) == 0 {
			return nil
		}
		return errors.Join(err, statusErr)
	})
	return fmt.Sprintf("%s removed through %s in %v", id, by.Name(), time.Since(began).Round(time.Millisecond)), err
}

// exitsRemoved waits until a peer has ended by itself as one that was removed,
// and adds that to the evidence.
func exitsRemoved(p *supervisor.Peer, evidence string) (string, error) {
	began := time.Now()
	select {
	case <-p.Exited():
	case <-time.After(removedTimeout):
		return evidence, fmt.Errorf("%w: %s was removed %v ago and runs", ErrViolation, p.Name(), removedTimeout)
	}
	if code := p.ExitCode(); code != removedExitCode {
		return evidence, fmt.Errorf("%w: %s, which was removed, ended with exit code %d (signal %v), not %d\n%s",
			ErrViolation, p.Name(), code, p.EndedBy(), removedExitCode, p.LogTail())
	}
	return fmt.Sprintf("%s, ended with %d after %v", evidence, removedExitCode, time.Since(began).Round(time.Millisecond)), nil
}

// fill puts a peer without data in the place of one that was to be removed,
// whatever came of that, and ends the fault.
func (t *Target) fill(ctx context.Context, victim *supervisor.Peer, id, evidence string, err error) (string, error) {
	if err := victim.Kill(); err != nil {
		return evidence, err
	}
	if err == nil {
		_ = hold(ctx, t.between(0, 3*time.Second)) // the place is filled in any case
	}
	joined, joinErr := t.joinFresh(ctx, victim, id)
	return t.ended(ctx, evidence+"; "+joined, errors.Join(err, joinErr))
}

// joinFresh starts a peer without data and waits, also when ctx ends, until it
// votes in the place of the old id: a cluster that lacks a voter is not whole.
func (t *Target) joinFresh(ctx context.Context, p *supervisor.Peer, old string) (string, error) {
	began := time.Now()
	if err := removeContents(p.DataPath()); err != nil {
		return "", err
	}
	if err := p.Start(); err != nil {
		return "", err
	}
	waiting, cancel := context.WithTimeout(context.WithoutCancel(ctx), rejoinTimeout)
	defer cancel()
	var now string
	err := supervisor.Poll(waiting, func(ctx context.Context) error {
		l, err := t.Cluster.Leader(ctx) // whoever leads by now
		if err != nil {
			return err
		}
		if now, err = voterOf(ctx, l, p.Name()); err == nil && now == old {
			err = fmt.Errorf("%w: the voter of the name %s is still %s", ErrNotWhole, p.Name(), old)
		}
		return err
	})
	return fmt.Sprintf("%s replaced by %s after %v", old, now, time.Since(began).Round(time.Millisecond)), err
}

// voterOf returns the id of the one voter of a name.
func voterOf(ctx context.Context, by *supervisor.Peer, name string) (string, error) {
	ids, err := votersOf(ctx, by, name)
	if err != nil {
		return "", err
	}
	if len(ids) != 1 {
		return "", fmt.Errorf("%w: the voters of the name %s are [%s]", ErrNotWhole, name, strings.Join(ids, " "))
	}
	return ids[0], nil
}

// votersOf returns the ids of the voters of a name.
func votersOf(ctx context.Context, p *supervisor.Peer, name string) (ids []string, err error) {
	s, err := statusOf(ctx, p)
	for _, peer := range s.Peers {
		if peer.Name == name && (peer.Role == "voter" || peer.Role == "leader") {
			ids = append(ids, peer.ID)
		}
	}
	return ids, err
}

// removeContents empties a directory, which may be a mount point.
func removeContents(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, entry := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, entry.Name())))
	}
	return err
}
