package fault

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/lookupd/lookupd/proof/history"
	"github.com/lookupd/lookupd/supervisor"
	"github.com/lookupd/lookupd/supervisor/lab"
)

var (
	// ErrNoEvidence: nothing shows that the fault took effect.
	ErrNoEvidence = errors.New("no evidence that the fault took effect")
	// ErrViolation: the cluster broke a promise in front of the fault's eyes.
	ErrViolation = errors.New("promise broken")
	// ErrNotWhole: the cluster does not come back after the fault has ended, which
	// is a promise broken too.
	ErrNotWhole = fmt.Errorf("%w: not whole after the fault", ErrViolation)
)

// Target is a cluster that faults may break. Its fields do not change while
// faults run, but the state of Rand: faults that run at the same time have
// a copy each, with a Rand of its own.
type Target struct {
	Group   *supervisor.Group
	Cluster *supervisor.Cluster
	Network *lab.Network         // nil: the peers are on loopback
	Hosts   map[string]*lab.Host // of the peers, by name; empty without Network
	Proxies map[string]*Proxies  // before the peers, by name; empty: none
	Clocks  map[string]Clock     // of the peers, by name; empty: built without BuildWithClock
	// TrailingLogs is how many entries peers keep behind a snapshot; 0: too many
	// to let a peer fall behind them.
	TrailingLogs uint64
	// Secrets are what the peers trust each other by; nil: nothing.
	Secrets *Secrets
	// Lookupctl is the executable; "": operators do nothing.
	Lookupctl string
	// Recorder notes what operators did and saw; nil: nobody judges that.
	Recorder *history.Recorder
	Dir      string // for what faults leave, such as backups
	Rand     *rand.Rand
	Log      func(format string, args ...any)
}

// Kind is a kind of fault.
type Kind struct {
	Name string
	// Exclusive: the fault takes peers away, and the cluster bears no other such
	// beside it. So runs may overlap of which at most one is exclusive, and which
	// are of different kinds.
	Exclusive bool
	// Needs returns "", or what the target or this machine lacks for it.
	Needs func(*Target) string
	// Run injects the fault, holds it for a random time, ends it and returns the
	// evidence that it took effect. An exclusive one needs a whole cluster, and
	// waits until it is whole again. When ctx ends the fault is ended at once, and
	// Run returns the context's error.
	Run func(ctx context.Context, t *Target) (evidence string, err error)
}

// All returns all kinds.
func All() []Kind {
	var all []Kind
	for _, kinds := range [][]Kind{killKinds(), pauseKinds(), networkKinds(), proxyKinds(), memberKinds(), secretKinds(), backupKinds(), otherKinds()} {
		all = append(all, kinds...)
	}
	return all
}

// healTimeout bounds the wait for a whole cluster. It is far above what the
// cluster promises, which the workload measures: this is to end a run.
const healTimeout = 60 * time.Second

// between returns a random duration.
func (t *Target) between(least, most time.Duration) time.Duration {
	return least + time.Duration(t.Rand.Int64N(int64(most-least)))
}

// hold waits, at most until ctx ends.
func hold(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// healing returns a context for what must be done also after ctx has ended.
func healing(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), healTimeout)
}

// whole starts the peers that do not run, waits until all are ready and one
// leads, and returns that.
func (t *Target) whole(ctx context.Context) (string, error) {
	ctx, cancel := healing(ctx)
	defer cancel()
	for _, p := range t.Cluster.Peers {
		if err := p.Start(); err != nil && !errors.Is(err, supervisor.ErrRunning) {
			return "", fmt.Errorf("%w: %w", ErrNotWhole, err)
		}
	}
	if err := t.Cluster.WaitReady(ctx); err != nil {
		return "", fmt.Errorf("%w: %w", ErrNotWhole, err)
	}
	lead, err := t.waitLead(ctx, nil)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrNotWhole, err)
	}
	return lead.String(), nil
}

// ended is what every Run returns: it makes the target whole and joins what
// went wrong before with what goes wrong now.
func (t *Target) ended(ctx context.Context, evidence string, err error) (string, error) {
	lead, wholeErr := t.whole(ctx)
	if err := errors.Join(err, wholeErr); err != nil {
		return evidence, err
	}
	return evidence + "; then " + lead, nil
}
