package disk

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lookupd/lookupd/supervisor"
)

// Outcomes of a trial.
const (
	found    = "found"
	harmless = "harmless"
	broken   = "BROKEN"
)

const (
	// startWithin is how long a damaged peer may think about it.
	startWithin = 30 * time.Second
	exitRefused = 3
	exitDamaged = 4
)

// trial is one damage and what comes of it.
type trial struct {
	*fleet
	specimens *specimens
	report    *CorruptionReport
	number    int
	rng       *rand.Rand

	victim, away *supervisor.Peer // away is nil, or starts after the verdict
	target       target
	damage       damage
	what         string
	logFrom      int64 // of the victim's log, where this trial begins
}

// run starts the peers and judges.
func (t *trial) run(ctx context.Context) (outcome string, err error) {
	before, err := digest(t.victim.DataPath())
	if err != nil {
		return "", err
	}
	if info, err := os.Stat(t.victim.LogPath()); err == nil {
		t.logFrom = info.Size()
	}
	others := t.others()
	order := append(slices.Clone(others), t.victim)
	t.rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	if err := t.start(order...); err != nil {
		return "", err
	}
	if !t.ready(ctx) {
		return t.judgeRefusal(ctx, before, others)
	}
	return t.judgeService(ctx, append(others, t.victim))
}

// others are the healthy peers that start with the victim.
func (t *trial) others() []*supervisor.Peer {
	return slices.DeleteFunc(slices.Clone(t.cluster.Peers), func(p *supervisor.Peer) bool { return p == t.victim || p == t.away })
}

// ready waits until the victim serves, exits, or has had its time.
func (t *trial) ready(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	return t.victim.WaitReady(ctx) == nil
}

func (t *trial) broken(format string, args ...any) string {
	if len(t.report.Problems) < maxProblems {
		t.report.Problems = append(t.report.Problems, fmt.Sprintf("trial %d, %s: %s", t.number, t.what, fmt.Sprintf(format, args...)))
	}
	return broken
}

// judgeRefusal judges a victim that does not serve.
func (t *trial) judgeRefusal(ctx context.Context, before map[string]string, others []*supervisor.Peer) (string, error) {
	if t.victim.Running() {
		return t.broken("neither serves nor ends within %v:\n%s", startWithin, t.victim.LogTail()), nil
	}
	if problem, err := t.message(); err != nil || problem != "" {
		return t.broken("%s", problem), err
	}
	after, err := digest(t.victim.DataPath())
	if err != nil {
		return "", err
	}
	for path, content := range before {
		if after[path] == content {
			continue
		}
		// Opening a log that is whole, and then refused, may write a transaction
		// in which nothing changes.
		if same, err := sameEntries(path, content); filepath.Base(path) != logFile || err != nil || !same {
			return t.broken("refused, but changed %s: %v", path, err), nil
		}
	}
	if t.away != nil {
		if err := t.start(t.away); err != nil {
			return "", err
		}
		others = append(others, t.away)
	}
	if problem, err := t.right(ctx, others); err != nil || problem != "" {
		return t.broken("refused, and then of the others: %s", problem), err
	}
	if t.rng.IntN(8) > 0 {
		return found, nil
	}
	t.report.Reseeded++
	if err := os.RemoveAll(t.victim.DataPath()); err != nil {
		return "", err
	}
	if err := t.start(t.victim); err != nil {
		return "", err
	}
	if problem, err := t.right(ctx, append(others, t.victim)); err != nil || problem != "" {
		return t.broken("refused, and started with an empty directory: %s", problem), err
	}
	return found, nil
}

// message judges how the victim ended: its exit code, and that its last words
// name the file and what to do.
func (t *trial) message() (problem string, err error) {
	text, err := logsOf(t.victim.LogPath(), t.logFrom)
	if err != nil {
		return "", err
	}
	const shown = 3000
	tail := text[max(0, len(text)-shown):]
	for _, bad := range []string{"panic:", "fatal error:", "SIGBUS", "SIGSEGV", "DATA RACE"} {
		if strings.Contains(text, bad) {
			return fmt.Sprintf("%s:\n%s", bad, tail), nil
		}
	}
	if code := t.victim.ExitCode(); code != exitRefused && code != exitDamaged {
		return fmt.Sprintf("exit code %d:\n%s", code, tail), nil
	}
	// Where two files contradict each other either may be the damaged one.
	names := []string{filepath.Base(t.target.path)}
	switch t.target.kind {
	case identityFile:
		names = append(names, logFile)
	case snapshotMeta, snapshotBody:
		names = append(names, filepath.Base(filepath.Dir(t.target.path)))
	}
	if !slices.ContainsFunc(names, func(name string) bool { return strings.Contains(tail, name) }) {
		return "the message names none of " + strings.Join(names, ", ") + ":\n" + tail, nil
	}
	if !strings.Contains(tail, "next: ") {
		return "the message tells no next step:\n" + tail, nil
	}
	return "", nil
}

// judgeService judges a victim that serves.
func (t *trial) judgeService(ctx context.Context, running []*supervisor.Peer) (string, error) {
	if t.damage.total && t.target.vital() {
		return t.broken("serves without what this file said"), nil
	}
	problem, err := t.right(ctx, running)
	if err != nil {
		return "", err
	}
	if problem == "" && t.away != nil {
		if err := t.start(t.away); err != nil {
			return "", err
		}
		running = append(running, t.away)
		if problem, err = t.right(ctx, running); err != nil {
			return "", err
		}
	}
	if problem == "" && t.rng.IntN(4) == 0 {
		t.report.Restarted++
		if err := t.victim.Kill(); err != nil {
			return "", err
		}
		if err := t.start(t.victim); err != nil {
			return "", err
		}
		if problem, err = t.right(ctx, running); err != nil {
			return "", err
		}
	}
	switch {
	case problem == "":
		return harmless, nil
	case !t.victim.Running(): // it found out later
		if problem, err := t.message(); err != nil || problem != "" {
			return t.broken("served, then ended: %s", problem), err
		}
		return found, nil
	}
	return t.broken("%s", problem), nil
}

// right returns "" if these peers become ready, show every acknowledged change,
// take a new one each, and have equal states.
func (t *trial) right(ctx context.Context, peers []*supervisor.Peer) (problem string, err error) {
	if err := t.waitWell(ctx, peers...); err != nil {
		return err.Error(), ctx.Err()
	}
	fresh := newBook()
	for _, p := range peers {
		topic := fmt.Sprintf("t%d-%s-%d", t.number, p.Name(), t.rng.Uint32())
		if err := supervisor.Poll(ctx, func(ctx context.Context) error {
			return t.web.create(ctx, p.HTTPAddress(), topic, "c")
		}); err != nil {
			return err.Error(), ctx.Err()
		}
		fresh.note(topic, "c", "", acknowledged)
	}
	for _, b := range append([]*book{fresh}, t.specimens.books...) {
		wrong, err := t.check(ctx, peers, b, false)
		if err != nil {
			return err.Error(), ctx.Err()
		}
		if len(wrong) > 0 {
			return fmt.Sprintf("%d wrong: %s", len(wrong), strings.Join(wrong[:min(len(wrong), 3)], "; ")), nil
		}
	}
	if err := t.sameState(ctx, peers); err != nil {
		return err.Error(), ctx.Err()
	}
	return "", nil
}
