package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lookupd/lookupd/proof/disk"
	"github.com/lookupd/lookupd/proof/fault"
	"github.com/lookupd/lookupd/proof/ledger"
	"github.com/lookupd/lookupd/proof/load"
	"github.com/lookupd/lookupd/proof/round"
	"github.com/lookupd/lookupd/supervisor"
	"github.com/lookupd/lookupd/supervisor/lab"
)

// fiveOf: every so many rounds have five peers, the others three.
const fiveOf = 4

// roundWithin bounds a round, its checks included, beyond its time with faults.
const roundWithin = 6 * time.Minute

// mixed runs mixed rounds, each in a process and, where the machine allows it, a
// network of its own.
func mixed(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("mixed", flag.ContinueOnError)
	rounds := fs.Int("rounds", 0, "how many `rounds`; 0: as many as fit into -for")
	length := fs.Duration("for", 0, "how `long` in all, if -rounds is not given")
	peers := fs.Int("peers", 0, "how many `peers` each round has; 0: three, and five in each fourth")
	each := fs.Duration("round", 75*time.Second, "how `long` each round has faults")
	seed := fs.Uint64("seed", rand.Uint64N(1<<32), "`number` that all that is random comes from")
	kinds := fs.String("faults", "", "`names` of the faults, with semicolons; empty: all; none: none")
	binary := fs.String("binary", "", "`path` of a lookupd with the witness; empty: build one with its clock")
	operators := fs.String("lookupctl", "", "`path` of lookupctl; empty: build one")
	keep := fs.Bool("ledger", false, "add the run to the ledger")
	if err := fs.Parse(args); err != nil {
		return err
	}
	h, err := newHarness(ctx, *seed)
	if err != nil {
		return err
	}
	defer h.close()
	path, lookupctl := *binary, *operators
	if path == "" {
		if path, err = h.build("witness"); err != nil {
			return err
		}
	}
	if lookupctl == "" {
		if lookupctl, err = h.buildLookupctl(); err != nil {
			return err
		}
	}
	line, err := h.mixed(mixedPlan{binary: path, lookupctl: lookupctl, rounds: *rounds, most: 2 * *rounds, length: *length, each: *each, peers: *peers, kinds: *kinds, seed: *seed})
	if *keep && line.Rounds > 0 {
		err = errors.Join(err, ledger.Append(h.root, line))
	}
	return errors.Join(err, failed(line))
}

type mixedPlan struct {
	binary string
	// lookupctl is as in round.Config.
	lookupctl string
	rounds    int
	// most is up to how many rounds are run, if fewer tested too little: the
	// machine may be busy for some minutes.
	most   int
	length time.Duration
	each   time.Duration
	peers  int // 0: three, and five in each fourth round
	kinds  string
	seed   uint64
	// inactive is as in round.Config.
	inactive time.Duration
	// topics is as in load.Config; 0: its default. With few of them what was
	// refused is soon asked again; with many it stands alone.
	topics int
}

// mixed runs the rounds one after another and adds them up. The directory of
// a round that found something is kept.
func (h *harness) mixed(plan mixedPlan) (ledger.Line, error) {
	line := h.line("mixed", plan.seed)
	line.Ops, line.Faults, line.NotRun = map[string]map[string]int{}, map[string]int{}, map[string]string{}
	if err := lab.Missing(); err != nil {
		line.NotRun["faults of the network"] = err.Error()
	}
	began := time.Now()
	for n := 0; h.ctx.Err() == nil; n++ {
		if plan.rounds > 0 && n >= plan.rounds && (n >= plan.most || len(tooThin(line)) == 0) || plan.rounds == 0 && time.Since(began) >= plan.length {
			break
		}
		peers := cmp.Or(plan.peers, 3)
		if plan.peers == 0 && n%fiveOf == fiveOf-1 {
			peers = 5
		}
		result, dir, err := h.round(plan, plan.seed+uint64(n), peers)
		if err != nil {
			return line, err
		}
		add(&line, result)
		fmt.Printf("%s  %v\n", time.Now().Format(time.TimeOnly), result)
		for _, problem := range result.Problems {
			fmt.Printf("    thin: %s\n", problem)
		}
		if found := result.Violations(); len(found) > 0 {
			fmt.Printf("    VIOLATIONS, %s is kept:\n      %s\n", dir, strings.Join(found, "\n      "))
			h.keep = true
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			return line, err
		}
	}
	line.Minutes = time.Since(began).Minutes()
	line.Time = time.Now().UTC().Format(time.RFC3339)
	return line, nil
}

