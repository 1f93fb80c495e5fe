package e2e_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/lookupd/lookupd/supervisor"
)

// lookupctl runs a command line and returns its output and exit code.
func lookupctl(t *testing.T, env []string, args ...string) (out string, code int) {
	t.Helper()
	cmd := exec.CommandContext(within(t, patience), binaries.lookupctl, args...)
	cmd.Env = append(os.Environ(), env...)
	text, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("lookupctl %v: %v", args, err)
	}
	return string(text), cmd.ProcessState.ExitCode()
}

// startDev runs lookupctl dev with its files in temp. find returns what the first
// group of a pattern matches on its screen; env is that of its sub-commands.
func startDev(t *testing.T, temp string, args ...string) (dev *supervisor.Process, env []string, find func(pattern string) string) {
	t.Helper()
	env = []string{"TMPDIR=" + temp, "PATH=" + binaries.dir + string(os.PathListSeparator) + os.Getenv("PATH")}
	w := newWorld(t)
	log := filepath.Join(w.dir, "dev.log")
	dev = w.NewProcess(supervisor.Spec{
		Name: "dev", Path: binaries.lookupctl, Args: append([]string{"dev"}, args...), Env: env, Log: log,
		Ready: func(context.Context) error {
			if screen, err := os.ReadFile(log); err != nil || !strings.Contains(string(screen), "Logs and data: ") {
				return errors.New("dev does not say yet where everything is")
			}
			return nil
		},
	})
	w.start(dev)
	screen := dev.LogTail()
	return dev, env, func(pattern string) string {
		t.Helper()
		found := regexp.MustCompile(pattern).FindStringSubmatch(screen)
		if found == nil {
			t.Fatalf("no %s in:\n%s", pattern, screen)
		}
		return found[1]
	}
}

// TestDevWithLoad: what dev is asked for runs, and simulated producers outlive
// their peer.
func TestDevWithLoad(t *testing.T) {
	_, env, find := startDev(t, t.TempDir(), "--peers", "5", "--nsqd", "2", "--load", "10")
	lead := find(`ok ([a-e])  tcp \d+  http \d+  leader`)
	find(`(ok nsqd {6}\d+/\d+  on 5 of 5 peers)`)
	find(`(ok nsqd2 {5}\d+/\d+  on 5 of 5 peers)`)
	find(`(ok load {6}10 of 10 producers connected, topics load-1 to load-3)`)
	other := map[string]string{"a": "b", "b": "c", "c": "d", "d": "e", "e": "a"}[lead]
	address := "127.0.0.1:" + find(`ok `+other+`  tcp \d+  http (\d+)`)

	out, code := lookupctl(t, env, "dev", "kill", lead)
	if want := lead + " killed. New leader "; code != 0 || !strings.Contains(out, want) || !strings.Contains(out, "wrong: 0,") || !strings.Contains(out, "lost: 0.") {
		t.Errorf("exit code %d, want %q\n%s", code, want, out)
	}
	eventually(t, func(context.Context) error {
		out, code := lookupctl(t, env, "producers", "-a", address, "-o", "csv")
		if code != 0 || strings.Count(out, ",load-") != 10 {
			return fmt.Errorf("exit code %d: %s", code, out)
		}
		for line := range strings.Lines(out) {
			if strings.HasSuffix(line, ","+lead+" (orphan)\n") {
				return fmt.Errorf("it has found no other peer: %s", line)
			}
		}
		return nil
	})
	if out, code := lookupctl(t, env, "dev", "start", lead); code != 0 {
		t.Errorf("exit code %d: %s", code, out)
	}
	if out, code := lookupctl(t, env, "dev", "restart", "nsqd2"); code != 0 {
		t.Errorf("exit code %d: %s", code, out)
	}
}

