package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/lookupd/lookupd/proof/disk"
	"github.com/lookupd/lookupd/proof/fault"
	"github.com/lookupd/lookupd/proof/ledger"
)

// part is what the verbs that are not mixed rounds have in common.
type part struct {
	*harness
	kind   string
	n      int
	binary string
	only   string
	first  bool
	ledger bool
	began  time.Time
}

// newPart parses the flags of a verb that does something n times.
func newPart(ctx context.Context, kind string, n int, args []string, tags ...string) (*part, error) {
	fs := flag.NewFlagSet(kind, flag.ContinueOnError)
	count := fs.Int("n", n, "how `many`")
	seed := fs.Uint64("seed", rand.Uint64N(1<<32), "`number` that all that is random comes from")
	binary := fs.String("binary", "", "`path` of a lookupd; empty: build one")
	only := fs.String("only", "", "part of the `names` of what is done; empty: all")
	first := fs.Bool("first", false, "end at the first broken promise")
	keep := fs.Bool("ledger", false, "add the run to the ledger")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	h, err := newHarness(ctx, *seed)
	if err != nil {
		return nil, err
	}
	p := &part{harness: h, kind: kind, n: *count, binary: *binary, only: *only, first: *first, ledger: *keep, began: time.Now()}
	if p.binary == "" {
		if p.binary, err = h.build(tags...); err != nil {
			h.close()
			return nil, err
		}
	}
	return p, nil
}

// done writes the ledger's line and says what came out.
func (p *part) done(counts map[string]int, violations []string, err error) error {
	line := p.line(p.kind, p.seed)
	line.Counts, line.Violations = counts, violations
	line.Minutes, line.Time = time.Since(p.began).Minutes(), time.Now().UTC().Format(time.RFC3339)
	fmt.Printf("%s: %v, %s\n", p.kind, counts, line.Verdict())
	if p.ledger && err == nil {
		err = ledger.Append(p.root, line)
	}
	p.keep = err != nil || len(violations) > 0
	return errors.Join(err, failed(line))
}

// notRun says loudly that this machine cannot do a part. Who wants that to be
// a failure sets LOOKUPD_FAULTS=require.
func notRun(kind string, why error) error {
	fmt.Printf("NOT RUN %s: %v\n", kind, why)
	if os.Getenv("LOOKUPD_FAULTS") == "require" {
		return fmt.Errorf("NOT RUN %s: %w", kind, why)
	}
	return nil
}

// powerCuts cuts the power of peers' disks.
func powerCuts(ctx context.Context, args []string) error {
	if err := disk.Enter(); err != nil {
		return notRun("power cuts", err)
	}
	p, err := newPart(ctx, "power cuts", 40, args)
	if err != nil {
		return err
	}
	defer p.close()
	cfg := disk.DefaultPowerCutConfig()
	cfg.Lookupd, cfg.Dir, cfg.Seed, cfg.Cuts = p.binary, filepath.Join(p.dir, "cuts"), p.seed, p.n
	cfg.StopAtFirst = p.first
	cfg.Log = slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{Level: slog.LevelWarn}))
	r, err := disk.PowerCuts(ctx, cfg)
	var violations []string
	if r.Failed() != nil {
		violations = r.Problems
	}
	return p.done(map[string]int{
		"cuts": r.Cuts, "all peers": r.AllPeers, "majority": r.Majority, "founding": r.Founding, "during snapshot": r.DuringSnapshot,
		"acknowledged": r.Acknowledged, "lost": r.Lost, "needed hands": r.Hands, "unequal": r.Unequal,
	}, violations, err)
}

