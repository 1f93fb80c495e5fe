package e2e_test

import (
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/lookupd/lookupd/supervisor/lab"
)

var raceDaemon = flag.Bool("race-daemon", false, "build lookupd with the race detector")

// binaries are the programs under test, built by TestMain before any test runs
// and never written after. newer calls itself newerVersion; the state of slow
// never gets further than its first entries. Else both are lookupd.
var binaries struct{ dir, lookupd, newer, slow, lookupctl, nsqd, nsqadmin, nsqlookupd string }

const newerVersion = "9.0.0"

func TestMain(m *testing.M) {
	flag.Parse()
	if err := build(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	code := m.Run()
	printSkips(os.Stdout)
	os.Exit(code)
}

// build makes all binaries in a directory that stays, so that the next run
// links only what changed.
func build() error {
	root, err := filepath.Abs("..")
	if err != nil {
		return err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(root)) // checkouts side by side do not share
	dir := filepath.Join(cache, "lookupd-e2e", hex.EncodeToString(sum[:4]))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	b := &binaries
	b.dir = dir
	b.lookupd, b.lookupctl = filepath.Join(dir, "lookupd"), filepath.Join(dir, "lookupctl")
	b.newer = filepath.Join(dir, "newer", "lookupd")
	b.slow = filepath.Join(dir, "slow", "lookupd")
	b.nsqd, b.nsqadmin, b.nsqlookupd = filepath.Join(dir, "nsqd"), filepath.Join(dir, "nsqadmin"), filepath.Join(dir, "nsqlookupd")

	if lab.Inside() != "" {
		return nil // the process that started this one has built them
	}
	const nsq = "github.com/nsqio/nsq/apps/"
	if err := goBuild(".", dir, nsq+"nsqd", nsq+"nsqadmin", nsq+"nsqlookupd"); err != nil {
		return err
	}
	tags := []string{"-tags", "hashicorpmetrics"}
	if *raceDaemon {
		tags = append(tags, "-race")
	}
	if err := goBuild(root, dir, append(tags, "./cmd/lookupd", "./cmd/lookupctl")...); err != nil {
		return err
	}
	version := "-X github.com/lookupd/lookupd/cmd/internal/build.Version=" + newerVersion
	if err := goBuild(root, filepath.Dir(b.newer), append(tags, "-ldflags", version, "./cmd/lookupd")...); err != nil {
		return err
	}
	return goBuild(root, filepath.Dir(b.slow), "-tags", "hashicorpmetrics,slow_apply", "./cmd/lookupd")
}

func goBuild(in, out string, args ...string) error {
	cmd := exec.Command("go", append([]string{"build", "-o", out + string(filepath.Separator)}, args...)...)
	cmd.Dir = in
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%v in %s: %w\n%s", cmd.Args, in, err, output)
	}
	return nil
}