// TestDev walks through the first five minutes that the documentation shows.
func TestDev(t *testing.T) {
	temp := t.TempDir()
	dev, env, find := startDev(t, temp)
	lead := find(`ok ([abc])  tcp \d+  http \d+  leader`)
	find(`(ok nsqd {6}\d+/\d+  on 3 of 3 peers)`)
	find(`(ok nsqadmin  http://127.0.0.1:\d+)`)
	publish := find(`curl -d hello '(http://\S+)'`)
	last := "127.0.0.1:" + find(`ok c  tcp \d+  http (\d+)`)
	other := map[string]string{"a": "b", "b": "c", "c": "a"}[lead]
	otherHTTP := "127.0.0.1:" + find(`ok `+other+`  tcp \d+  http (\d+)`)

	if status, body := post(t, publish, "", "hello"); status != 200 {
		t.Fatalf("%s: %d %s", publish, status, body)
	}
	eventually(t, func(context.Context) error {
		if out, code := lookupctl(t, nil, "lookup", "orders", "-address", last); code != 0 || !strings.HasPrefix(out, "orders: 1 producer, ") {
			return fmt.Errorf("exit code %d: %s", code, out)
		}
		return nil
	})
	eventually(t, func(context.Context) error { return statusIs(t, last, 0, "Healthy.") })

	out, code := lookupctl(t, env, "dev", "kill", lead)
	want := regexp.MustCompile(`^  ` + lead + ` killed\. New leader [abc] after \d+\.\ds\. Lookups wrong: 0, refused: \d+\. Registrations lost: 0\.\n$`)
	if code != 0 || !want.MatchString(out) {
		t.Errorf("dev kill: exit code %d\n%s", code, out)
	}
	eventually(t, func(context.Context) error { return statusIs(t, otherHTTP, 3, "Degraded.") })
	for _, step := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"dev", "kill", lead}, 1, "lookupctl dev start " + lead},
		{[]string{"dev", "kill", "nobody"}, 1, "a, b, c, nsqd, nsqadmin"},
		{[]string{"dev"}, 1, "already"},
		{[]string{"dev", "start", lead}, 0, lead + " started. Ready after"},
		{[]string{"dev", "restart", "nsqd"}, 0, "nsqd stopped and started. Ready after"},
		{[]string{"dev", "restart", lead}, 0, "Ready after"},
		{[]string{"dev", "logs", lead}, 0, lead + ".log"},
	} {
		if out, code := lookupctl(t, env, step.args...); code != step.code || !strings.Contains(out, step.want) {
			t.Errorf("%v: exit code %d, want %d and %q\n%s", step.args, code, step.code, step.want, out)
		}
	}
	eventually(t, func(context.Context) error { return statusIs(t, otherHTTP, 0, "Healthy.") })

	if err := dev.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	select {
	case <-dev.Exited():
	case <-within(t, patience).Done():
		t.Fatal("dev does not end")
	}
	if code := dev.ExitCode(); code != 0 {
		t.Errorf("exit code %d of dev\n%s", code, dev.LogTail())
	}
	left, err := filepath.Glob(filepath.Join(temp, "*", "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("dev left %v %v", left, err)
	}
	if _, err := net.Dial("tcp", last); err == nil {
		t.Error("a peer outlives dev")
	}
}

// statusIs returns nil if lookupctl status has this exit code and first word.
func statusIs(t *testing.T, address string, code int, sentence string) error {
	t.Helper()
	out, got := lookupctl(t, nil, "status", "-a", address)
	first, _ := bufio.NewReader(strings.NewReader(out)).ReadString('\n')
	if got != code || !strings.HasPrefix(first, sentence) {
		return fmt.Errorf("status: exit code %d, want %d and %s\n%s", got, code, sentence, out)
	}
	return nil
}

func TestStatusWithoutQuorum(t *testing.T) {
	c := newWorld(t).cluster(3)
	for _, p := range c.Peers[:2] {
		if err := p.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	address := c.Peers[2].HTTPAddress()
	eventually(t, func(context.Context) error { return statusIs(t, address, 4, "No quorum for ") })
	if out, code := lookupctl(t, nil, "lookup", "orders", "-a", address); code != 4 || !strings.Contains(out, "--stale") {
		t.Errorf("lookup: exit code %d\n%s", code, out)
	}
	if out, code := lookupctl(t, nil, "status", "--local", "-a", address); code != 0 {
		t.Errorf("a peer without a quorum still serves stale reads; status --local: exit code %d\n%s", code, out)
	}
}
