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

// TestDev walks through the first five minutes that the documentation shows.
func TestDev(t *testing.T) {
	temp := t.TempDir()
	env := []string{"TMPDIR=" + temp, "PATH=" + binaries.dir + string(os.PathListSeparator) + os.Getenv("PATH")}
	w := newWorld(t)
	log := filepath.Join(w.dir, "dev.log")
	dev := w.NewProcess(supervisor.Spec{
		Name: "dev", Path: binaries.lookupctl, Args: []string{"dev"}, Env: env, Log: log,
		Ready: func(context.Context) error {
			if screen, err := os.ReadFile(log); err != nil || !strings.Contains(string(screen), "Logs and data: ") {
				return errors.New("dev does not say yet where everything is")
			}
			return nil
		},
	})
	w.start(dev)
	screen := dev.LogTail()
	find := func(pattern string) string {
		t.Helper()
		found := regexp.MustCompile(pattern).FindStringSubmatch(screen)
		if found == nil {
			t.Fatalf("no %s in:\n%s", pattern, screen)
		}
		return found[1]
	}
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
