package fault

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/lookupd/lookupd/supervisor"
)

func otherKinds() []Kind {
	return []Kind{
		{Name: "wall clocks jump", Needs: needsClocks, Run: jumpClock},
		{Name: "wall clocks run at wrong rates", Needs: needsClocks, Run: warpClock},
		{Name: "starve a peer of processor time", Exclusive: true, Needs: needsChrt, Run: starve},
		{Name: "snapshot to a lagging peer", Exclusive: true, Needs: needsFewTrailingLogs, Run: lag},
	}
}

func needsChrt(t *Target) string {
	if _, err := exec.LookPath("chrt"); err != nil {
		return "the program chrt"
	}
	return needsPeers(3)(t)
}

// starve lets a peer run only when nothing else wants to, and keeps every
// processor busy.
func starve(ctx context.Context, t *Target) (string, error) {
	leader, victims, err := t.choose(ctx, []choice{theLeader, oneFollower}[t.Rand.IntN(2)])
	if err != nil {
		return "", err
	}
	victim := victims[0]
	before, err := waitedForProcessor(victim)
	if err != nil {
		return "", err
	}
	began := time.Now()
	err = t.starved(ctx, victim, func() error { return hold(ctx, t.between(2*time.Second, 8*time.Second)) })
	took := time.Since(began)
	after, waitedErr := waitedForProcessor(victim)
	waited := after - before
	if err = errors.Join(err, waitedErr); err == nil && waited < took/10 {
		err = fmt.Errorf("%w: %s waited %v for a processor in %v", ErrNoEvidence, victim.Name(), waited, took)
	}
	return t.ended(ctx, fmt.Sprintf("%s; the threads of %s waited %v for a processor in %v",
		leader, victim.Name(), waited.Round(time.Millisecond), took.Round(time.Millisecond)), err)
}

// starved runs during while a peer gets what busy loops leave.
func (t *Target) starved(ctx context.Context, p *supervisor.Peer, during func() error) (err error) {
	policy := func(name string) error {
		words := []string{"--all-tasks", name, "--pid", "0", strconv.Itoa(p.PID())}
		out, err := exec.Command("chrt", words...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("chrt %v: %w: %s", words, err, out)
		}
		return nil
	}
	for i := range runtime.NumCPU() {
		loop := t.Group.NewProcess(supervisor.Spec{
			Name: fmt.Sprintf("busy-%d", i), Path: "sh", Args: []string{"-c", "while :; do :; done"}, Log: os.DevNull,
		})
		if err := loop.Start(); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, loop.Kill()) }()
	}
	if err := policy("--idle"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, policy("--other")) }()
	return during()
}

// waitedForProcessor sums for how long a peer's threads could run and did not:
// the second number of each schedstat, in nanoseconds.
func waitedForProcessor(p *supervisor.Peer) (sum time.Duration, err error) {
	paths, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.PID()))
	if err != nil || len(paths) == 0 {
		return 0, fmt.Errorf("%w: no threads of %s %w", ErrNoEvidence, p.Name(), err)
	}
	for _, path := range paths {
		var ran, waited int64
		stat, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // the thread has ended
		}
		if err != nil {
			return 0, err
		}
		if _, err := fmt.Sscan(string(stat), &ran, &waited); err != nil {
			return 0, fmt.Errorf("%s holds %q: %w", path, stat, err)
		}
		sum += time.Duration(waited)
	}
	return sum, nil
}

func needsFewTrailingLogs(t *Target) string {
	if t.TrailingLogs == 0 {
		return "peers that keep few entries behind a snapshot"
	}
	return needsPeers(3)(t)
}

// lagTimeout bounds the wait until the leader's log has grown beyond a follower:
// the entries are those of the workload.
const lagTimeout = 2 * time.Minute

// installed is what a peer logs when it has taken over a snapshot.
const installed = "restored a snapshot"

// lag keeps a follower away until the entries that it needs are gone; it must be
// sent a snapshot.
func lag(ctx context.Context, t *Target) (string, error) {
	_, followers, err := t.roles(ctx)
	if err != nil {
		return "", err
	}
	victim := followers[0]
	killed, err := killAtOnce(followers[:1])
	if err != nil {
		return t.ended(ctx, killed, err)
	}
	waiting, cancel := context.WithTimeout(ctx, lagTimeout)
	defer cancel()
	l, err := t.waitLead(waiting, t.Cluster.Running())
	if err != nil {
		return t.ended(ctx, killed, err)
	}
	// The peer's log may end beyond what the leader has applied by now, by what
	// was under way.
	const underWay = 100
	s, err := statusOf(waiting, l.peer)
	if err != nil {
		return t.ended(ctx, killed, err)
	}
	gone := s.Index + underWay + t.TrailingLogs
	var newest uint64
	err = supervisor.Poll(waiting, func(ctx context.Context) error {
		l, err := t.Cluster.Leader(ctx)
		if err != nil {
			return err
		}
		if newest = newestSnapshot(l); newest <= gone {
			return fmt.Errorf("%w: the newest snapshot of %s is at %d, want above %d: is there a workload?", ErrNoEvidence, l.Name(), newest, gone)
		}
		return nil
	})
	evidence := fmt.Sprintf("%s before index %d; then a snapshot at %d", killed, s.Index, newest)
	if err != nil {
		return t.ended(ctx, evidence, err)
	}
	from := logSize(victim)
	if err = victim.Start(); err == nil {
		var line string
		line, err = waitLine(ctx, victim, from, installed, s.Index)
		evidence += fmt.Sprintf("; %s logged: %s", victim.Name(), line)
	}
	return t.ended(ctx, evidence, err)
}

// newestSnapshot returns the log index of the latest snapshot that a peer has
// on disk, 0 if there is none. Their directories are called term-index-time.
func newestSnapshot(p *supervisor.Peer) (newest uint64) {
	directories, _ := filepath.Glob(filepath.Join(p.DataPath(), "raft", "snapshots", "*"))
	for _, dir := range directories {
		var term, index, ms uint64
		if n, _ := fmt.Sscanf(filepath.Base(dir), "%d-%d-%d", &term, &index, &ms); n == 3 && filepath.Ext(dir) != ".tmp" {
			newest = max(newest, index)
		}
	}
	return newest
}

func logSize(p *supervisor.Peer) int64 {
	info, err := os.Stat(p.LogPath())
	if err != nil {
		return 0
	}
	return info.Size()
}

// waitLine waits until a peer logs, behind a place in its log, a line with this
// text and an index above one that it had before.
func waitLine(ctx context.Context, p *supervisor.Peer, from int64, text string, above uint64) (found string, err error) {
	ctx, cancel := context.WithTimeout(ctx, healTimeout)
	defer cancel()
	err = supervisor.Poll(ctx, func(context.Context) error {
		log, err := os.ReadFile(p.LogPath())
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(log[min(from, int64(len(log))):])) {
			_, after, ok := strings.Cut(line, text)
			_, number, _ := strings.Cut(after, " index=")
			var index uint64
			if _, err := fmt.Sscan(number, &index); ok && err == nil && index > above {
				found = strings.TrimSpace(text + after)
				return nil
			}
		}
		return fmt.Errorf("%w: %s has not logged %q with an index above %d", ErrNoEvidence, p.Name(), text, above)
	})
	return found, err
}
