package e2e_test

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/lookupd/lookupd/supervisor"
)

// refused runs lookupd, which must end by itself, and returns its exit code and
// output.
func refused(t *testing.T, args ...string) (code int, out string) {
	t.Helper()
	cmd := exec.CommandContext(within(t, patience), binaries.lookupd, args...)
	cmd.Dir = t.TempDir()
	text, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("lookupd %v: %v, want it to refuse\n%s", args, err, text)
	}
	return exit.ExitCode(), string(text)
}

func TestStartIsRefused(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	first := w.cluster(1).Peers[0]
	free := []string{
		"-tcp-address", "127.0.0.1:0", "-http-address", "127.0.0.1:0", "-peer-address", "127.0.0.1:0", "-gossip-address", "127.0.0.1:0",
	}
	for _, test := range []struct {
		name string
		args []string
		code int // 0: any that is not 0
		want string
	}{
		{"C5 second process on the data directory", []string{"-data-path", first.DataPath()}, 0, first.DataPath()},
		{"C4 data directory is a file", []string{"-data-path", file}, 0, file},
		{"C3 port in use", []string{"-http-address", taken.Addr().String()}, 1, taken.Addr().String()},
		{"C1 unknown flag", []string{"-broadcast-adress", "x"}, 2, "broadcast-adress"},
		{"C1 flag of the wrong type", []string{"-bootstrap-expect", "three"}, 2, "bootstrap-expect"},
		{"C2 negative duration", []string{"-tombstone-lifetime", "-1s"}, 2, "tombstone-lifetime"},
		{"C1 -data-dir", []string{"-data-dir", "x"}, 2, "-data-path"},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, out := refused(t, append(append([]string{}, free...), test.args...)...)
			if code == 0 || test.code != 0 && code != test.code || !strings.Contains(out, test.want) {
				t.Errorf("exit code %d, want %d; output does not name %q:\n%s", code, test.code, test.want, out)
			}
			if strings.Contains(out, "goroutine ") {
				t.Errorf("a panic:\n%s", out)
			}
		})
	}
	if _, err := status(within(t, patience), first); err != nil {
		t.Errorf("the first process: %v", err)
	}
}

// TestComposeFlags checks the command line of docker-compose.yml without a
// Docker engine.
func TestComposeFlags(t *testing.T) {
	text, err := os.ReadFile("../docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^  command: >-\n +/lookupd ((?:.|\n    )+)$`).FindStringSubmatch(string(text))
	if found == nil {
		t.Fatal("no command of a peer")
	}
	dir := t.TempDir()
	files, _ := initSecrets(t)
	for name, content := range files {
		replace(t, filepath.Join(dir, name), content)
	}
	flags := strings.Fields(strings.ReplaceAll(found[1], "/run/secrets/lookupd", dir))
	cmd := exec.CommandContext(within(t, patience), binaries.lookupd, append(flags, "-print-config")...)
	cmd.Dir = t.TempDir()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("lookupd %v -print-config: %v\n%s", flags, err, out)
	}
	for _, want := range []string{"bootstrap_expect = 3", dir + "/gossip.key", dir + "/ca.pem"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %s in\n%s", want, out)
		}
	}
}

// TestNoFlags runs lookupd as the first line of the README does: in an empty
// directory, alone, on ports of its own only because the usual ones may be taken.
func TestNoFlags(t *testing.T) {
	w := newWorld(t)
	p, err := supervisor.FreePorts(4)
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	args := []string{"-tcp-address", supervisor.Address(p[0]), "-http-address", supervisor.Address(p[1])}
	env := []string{"LOOKUPD_PEER_ADDRESS=" + supervisor.Address(p[2]), "LOOKUPD_GOSSIP_ADDRESS=" + supervisor.Address(p[3])}
	peer := w.NewPeer(supervisor.PeerConfig{Name: "alone", Ports: supervisor.PeerPorts{HTTP: p[1]}}) // only to ask it
	alone := w.NewProcess(supervisor.Spec{
		Name: "alone", Path: binaries.lookupd, Args: args, Env: env, Dir: home, Log: filepath.Join(w.dir, "alone.log"),
	})
	for range 2 { // the second time with the data of the first
		if err := alone.Start(); err != nil {
			t.Fatal(err)
		}
		if err := supervisor.Poll(within(t, patience), peer.Ready); err != nil {
			t.Fatal(err)
		}
		mustPost(t, peer.URL("/topic/create?topic=kept"))
		if err := alone.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(filepath.Join(home, "lookupd-data"))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("data directory %v %v, want mode 0700", info, err)
	}
}
