package disk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// CorruptionConfig says how to damage files.
type CorruptionConfig struct {
	Lookupd string // path of the executable under test
	Dir     string // empty or absent; takes data, in memory, and logs, which stay
	Seed    uint64 // 0 draws one
	Trials  int
	// Snapshots is how many each peer has before the trials begin; one takes up
	// to half a minute, the second as long again.
	Snapshots   int
	Clients     int  // per peer while the directories are filled
	StopAtFirst bool // end when a promise is broken
	Log         *slog.Logger
}

// DefaultCorruptionConfig is what CI runs, but for the paths.
func DefaultCorruptionConfig() CorruptionConfig {
	return CorruptionConfig{Trials: 60, Snapshots: 1, Clients: 8, Log: slog.New(slog.DiscardHandler)}
}

func (c *CorruptionConfig) validate() error {
	switch {
	case c.Lookupd == "" || c.Dir == "":
		return errors.New("corruptions: no executable or no directory")
	case c.Trials < 1 || c.Snapshots < 0 || c.Snapshots > 2 || c.Clients < 2:
		return fmt.Errorf("corruptions: %d trials, %d snapshots, %d clients", c.Trials, c.Snapshots, c.Clients)
	}
	if c.Seed == 0 {
		c.Seed = rand.Uint64()
	}
	return nil
}

// CorruptionCount is what became of the trials with one kind of file.
type CorruptionCount struct {
	Found    int `json:"found"`    // the peer refused, and named it
	Harmless int `json:"harmless"` // the peer served, and was right
	Broken   int `json:"broken"`   // neither
}

// CorruptionReport counts what happened.
type CorruptionReport struct {
	Seed      uint64                      `json:"seed"`
	Trials    int                         `json:"trials"`
	ByKind    map[string]*CorruptionCount `json:"by_kind"`
	OnlyCopy  int                         `json:"only_copy"` // trials in which the damaged peer alone had the newest changes
	Reseeded  int                         `json:"reseeded"`  // refused peers that came back with an empty directory
	Restarted int                         `json:"restarted"` // serving peers that were also right after one more start
	Changes   int                         `json:"changes"`   // acknowledged ones, looked for after each trial
	Took      time.Duration               `json:"took_ns"`
	Problems  []string                    `json:"problems,omitempty"`
}

// Total returns the sum over all kinds.
func (r *CorruptionReport) Total() (sum CorruptionCount) {
	for _, c := range r.ByKind {
		sum.Found += c.Found
		sum.Harmless += c.Harmless
		sum.Broken += c.Broken
	}
	return sum
}

// Failed returns nil if all promises held, else an error that says which did not.
func (r *CorruptionReport) Failed() error {
	if sum := r.Total(); sum.Broken > 0 {
		return fmt.Errorf("corruptions, seed %d: %d of %d broke a promise:\n%s", r.Seed, sum.Broken, r.Trials, strings.Join(r.Problems, "\n"))
	}
	return nil
}

// Corruptions fills a cluster's data directories once; then, again and again,
// damages a copy in one place, starts the peers, and holds them to it: the
// damaged one refuses with a message that names the file, or serves what is
// right. The error is of the machinery.
func Corruptions(ctx context.Context, cfg CorruptionConfig) (r *CorruptionReport, err error) {
	r = &CorruptionReport{ByKind: map[string]*CorruptionCount{}}
	if err := cfg.validate(); err != nil {
		return r, err
	}
	r.Seed = cfg.Seed
	began := time.Now()
	defer func() { r.Took = time.Since(began) }()
	data := filepath.Join(cfg.Dir, "data")
	release, err := memory(ctx, data)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, release()) }()
	f, err := newFleet(cfg.Lookupd, filepath.Join(cfg.Dir, "logs"), func(string) string { return data })
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, f.end()) }()
	s, err := f.prepare(ctx, filepath.Join(data, "specimens"), cfg.Clients, cfg.Snapshots)
	if err != nil {
		return r, fmt.Errorf("prepare: %w", err)
	}
	for _, b := range s.books {
		r.Changes += b.count(acknowledged)
	}
	cfg.Log.Info("prepared", "changes", r.Changes, "took", time.Since(began).Round(time.Millisecond))
	for n := range cfg.Trials {
		if cfg.StopAtFirst && r.Failed() != nil {
			break
		}
		if err := f.oneTrial(ctx, cfg, s, r, n); err != nil {
			return r, fmt.Errorf("seed %d, trial %d: %w", cfg.Seed, n, err)
		}
	}
	return r, nil
}