func add(line *ledger.Line, r *round.Result) {
	line.Rounds++
	if r.Secure {
		line.Secure++
	}
	line.Seconds += r.Seconds
	if len(r.Problems) > 0 {
		line.Thin++
		line.Problems = append(line.Problems, r.Problems...)
	}
	if !slices.Contains(line.Peers, r.Peers) {
		line.Peers = append(line.Peers, r.Peers)
	}
	for kind, outcomes := range r.Ops {
		if line.Ops[kind] == nil {
			line.Ops[kind] = map[string]int{}
		}
		for outcome, n := range outcomes {
			line.Ops[kind][outcome] += n
		}
	}
	for kind, n := range r.Faults {
		line.Faults[kind] += n
	}
	for kind, why := range r.NotRun {
		line.NotRun[kind] = why
	}
	for kind := range line.Faults { // in another round it could
		delete(line.NotRun, kind)
	}
	line.Witness += r.Witness.Checked
	line.Porcupine += r.Porcupine.Checked
	line.Entries += r.Entries
	line.ReadsDuringFaults += r.ReadsDuringFaults
	for _, v := range r.Violations() {
		line.Violations = append(line.Violations, fmt.Sprintf("seed %d: %s", r.Seed, v))
	}
}

// round runs one round in a process of its own.
func (h *harness) round(plan mixedPlan, seed uint64, peers int) (*round.Result, string, error) {
	dir := filepath.Join(h.dir, "round-"+strconv.FormatUint(seed, 10))
	out := filepath.Join(dir, "result.json")
	spec := supervisor.Spec{
		Name: "round", Path: h.self, Log: filepath.Join(dir, "round.log"),
		Args: []string{
			"round", "-binary", plan.binary, "-lookupctl", plan.lookupctl, "-dir", dir, "-out", out, "-peers", strconv.Itoa(peers),
			"-seed", strconv.FormatUint(seed, 10), "-length", plan.each.String(), "-faults", plan.kinds,
			"-inactive", plan.inactive.String(), "-topics", strconv.Itoa(cmp.Or(plan.topics, load.DefaultConfig().Topics)),
		},
	}
	if h.network {
		spec.Wrap, spec.Env = lab.Wrap(), []string{lab.Env("round")}
	}
	p := h.group.NewProcess(spec)
	if err := p.Start(); err != nil {
		return nil, dir, err
	}
	select {
	case <-p.Exited():
	case <-h.ctx.Done():
		return nil, dir, errors.Join(context.Cause(h.ctx), p.Kill())
	case <-time.After(plan.each + roundWithin):
		return nil, dir, fmt.Errorf("round with seed %d does not end: %w\n%s", seed, p.Kill(), p.LogTail())
	}
	data, err := os.ReadFile(out)
	if err != nil {
		return nil, dir, fmt.Errorf("round with seed %d gave no result: exit code %d\n%s", seed, p.ExitCode(), p.LogTail())
	}
	result := new(round.Result)
	return result, dir, json.Unmarshal(data, result)
}

// oneRound is the process of a round.
func oneRound(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("round", flag.ContinueOnError)
	cfg := round.Config{Load: load.DefaultConfig()}
	fs.StringVar(&cfg.Binary, "binary", "", "`path` of a lookupd with the witness")
	fs.StringVar(&cfg.Lookupctl, "lookupctl", "", "`path` of lookupctl; empty: operators do nothing")
	fs.StringVar(&cfg.Dir, "dir", "", "`path` of the directory that takes everything")
	fs.IntVar(&cfg.Peers, "peers", 3, "`number` of peers")
	fs.Uint64Var(&cfg.Seed, "seed", 1, "`number` that all that is random comes from")
	fs.DurationVar(&cfg.Length, "length", 75*time.Second, "how `long` there are faults")
	fs.DurationVar(&cfg.Inactive, "inactive", 0, "how `long` a peer's sessions outlive it; 0: longer than the round")
	fs.IntVar(&cfg.Load.Topics, "topics", cfg.Load.Topics, "`number` of topics that clients share")
	out := fs.String("out", "", "`path` of the file that takes the result")
	kinds := fs.String("faults", "", "`names` of the faults, with semicolons; empty: all; none: none")
	if err := fs.Parse(args); err != nil {
		return err
	}
	var err error
	if cfg.Kinds, err = faultsNamed(*kinds); err != nil {
		return err
	}
	if lab.Inside() != "" {
		if cfg.Network, err = lab.New(); err != nil {
			return err
		}
	}
	cfg.Clocked = true
	cfg.Log = func(format string, args ...any) { fmt.Printf(format+"\n", args...) }
	result, err := round.Run(ctx, cfg)
	if err != nil {
		return err
	}
	data, err := json.Marshal(result)
	if err != nil {
		return err
	}
	return os.WriteFile(*out, data, 0o600)
}

// judge judges again what a round left.
func judge(_ context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("usage: proof judge DIRECTORY")
	}
	witness, porcupine, entries, err := round.Judge(args[0], false)
	if err != nil {
		return err
	}
	fmt.Printf("%d entries, %d operations by the witness, %d by porcupine\n", entries, witness.Checked, porcupine.Checked)
	return failed(ledger.Line{Kind: "round", Violations: append(witness.Violations, porcupine.Violations...)})
}

func faultsNamed(list string) ([]fault.Kind, error) {
	all := append(fault.All(), disk.Kinds(nil)...)
	switch list {
	case "":
		return all, nil
	case "none":
		return nil, nil
	}
	var kinds []fault.Kind
	for _, name := range strings.Split(list, ";") {
		i := slices.IndexFunc(all, func(k fault.Kind) bool { return k.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no fault %q", name)
		}
		kinds = append(kinds, all[i])
	}
	return kinds, nil
}
