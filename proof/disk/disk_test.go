package disk_test

import (
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/lookupd/lookupd/proof/disk"
)

var (
	lookupdFlag = flag.String("lookupd", "", "executable to test, built by the tests if empty")
	cutsFlag    = flag.Int("cuts", 4, "power cuts")
	trialsFlag  = flag.Int("trials", 16, "corruption trials")
	shotsFlag   = flag.Int("snapshots", 0, "snapshots of each peer before the corruption trials, half a minute each")
	onlyFlag    = flag.String("only", "", "part of the names of the disk failures to try")
	stopFlag    = flag.Bool("stop", false, "end at the first broken promise")
	seedFlag    = flag.Uint64("seed", 0, "seed, 0 for a random one")
	verbose     = flag.Bool("log", false, "log each trial")
)

// entered says why there are no mounts for tests, nil if there are; set before
// any test runs.
var entered error

func TestMain(m *testing.M) {
	flag.Parse()
	entered = disk.Enter()
	os.Exit(m.Run())
}

func logger() *slog.Logger {
	if *verbose {
		return slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	return slog.New(slog.DiscardHandler)
}

// lookupd returns the executable under test.
func lookupd(t *testing.T) string {
	t.Helper()
	if entered != nil {
		line := fmt.Sprintf("NOT RUN %s: %v", t.Name(), entered)
		if os.Getenv("LOOKUPD_FAULTS") == "require" {
			t.Fatal(line)
		}
		fmt.Println(line) // go test hides what a skip says
		t.Skip(line)
	}
	if *lookupdFlag != "" {
		return *lookupdFlag
	}
	path := filepath.Join(t.TempDir(), "lookupd")
	build := exec.Command("go", "build", "-tags", "hashicorpmetrics", "-o", path, "github.com/lookupd/lookupd/cmd/lookupd")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", build.Args, err, out)
	}
	return path
}

func TestPowerCuts(t *testing.T) {
	cfg := disk.DefaultPowerCutConfig()
	cfg.Lookupd, cfg.Dir, cfg.Log = lookupd(t), t.TempDir(), logger()
	cfg.Cuts, cfg.SnapshotCuts, cfg.Seed = *cutsFlag, *cutsFlag/20, *seedFlag
	cfg.StopAtFirst = *stopFlag
	report, err := disk.PowerCuts(t.Context(), cfg)
	t.Logf("%+v", *report)
	if err != nil {
		t.Fatal(err)
	}
	if err := report.Failed(); err != nil {
		t.Error(err)
	}
	if report.Cuts != cfg.Cuts || report.Acknowledged == 0 {
		t.Errorf("tested too little: %+v", *report)
	}
}

func TestCorruptions(t *testing.T) {
	cfg := disk.DefaultCorruptionConfig()
	cfg.Lookupd, cfg.Dir, cfg.Log = lookupd(t), t.TempDir(), logger()
	cfg.Snapshots = *shotsFlag
	cfg.Trials, cfg.Seed, cfg.StopAtFirst = *trialsFlag, *seedFlag, *stopFlag
	report, err := disk.Corruptions(t.Context(), cfg)
	for kind, count := range report.ByKind {
		t.Logf("%s: %+v", kind, *count)
	}
	t.Logf("%+v", *report)
	if err != nil {
		t.Fatal(err)
	}
	if err := report.Failed(); err != nil {
		t.Error(err)
	}
	if sum := report.Total(); sum.Found == 0 || sum.Harmless == 0 || report.Changes == 0 {
		t.Errorf("tested too little: %+v", *report)
	}
}

func TestFailures(t *testing.T) {
	cfg := disk.DefaultFailureConfig()
	cfg.Lookupd, cfg.Dir, cfg.Log = lookupd(t), t.TempDir(), logger()
	cfg.Seed, cfg.Only, cfg.StopAtFirst = *seedFlag, *onlyFlag, *stopFlag
	report, err := disk.Failures(t.Context(), cfg)
	for _, line := range append(report.Evidence, report.Lacking...) {
		t.Log(line)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := report.Failed(); err != nil {
		t.Error(err)
	}
	if len(report.ByKind) == 0 || report.Acknowledged == 0 {
		t.Errorf("tested too little: %+v", *report)
	}
}