// corruption damages files of stopped peers.
func corruption(ctx context.Context, args []string) error {
	if err := disk.Enter(); err != nil {
		return notRun("corruption", err)
	}
	p, err := newPart(ctx, "corruption", 60, args)
	if err != nil {
		return err
	}
	defer p.close()
	cfg := disk.DefaultCorruptionConfig()
	cfg.Lookupd, cfg.Dir, cfg.Seed, cfg.Trials = p.binary, filepath.Join(p.dir, "corruption"), p.seed, p.n
	cfg.StopAtFirst = p.first
	cfg.Log = slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{Level: slog.LevelWarn}))
	r, err := disk.Corruptions(ctx, cfg)
	counts := map[string]int{"trials": r.Trials, "changes": r.Changes, "seeded anew": r.Reseeded}
	for kind, c := range r.ByKind {
		counts[kind+", found"], counts[kind+", harmless"], counts[kind+", broken"] = c.Found, c.Harmless, c.Broken
	}
	var violations []string
	if r.Failed() != nil {
		violations = r.Problems
	}
	return p.done(counts, violations, err)
}

// failingDisks makes the disks of running peers fail.
func failingDisks(ctx context.Context, args []string) error {
	if err := disk.Enter(); err != nil {
		return notRun("failing disks", err)
	}
	cfg := disk.DefaultFailureConfig()
	p, err := newPart(ctx, "failing disks", cfg.Faults, args)
	if err != nil {
		return err
	}
	defer p.close()
	cfg.Lookupd, cfg.Dir, cfg.Seed, cfg.Faults, cfg.Only = p.binary, filepath.Join(p.dir, "failing"), p.seed, p.n, p.only
	cfg.StopAtFirst = p.first
	cfg.Log = slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{Level: slog.LevelWarn}))
	r, err := disk.Failures(ctx, cfg)
	for _, what := range r.Lacking {
		fmt.Printf("NOT RUN %s\n", what)
	}
	counts := map[string]int{"acknowledged": r.Acknowledged, "acknowledged during": r.During, "lost": r.Lost, "broken": r.Broken}
	for kind, n := range r.ByKind {
		counts[kind] = n
	}
	var violations []string
	if r.Failed() != nil {
		violations = r.Problems
	}
	return p.done(counts, violations, err)
}

// pausedLeader stops leaders with lookups in their sockets.
func pausedLeader(ctx context.Context, args []string) error {
	p, err := newPart(ctx, "paused leader", 500, args)
	if err != nil {
		return err
	}
	defer p.close()
	r, err := p.pauseTrials(p.n, p.seed)
	var violations []string
	for _, example := range r.Examples {
		violations = append(violations, example.Error())
	}
	return p.done(map[string]int{"trials": r.Trials, "current": r.Current, "refused": r.Refused, "stale": r.Stale}, violations, err)
}

func (p *part) pauseTrials(n int, seed uint64) (r fault.Trials, err error) {
	t, err := fault.NewTarget(p.group, fault.Plan{
		Lookupd: p.binary, Dir: filepath.Join(p.dir, "paused-"+strconv.FormatUint(seed, 10)), Peers: 3, Proxies: true,
		Rand: rand.New(rand.NewPCG(seed, 1)), Log: func(string, ...any) {},
	})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	starting, cancel := context.WithTimeout(p.ctx, time.Minute)
	defer cancel()
	if err := t.Cluster.Start(starting); err != nil {
		return r, err
	}
	return fault.PauseTrials(p.ctx, t, n)
}

// docker breaks three containers.
func docker(ctx context.Context, args []string) error {
	if why := fault.DockerMissing(ctx); why != "" {
		return notRun("Docker", errors.New("needs "+why))
	}
	p, err := newPart(ctx, "Docker", 1, append(args, "-binary", "the image's own"))
	if err != nil {
		return err
	}
	defer p.close()
	counts := map[string]int{}
	for range p.n {
		done, acknowledged, err := fault.DockerRound(ctx, p.root, rand.New(rand.NewPCG(p.seed, 1)))
		for _, d := range done {
			fmt.Printf("  %s: %s\n", d.Kind, d.Evidence)
			counts[d.Kind]++
		}
		counts["acknowledged"] += acknowledged
		if err != nil {
			var violations []string
			if errors.Is(err, fault.ErrViolation) {
				violations, err = []string{err.Error()}, nil
			}
			return p.done(counts, violations, err)
		}
	}
	return p.done(counts, nil, nil)
}
