// Command bench measures lookupd beside nsqlookupd, etcd and a bare net/http
// handler, on one machine and in turn. docs/benchmarks.md says how to read it.
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
	"time"

	"github.com/lookupd/lookupd/bench/load"
	"github.com/lookupd/lookupd/bench/report"
	"github.com/lookupd/lookupd/bench/target"
	"github.com/lookupd/lookupd/bench/workload"
)

func main() {
	args := os.Args[1:]
	if len(args) == 1 && args[0] == load.Role {
		os.Exit(load.Main())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, args); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	switch {
	case len(args) == 4 && args[0] == target.BareRole:
		return target.BareMain(args[1], args[2], args[3])
	case len(args) == 2 && args[0] == target.EchoRole:
		return target.EchoMain(args[1])
	case len(args) > 0 && args[0] == "report":
		return writeReport(args[1:])
	}
	return measure(ctx, args)
}

// options are the flags of a run.
type options struct {
	only, json, lookupd string
	rounds              int
	each, warm          time.Duration
	quick               bool
}

func parse(args []string) (options, []string, error) {
	var o options
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.StringVar(&o.only, "only", "", "`parts` to measure, with commas, of "+strings.Join(workload.Parts(), ", "))
	fs.IntVar(&o.rounds, "rounds", 5, "`number` of samples of each system in each workload")
	fs.DurationVar(&o.each, "each", 1500*time.Millisecond, "`duration` of a sample")
	fs.DurationVar(&o.warm, "warm", 250*time.Millisecond, "`duration` of load before each sample")
	fs.StringVar(&o.json, "json", "bench.json", "`file` for all figures")
	fs.StringVar(&o.lookupd, "lookupd", "", "`path` of a lookupd to measure instead of the one in this repository")
	fs.BoolVar(&o.quick, "quick", false, "small data sets, to see that everything runs; the figures mean nothing")
	fs.Usage = func() {
		fmt.Fprintln(fs.Output(), "bench measures; bench report FILE [FILE...] writes a run's figures into docs/benchmarks.md.")
		fs.PrintDefaults()
	}
	if err := fs.Parse(args); err != nil {
		return o, nil, err
	}
	if fs.NArg() > 0 {
		return o, nil, fmt.Errorf("what is %q?", fs.Arg(0))
	}
	if o.rounds < 1 || o.each <= 0 || o.warm < 0 {
		return o, nil, errors.New("-rounds and -each must be above 0")
	}
	parts, err := workload.ParseParts(o.only)
	return o, parts, err
}

func sizes(o options) report.Sizes {
	s := report.Sizes{
		Rounds: o.rounds, Small: 10, Medium: 1000, Large: 10_000, Channels: 5, Holders: 3,
		Few: 56, Many: 55_556, HugeProducers: 999, // 1,008 and 1,000,008 registrations
		Declared: 2000, StormProducers: 1000, StormTopics: 100, IdleSessions: 10_000, Kills: 50, IsolatedWrites: 300,
	}
	if o.quick {
		s.Medium, s.Large, s.Many, s.HugeProducers = 20, 50, 500, 99
		s.Declared, s.StormProducers, s.StormTopics, s.IdleSessions, s.Kills, s.IsolatedWrites = 50, 50, 10, 200, 2, 10
	}
	return s
}

func measure(ctx context.Context, args []string) error {
	o, parts, err := parse(args)
	if err != nil {
		return err
	}
	root, err := repository(ctx)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "lookupd-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binaries, err := target.Build(ctx, root, dir, target.Binaries{Lookupd: o.lookupd})
	if err != nil {
		return err
	}
	r := &report.Run{
		Date: time.Now().UTC().Format(time.DateTime) + " UTC", Command: strings.Join(append([]string{"bench"}, args...), " "),
		Machine: report.ThisMachine(), Versions: versions(ctx, root, binaries, o), Sizes: sizes(o),
	}
	limits := strings.Join(target.LookupdLimits(), " ")
	r.Notes = append(r.Notes, "lookupd's limits were raised, since all clients have one address: "+limits)
	if o.quick {
		r.Notes = append(r.Notes, "QUICK: small sizes, the figures mean nothing")
	}
	b := &workload.Bench{
		Window: load.Window{Warm: o.warm, For: o.each}, Dir: dir, Binaries: binaries, Run: r, Log: os.Stderr, Quick: o.quick,
	}
	began := time.Now()
	err = b.Do(ctx, parts, func() error { return r.Write(o.json) })
	fmt.Fprintf(os.Stderr, "all took %.0f s\n", time.Since(began).Seconds())
	return errors.Join(err, report.WriteText(os.Stdout, r))
}

// versions names what was measured.
func versions(ctx context.Context, root string, b target.Binaries, o options) map[string]string {
	v := map[string]string{
		"nsqlookupd": target.ModuleVersion(b.NSQLookupd, "github.com/nsqio/nsq"),
		"etcd":       target.ModuleVersion(b.Etcd, "go.etcd.io/etcd/server/v3"),
		"Go":         target.GoVersion(b.Lookupd),
		"lookupd":    o.lookupd,
	}
	if o.lookupd == "" {
		out, err := exec.CommandContext(ctx, "git", "-C", root, "describe", "--tags", "--always", "--dirty").Output()
		if err != nil {
			out = []byte("unknown")
		}
		v["lookupd"] = strings.TrimSpace(string(out))
	}
	return v
}

func repository(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "git", "rev-parse", "--show-toplevel").Output()
	if err != nil {
		return "", fmt.Errorf("find the repository: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// writeReport puts the figures of a run into the documents.
func writeReport(args []string) error {
	if len(args) == 0 {
		return errors.New("report needs the JSON file of a run, and may have those of others that complete it")
	}
	r, err := report.Read(args[0])
	if err != nil {
		return err
	}
	for _, path := range args[1:] {
		other, err := report.Read(path)
		if err != nil {
			return err
		}
		r.Complete(other)
	}
	root, err := repository(context.Background())
	if err != nil {
		return err
	}
	return errors.Join(report.WriteMarkdown(filepath.Join(root, "docs", "benchmarks.md"), r), report.WriteText(os.Stdout, r))
}
