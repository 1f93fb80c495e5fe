package fault

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// Operator is the client number of what operators did, apart from a load's.
const Operator = 900

// operateTimeout bounds one call of lookupctl, which gives a change 25 s.
const operateTimeout = 40 * time.Second

// BuildLookupctl builds lookupctl from the repository at root.
func BuildLookupctl(ctx context.Context, root, out string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-tags", "hashicorpmetrics", "-o", out, "./cmd/lookupctl")
	cmd.Dir = root
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build lookupctl: %w\n%s", err, text)
	}
	return nil
}

// needsRecorder is for what the judges are to judge.
func needsRecorder(t *Target) string {
	if t.Recorder == nil {
		return "a recorder"
	}
	return needsLookupctl(t)
}

func needsLookupctl(t *Target) string {
	if t.Lookupctl == "" {
		return "lookupctl"
	}
	return needsPeers(3)(t)
}

// lookupctl runs lookupctl against a peer's HTTP address, as an operator does,
// and returns what it prints. Also when ctx ends it comes to its end: a change
// that is given up halfway leaves a cluster that nobody knows.
func (t *Target) lookupctl(ctx context.Context, address string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), operateTimeout)
	defer cancel()
	var out, talk bytes.Buffer
	cmd := exec.CommandContext(ctx, t.Lookupctl, append([]string{"-a", address, "--yes"}, args...)...)
	cmd.Stdout, cmd.Stderr = &out, &talk
	cmd.Env = []string{} // no settings of whoever runs the proof
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("lookupctl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(talk.String()))
	}
	return out.String(), nil
}
