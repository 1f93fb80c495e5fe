package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/lookupd/lookupd/proof/fault"
	"github.com/lookupd/lookupd/proof/ledger"
	"github.com/lookupd/lookupd/proof/round"
	"github.com/lookupd/lookupd/supervisor"
	"github.com/lookupd/lookupd/supervisor/lab"
)

// verb is a subcommand.
type verb struct {
	name, help string
	run        func(ctx context.Context, args []string) error
}

func verbs() []verb {
	return []verb{
		{"mixed", "rounds of clients and faults, with every answer checked", mixed},
		{"round", "one such round, in this process", oneRound},
		{"powercuts", "cut the power of peers' disks and look for acknowledged changes", powerCuts},
		{"corruption", "damage files of peers that are down, and start them", corruption},
		{"disks", "make the disks of running peers fail", failingDisks},
		{"paused", "stop leaders with lookups in their sockets and look for old answers", pausedLeader},
		{"docker", "pause, cut off, kill and move containers", docker},
		{"bugs", "plant each known bug and see that the proof finds it", bugs},
		{"ci", "all of it, in the sizes for every change", ci},
		{"report", "write the figures of the ledger into docs/reliability.md", report},
		{"votes", "write votes until killed, for bugs", writeVotes},
		{"judge", "judge again what a round left in its directory", judge},
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(os.Stderr, "%s%v\n", errorPrefix, err)
		os.Exit(1)
	}
}

// errorPrefix begins the line in which a verb says why it failed, the last of
// what it prints.
const errorPrefix = "proof: "

func run(ctx context.Context, args []string) error {
	if len(args) > 0 {
		for _, v := range verbs() {
			if v.name == args[0] {
				return v.run(ctx, args[1:])
			}
		}
	}
	fmt.Println("proof tries to break lookupd's promises. It needs Go; root, namespaces, loop devices and strace for some faults.")
	fmt.Println()
	for _, v := range verbs() {
		fmt.Printf("  proof %-12s %s\n", v.name, v.help)
	}
	fmt.Println("\n-help after a verb lists its flags.")
	if len(args) > 0 {
		return fmt.Errorf("there is no verb %q", args[0])
	}
	return nil
}

// harness is what all verbs need.
type harness struct {
	ctx     context.Context
	root    string // of the repository
	self    string // this program
	dir     string // for everything that runs
	keep    bool   // the directory stays
	network bool   // rounds can have networks of their own
	group   *supervisor.Group
	seed    uint64
}

func newHarness(ctx context.Context, seed uint64) (*harness, error) {
	out, err := exec.Command("git", "rev-parse", "--show-toplevel").Output()
	if err != nil {
		return nil, fmt.Errorf("find the repository: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "lookupd-proof-")
	if err != nil {
		return nil, err
	}
	fmt.Printf("seed %d, in %s\n", seed, dir)
	return &harness{
		ctx: ctx, root: strings.TrimSpace(string(out)), self: self, dir: dir,
		network: lab.Missing() == nil, group: supervisor.NewGroup(), seed: seed,
	}, nil
}

func (h *harness) close() {
	if err := h.group.KillAll(); err != nil {
		fmt.Fprintln(os.Stderr, "proof:", err)
	}
	if !h.keep {
		_ = os.RemoveAll(h.dir)
	}
}

// build makes a lookupd whose wall clock can be set, with further build tags.
func (h *harness) build(tags ...string) (string, error) {
	path := filepath.Join(h.dir, strings.Join(append([]string{"lookupd"}, tags...), "-"))
	return path, fault.BuildWithClock(h.ctx, h.root, path, append([]string{"hashicorpmetrics"}, tags...)...)
}

// buildLookupctl makes what operators use.
func (h *harness) buildLookupctl() (string, error) {
	path := filepath.Join(h.dir, "lookupctl")
	return path, fault.BuildLookupctl(h.ctx, h.root, path)
}

func (h *harness) line(kind string, seed uint64) ledger.Line {
	return ledger.Line{Kind: kind, Commit: ledger.Commit(h.root), Seed: seed}
}

// failed is the error of a run that found something, or tested too little.
func failed(line ledger.Line) error {
	if len(line.Violations) > 0 {
		return fmt.Errorf("%s: %s\n  %s", line.Kind, line.Verdict(), strings.Join(line.Violations, "\n  "))
	}
	if thin := tooThin(line); len(thin) > 0 {
		return fmt.Errorf("%s: the run tested too little: %s", line.Kind, strings.Join(thin, "; "))
	}
	return nil
}

// tooThin returns why a run's rounds, if it has any, tested too little.
func tooThin(line ledger.Line) []string {
	if line.Rounds == 0 {
		return nil
	}
	return round.Thin(line.Ops, line.Seconds, line.ReadsDuringFaults, len(line.Faults) > 0)
}
