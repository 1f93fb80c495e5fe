package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lookupd/lookupd/proof/fault"
	"github.com/lookupd/lookupd/supervisor"
)

// stopWithin is how long a peer may go on with a disk that fails under traffic:
// the 10 s after which a disk counts as hung, and what a slow machine takes.
const stopWithin = 25 * time.Second

// victim is a running peer whose disk is about to fail.
type victim struct {
	*supervisor.Peer
	group   *supervisor.Group
	image   *Image // nil: its data lie on the machine's disk
	logFrom int64  // where its log ends before the fault
}

// undo ends a fault and says what shows that it took effect. It may be called
// when the peer has ended.
type undo func(ctx context.Context) (evidence string, err error)

// failure is a way in which a disk fails.
type failure struct {
	name            string
	image, strace   bool // what it needs
	least, most     time.Duration
	stops           bool // the peer must end by itself
	begin           func(ctx context.Context, v *victim) (undo, error)
	cut, mayLoseAll bool // power is lost at the end; the disk may then be unusable
}

func failures() []failure {
	const second = time.Second
	return []failure{
		{name: "fsync: EIO", strace: true, least: stopWithin, most: stopWithin + 1, stops: true, begin: inject("error=EIO:when=1+")},
		{name: "fsync: EIO once", strace: true, least: stopWithin, most: stopWithin + 1, stops: true, begin: inject("error=EIO:when=1")},
		{name: "fsync: ENOSPC", strace: true, least: stopWithin, most: stopWithin + 1, stops: true, begin: inject("error=ENOSPC:when=1+")},
		{name: "fsync: slow", strace: true, least: 2 * second, most: 8 * second, begin: inject("delay_enter=300000:when=1+")},
		{name: "fsync: hangs for 6 s", strace: true, least: 6 * second, most: 12 * second, begin: inject("delay_enter=6000000:when=1+")},
		{name: "fsync: hangs for 15 s", strace: true, least: stopWithin, most: stopWithin + 1, stops: true, begin: inject("delay_enter=15000000:when=1+")},
		{
			name: "fsync: lies, then power cut", strace: true, image: true, least: second, most: 4 * second, cut: true, mayLoseAll: true,
			begin: inject("retval=0:when=1+"),
		},
		{name: "full disk", image: true, least: 2 * second, most: 8 * second, begin: fill},
		{name: "read-only disk", image: true, least: stopWithin, most: stopWithin + 1, stops: true, begin: readOnly},
		{name: "dead disk", image: true, least: stopWithin, most: stopWithin + 1, stops: true, begin: dead},
		{name: "power cut", image: true, least: 0, most: 1, cut: true, begin: nothing},
	}
}

// Kinds are the faults of one peer's disk, for a scheduler, with traffic under
// way: a disk at rest does not fail. Each takes one peer, holds the fault until
// the peer has ended by itself or the time is over, heals it, starts the peer
// again and waits until the cluster is whole. A peer that goes on though its
// disk cannot sync, or ends otherwise than with a message and an exit code from
// 1 to 4, is a fault.ErrViolation. disks may be nil: what needs one is lacking.
func Kinds(disks *Disks) []fault.Kind {
	var kinds []fault.Kind
	for _, f := range failures() {
		kinds = append(kinds, fault.Kind{
			Name: "disk: " + f.name, Exclusive: true,
			Needs: func(t *fault.Target) string { return f.needs(t, disks) },
			Run:   func(ctx context.Context, t *fault.Target) (string, error) { return f.run(ctx, t, disks) },
		})
	}
	return kinds
}

func (f failure) needs(t *fault.Target, disks *Disks) string {
	if len(t.Cluster.Peers) < 3 {
		return "3 peers"
	}
	if f.image {
		for _, p := range t.Cluster.Peers {
			if disks.Image(p.Name()) == nil {
				return "a disk for each peer, that is root and loop devices"
			}
		}
	}
	if f.strace {
		if err := MissingStrace(); err != nil {
			return err.Error()
		}
	}
	return ""
}

// run injects the failure into one peer, the leader's each second time.
func (f failure) run(ctx context.Context, t *fault.Target, disks *Disks) (evidence string, err error) {
	leader, err := t.Cluster.WaitLeader(ctx)
	if err != nil {
		return "", err
	}
	peer := leader
	if t.Rand.IntN(2) == 0 {
		peer = t.Cluster.Peers[t.Rand.IntN(len(t.Cluster.Peers))]
	}
	v := &victim{Peer: peer, group: t.Group, image: disks.Image(peer.Name())}
	if info, err := os.Stat(peer.LogPath()); err == nil {
		v.logFrom = info.Size()
	}
	began := time.Now()
	end, err := f.begin(ctx, v)
	if err != nil {
		return "", fmt.Errorf("%s at %s: %w", f.name, peer.Name(), err)
	}
	stopped, err := v.waitEnd(ctx, f.least+time.Duration(t.Rand.Int64N(int64(f.most-f.least))))
	took := time.Since(began)
	// What was begun is ended also after ctx has.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*patience)
	defer cancel()
	if f.cut {
		err = errors.Join(err, v.image.PowerCut(), v.Kill())
	}
	shown, endErr := end(ctx)
	evidence = fmt.Sprintf("%s (leader: %s): %s", peer.Name(), leader.Name(), shown)
	err = errors.Join(err, endErr)
	if err == nil {
		err = f.judge(v, stopped, took)
	}
	if stopped {
		evidence += fmt.Sprintf(", ended with exit code %d after %v", v.ExitCode(), took.Round(time.Millisecond))
	}
	back, backErr := f.heal(ctx, t, v)
	return evidence + back, errors.Join(err, backErr)
}

