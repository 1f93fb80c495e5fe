package deploy_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// bin holds lookupd and lookupctl, built before any test runs.
var bin string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "lookupd-deploy-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		bin = dir
		build := exec.Command("go", "build", "-tags", "hashicorpmetrics", "-o", dir+string(filepath.Separator), "./cmd/lookupd", "./cmd/lookupctl")
		build.Dir = ".."
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
			return 1
		}
		defer func() {
			if skipped > 0 {
				fmt.Printf("%d tests SKIPPED, NOT TESTED; %s=require makes them fail\n", skipped, faultsEnv)
			}
		}()
		return m.Run()
	}())
}

// faultsEnv set to "require" makes a test fail that cannot run here.
const faultsEnv = "LOOKUPD_FAULTS"

// skipped counts the tests that lacked a tool; they run one after another.
var skipped int

// patience bounds every wait; it is long because machines may be slow.
const patience = time.Minute

// run returns what a program prints, on both streams, and whether it succeeded.
func run(t *testing.T, dir, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// tool returns the path of a program that not every machine has.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if errors.Is(err, exec.ErrNotFound) {
		skipped++
		if os.Getenv(faultsEnv) == "require" {
			t.Fatalf("needs %s", name)
		}
		// Printed also where go test shows no skipped test.
		fmt.Printf("SKIPPED %s, NOT TESTED: needs %s\n", t.Name(), name)
		t.SkipNow()
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