// oneTrial runs trial n and counts it.
func (f *fleet) oneTrial(ctx context.Context, cfg CorruptionConfig, s *specimens, r *CorruptionReport, n int) error {
	began := time.Now()
	t := &trial{fleet: f, specimens: s, report: r, number: n, rng: rand.New(rand.NewPCG(cfg.Seed, uint64(n)))}
	if err := s.restore(f.cluster.Peers); err != nil {
		return err
	}
	if err := t.choose(); err != nil {
		return err
	}
	outcome, err := t.run(ctx)
	if err = errors.Join(err, f.cluster.Kill()); err != nil {
		return fmt.Errorf("%s: %w", t.what, err)
	}
	r.Trials++
	count := r.ByKind[t.target.kind]
	if count == nil {
		count = &CorruptionCount{}
		r.ByKind[t.target.kind] = count
	}
	switch outcome {
	case found:
		count.Found++
	case harmless:
		count.Harmless++
	default:
		count.Broken++
		cfg.Log.Error("promise broken", "problem", r.Problems[len(r.Problems)-1])
	}
	cfg.Log.Info("corruption", "trial", n, "what", t.what, "outcome", outcome, "took", time.Since(began).Round(time.Millisecond))
	return nil
}

// choose picks victim, target and damage, and does it. The first trials are
// those that a peer must refuse, so that no run is without them.
func (t *trial) choose() error {
	names := []string{"a", "b", "c"}
	victim := names[t.rng.IntN(len(names))]
	other := names[(slices.Index(names, victim)+1+t.rng.IntN(2))%3]
	t.victim = t.cluster.Peer(victim)
	// Of the two that have the newest changes, one may be away.
	if victim != t.specimens.laggard && t.rng.IntN(3) == 0 {
		t.away = t.cluster.Peer(map[string]string{"a": "b", "b": "a"}[victim])
		t.report.OnlyCopy++
	}
	all, err := targets(t.victim.DataPath(), t.specimens.pages[victim])
	if err != nil {
		return err
	}
	from := sources{older: t.specimens.older(victim), other: t.specimens.base(other)}
	must := mustRefuse()
	for n := t.number; ; n = len(must) {
		if n < len(must) {
			t.target, t.damage = all[must[n].kind][0], must[n].damage
		} else {
			kinds := slices.Sorted(maps.Keys(all))
			of := all[kinds[t.rng.IntN(len(kinds))]]
			t.target = of[t.rng.IntN(len(of))]
			damages := fileDamages()
			if t.target.page >= 0 {
				damages = pageDamages()
			}
			t.damage = damages[t.rng.IntN(len(damages))]
		}
		t.what = fmt.Sprintf("%s of %s (%s): %s", t.target.kind, victim, t.target.path, t.damage.name)
		if t.target.page >= 0 {
			t.what += fmt.Sprintf(", page %d", t.target.page)
		}
		if t.away != nil {
			t.what += ", " + t.away.Name() + " away"
		}
		changed, err := hurt(t.victim.DataPath(), t.target, t.damage, from, t.specimens.pages[victim], t.rng)
		if err != nil || changed {
			return err
		}
	}
}

// logsOf returns what a peer has written to its log since offset.
func logsOf(path string, offset int64) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	return string(b[min(offset, int64(len(b))):]), nil
}