// waitEnd waits until the victim has ended or the time is over.
func (v *victim) waitEnd(ctx context.Context, d time.Duration) (ended bool, err error) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-v.Exited():
		return true, nil
	case <-ctx.Done():
		return false, context.Cause(ctx)
	case <-timer.C:
		return false, nil
	}
}

// judge holds the victim to what a peer with a failing disk must do.
func (f failure) judge(v *victim, stopped bool, took time.Duration) error {
	if !stopped {
		if f.stops {
			return fmt.Errorf("%w: %s goes on %v after %s", fault.ErrViolation, v.Name(), took.Round(time.Second), f.name)
		}
		return nil
	}
	text, err := logsOf(v.LogPath(), v.logFrom)
	if err != nil {
		return err
	}
	if code := v.ExitCode(); code < 1 || code > 4 || !strings.Contains(text, "must stop") || strings.Contains(text, "panic:") {
		return fmt.Errorf("%w: %s ended after %s with exit code %d:\n%s", fault.ErrViolation, v.Name(), f.name, code, v.LogTail())
	}
	return nil
}

// heal gives the victim a sound disk and the cluster its peer.
func (f failure) heal(ctx context.Context, t *fault.Target, v *victim) (back string, err error) {
	began := time.Now()
	if f.cut {
		if err := v.image.Remount(ctx, Ordered); err != nil {
			return "", err
		}
	}
	if !v.Running() {
		if err := v.Start(); err != nil {
			return "", err
		}
	}
	err = t.Cluster.WaitReady(ctx)
	if err != nil && !v.Running() {
		back, err = f.startAgain(ctx, t, v)
	}
	if err == nil {
		_, err = t.Cluster.WaitLeader(ctx)
	}
	if err != nil {
		return back, fmt.Errorf("%w: after %s: %w", fault.ErrNotWhole, f.name, err)
	}
	return fmt.Sprintf("%s, whole after %v", back, time.Since(began).Round(time.Millisecond)), nil
}

// startAgain starts a victim that ended although its disk is sound again: it was
// about to end when the fault did, or what the fault left is refused.
func (f failure) startAgain(ctx context.Context, t *fault.Target, v *victim) (back string, err error) {
	switch code := v.ExitCode(); {
	case f.mayLoseAll && (code == exitRefused || code == exitDamaged):
		back = ", refused what was left and came back empty"
		err = v.image.Wipe(ctx, Ordered)
	case f.cut || f.stops:
		return "", fmt.Errorf("%s ended again, with exit code %d:\n%s", v.Name(), code, v.LogTail())
	default:
		back = fmt.Sprintf(", ended with exit code %d soon after", code)
		err = f.judge(v, true, 0)
	}
	if err == nil {
		err = v.Start()
	}
	if err == nil {
		err = t.Cluster.WaitReady(ctx)
	}
	return back, err
}

// inject makes strace change the victim's syncs.
func inject(what string) func(context.Context, *victim) (undo, error) {
	return func(ctx context.Context, v *victim) (undo, error) {
		t, err := attach(ctx, v.group, v.Peer, what)
		if err != nil {
			return nil, err
		}
		return func(context.Context) (string, error) {
			if err := t.detach(); err != nil {
				return "", err
			}
			n, err := t.count()
			if err != nil || n > 0 {
				return fmt.Sprintf("%d syncs with %s", n, what), err
			}
			said, err := logsOf(v.LogPath(), v.logFrom)
			if err == nil && !strings.Contains(said, "disk is hung") {
				err = fault.ErrNoEvidence
			}
			return "the peer says that its disk hangs, with " + what, err
		}, nil
	}
}

// fill leaves no block free.
func fill(_ context.Context, v *victim) (undo, error) {
	path := filepath.Join(v.image.Dir(), "ballast")
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	for size, offset := int64(imageSize), int64(0); size >= block; {
		switch err := unix.Fallocate(int(file.Fd()), 0, offset, size); {
		case err == nil:
			offset += size
		case errors.Is(err, unix.ENOSPC):
			size /= 2
		default:
			return nil, errors.Join(err, os.Remove(path))
		}
	}
	var left unix.Statfs_t
	if err := unix.Statfs(v.image.Dir(), &left); err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	return func(context.Context) (string, error) {
		free := int64(left.Bavail) * left.Bsize // without ext4's own reserve
		shown := fmt.Sprintf("%d bytes free", free)
		if v.Running() {
			shown += ", the peer went on"
		}
		if free >= block {
			return shown, errors.Join(fault.ErrNoEvidence, os.Remove(path))
		}
		return shown, os.Remove(path)
	}, nil
}

// readOnly makes the file system read-only.
func readOnly(ctx context.Context, v *victim) (undo, error) {
	if err := v.image.ReadOnly(ctx); err != nil {
		return nil, err
	}
	return v.remount("read-only")
}

// dead makes every write and sync fail.
func dead(_ context.Context, v *victim) (undo, error) {
	if err := v.image.PowerCut(); err != nil {
		return nil, err
	}
	return v.remount("shut down")
}

// remount returns what ends the failure of a whole file system.
func (v *victim) remount(what string) (undo, error) {
	return func(ctx context.Context) (string, error) {
		err := os.WriteFile(filepath.Join(v.image.Dir(), "probe"), nil, 0o600)
		if err == nil {
			return "", errors.Join(fault.ErrNoEvidence, os.Remove(filepath.Join(v.image.Dir(), "probe")))
		}
		shown := fmt.Sprintf("file system %s: %v", what, err)
		return shown, errors.Join(v.Kill(), v.image.Remount(ctx, Ordered))
	}, nil
}

// nothing is before a power cut.
func nothing(context.Context, *victim) (undo, error) {
	return func(context.Context) (string, error) { return "power cut", nil }, nil
}
