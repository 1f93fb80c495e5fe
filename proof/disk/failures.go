package disk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"time"

	"github.com/lookupd/lookupd/proof/fault"
)

// FailureConfig says how to make disks fail.
type FailureConfig struct {
	Lookupd     string // path of the executable under test
	Dir         string // empty or absent; takes disks, in memory, and logs, which stay
	Seed        uint64 // 0 draws one
	Faults      int    // in turn through Kinds
	Only        string // part of the kinds' names, "" for all
	Clients     int    // per peer
	StopAtFirst bool   // end when a promise is broken
	Log         *slog.Logger
}

// DefaultFailureConfig is each kind once, but for the paths.
func DefaultFailureConfig() FailureConfig {
	return FailureConfig{Faults: len(failures()), Clients: 4, Log: slog.New(slog.DiscardHandler)}
}

// FailureReport counts what happened.
type FailureReport struct {
	Seed         uint64         `json:"seed"`
	ByKind       map[string]int `json:"by_kind"`  // faults that took effect
	Lacking      []string       `json:"lacking"`  // kinds that this machine cannot make, and why
	Evidence     []string       `json:"evidence"` // of each fault
	Acknowledged int            `json:"acknowledged"`
	During       int            `json:"during"` // changes acknowledged between a fault's begin and its end
	Lost         int            `json:"lost"`
	Broken       int            `json:"broken"` // peers that went on, ended badly or did not come back; states that differ
	Took         time.Duration  `json:"took_ns"`
	Problems     []string       `json:"problems,omitempty"`
}

// Failed returns nil if all promises held, else an error that says which did not.
func (r *FailureReport) Failed() error {
	if r.Lost+r.Broken == 0 {
		return nil
	}
	return fmt.Errorf("failing disks, seed %d: %d changes lost, %d times a promise broken:\n%s", r.Seed, r.Lost, r.Broken, strings.Join(r.Problems, "\n"))
}

// Failures runs a cluster under load and makes one peer's disk fail at a time.
// The error is of the machinery.
func Failures(ctx context.Context, cfg FailureConfig) (r *FailureReport, err error) {
	r = &FailureReport{ByKind: map[string]int{}}
	if cfg.Lookupd == "" || cfg.Dir == "" || cfg.Faults < 1 || cfg.Clients < 2 {
		return r, errors.New("failures: no executable, directory, faults or clients")
	}
	if cfg.Seed == 0 {
		cfg.Seed = rand.Uint64()
	}
	r.Seed = cfg.Seed
	began := time.Now()
	defer func() { r.Took = time.Since(began) }()
	l, err := newLife(ctx, cfg.Lookupd, filepath.Join(cfg.Dir, "disks"), filepath.Join(cfg.Dir, "logs"))
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, l.end()) }()
	if err := l.start(l.cluster.Peers...); err != nil {
		return r, err
	}
	if err := l.waitWell(ctx, l.cluster.Peers...); err != nil {
		return r, err
	}
	target := &fault.Target{
		Group: l.group, Cluster: l.cluster, Rand: rand.New(rand.NewPCG(cfg.Seed, 0)),
		Log: func(format string, args ...any) { cfg.Log.Info(fmt.Sprintf(format, args...)) },
	}
	var kinds []fault.Kind
	for _, k := range Kinds(l.disks) {
		switch lacks := k.Needs(target); {
		case !strings.Contains(k.Name, cfg.Only):
		case lacks != "":
			r.Lacking = append(r.Lacking, k.Name+": needs "+lacks)
		default:
			kinds = append(kinds, k)
		}
	}
	for n := 0; n < cfg.Faults && len(kinds) > 0; n++ {
		if cfg.StopAtFirst && r.Failed() != nil {
			break
		}
		whole, err := l.fail(ctx, cfg, target, r, kinds[n%len(kinds)], n)
		if err != nil || !whole {
			return r, err
		}
	}
	return r, nil
}

// fail runs one fault under traffic and looks at every answer. It returns false
// if the cluster is not whole any more.
func (l *life) fail(ctx context.Context, cfg FailureConfig, target *fault.Target, r *FailureReport, k fault.Kind, n int) (whole bool, err error) {
	t := startTraffic(l.cluster.Peers, cfg.Clients, fmt.Sprintf("f%d", n))
	defer t.hangUp()
	err = sleep(ctx, 500*time.Millisecond)
	before := t.book.count(acknowledged)
	evidence, faultErr := "", error(nil)
	if err == nil {
		evidence, faultErr = k.Run(ctx, target)
	}
	during := t.book.count(acknowledged) - before
	t.stop()
	if err != nil || ctx.Err() != nil {
		return false, errors.Join(err, ctx.Err())
	}
	r.During += during
	r.Acknowledged += t.book.count(acknowledged)
	evidence = fmt.Sprintf("%s: %s, %d changes acknowledged meanwhile", k.Name, evidence, during)
	cfg.Log.Info(evidence, "error", faultErr)
	r.Evidence = append(r.Evidence, evidence)
	switch {
	case errors.Is(faultErr, fault.ErrViolation):
		r.Broken++
		r.Problems = append(r.Problems, evidence+": "+faultErr.Error())
	case faultErr != nil:
		return false, fmt.Errorf("%s: %w", evidence, faultErr)
	default:
		r.ByKind[k.Name]++
	}
	if errors.Is(faultErr, fault.ErrNotWhole) {
		return false, nil
	}
	wrong, err := l.check(ctx, l.cluster.Peers, t.book, true)
	if err != nil {
		return false, fmt.Errorf("%s: %w", evidence, err)
	}
	r.Lost += len(wrong)
	for _, w := range wrong[:min(len(wrong), maxProblems)] {
		r.Problems = append(r.Problems, evidence+": "+w)
	}
	if err := l.sameState(ctx, l.cluster.Peers); err != nil {
		r.Broken++
		r.Problems = append(r.Problems, evidence+": "+err.Error())
	}
	return true, ctx.Err()
}
