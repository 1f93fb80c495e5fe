package e2e_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// nobody is a user and group without rights.
const nobody = 65534

// alone are the flags of a peer that needs no port of its own.
var alone = []string{
	"-node-name", "a", "-tcp-address", "127.0.0.1:0", "-http-address", "127.0.0.1:0",
	"-peer-address", "127.0.0.1:0", "-gossip-address", "127.0.0.1:0",
}

// TestStartOnABadMachine: what the machine lacks is told, and nothing that is on
// disk changes.
func TestStartOnABadMachine(t *testing.T) {
	if os.Geteuid() != 0 {
		skipNeeds(t, "root")
	}
	for name, test := range map[string]struct {
		prepare func(t *testing.T, data string)
		shell   string // runs lookupd, as "$@"
		user    bool   // an ordinary one
		code    int
		want    string
	}{
		"C3 privileged port": {
			prepare: func(t *testing.T, data string) { needPrivilegedPorts(t); give(t, data) },
			shell:   `exec "$@" -http-address 127.0.0.1:1`, user: true, code: 1, want: "-http-address: ",
		},
		"C11 file limit of 64": {shell: `ulimit -n 64; exec "$@"`, code: 2, want: "open files"},
		"D11 foreign owner":    {shell: `exec "$@"`, user: true, code: 3, want: "not writable"},
		"D11 foreign files": {
			prepare: func(t *testing.T, data string) { must(t, os.Chown(data, nobody, nobody)) },
			shell:   `exec "$@"`, user: true, code: 3, want: "permission denied",
		},
		"D11 mode 000": {
			prepare: func(t *testing.T, data string) { give(t, data); must(t, os.Chmod(data, 0)) },
			shell:   `exec "$@"`, user: true, code: 3, want: "permission denied",
		},
		"D11 immutable": {
			prepare: func(t *testing.T, data string) { makeImmutable(t, data) },
			shell:   `exec "$@"`, code: 3, want: "not writable",
		},
		"D12 disk full at start": {
			shell: `mount -t tmpfs -o size=4m none "$TMPDIR" && cp -a "$DATA" "$TMPDIR/data" || exit 99
head -c 8m /dev/zero > "$TMPDIR/ballast" 2>/dev/null
before=$(cat "$TMPDIR/data/node.json" "$TMPDIR/data/raft/raft.db" "$TMPDIR/data/raft/raft.journal" | cksum)
"$@" -data-path "$TMPDIR/data"; code=$?
[ "$before" = "$(cat "$TMPDIR/data/node.json" "$TMPDIR/data/raft/raft.db" "$TMPDIR/data/raft/raft.journal" | cksum)" ] || exit 98
exit $code`, code: 1, want: "no space left on device",
		},
	} {
		t.Run(name, func(t *testing.T) {
			base := t.TempDir()
			readable(t, base)
			program, data := filepath.Join(base, "lookupd"), filepath.Join(base, "data")
			copyProgram(t, binaries.lookupd, program)
			usedDirectory(t, program, data)
			if test.prepare != nil {
				test.prepare(t, data)
			}
			before := tree(t, data)
			args := append([]string{"-c", test.shell, "sh", program}, append(alone, "-data-path", data)...)
			cmd := exec.CommandContext(within(t, patience), "sh", args...)
			cmd.Dir, cmd.Env = base, append(os.Environ(), "DATA="+data, "TMPDIR="+t.TempDir())
			cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
			if test.user {
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
			}
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != test.code || !strings.Contains(string(out), test.want) {
				t.Errorf("%v, want exit code %d and %q:\n%s", err, test.code, test.want, out)
			}
			if strings.Contains(string(out), "goroutine ") {
				t.Error("a panic")
			}
			if after := tree(t, data); after != before {
				t.Errorf("before:\n%s\nafter:\n%s", before, after)
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// readable lets everybody into a test's directory.
func readable(t *testing.T, path string) {
	t.Helper()
	for ; path != "/" && path != filepath.Clean(os.TempDir()); path = filepath.Dir(path) {
		must(t, os.Chmod(path, 0o755))
	}
}

func copyProgram(t *testing.T, from, to string) {
	t.Helper()
	content, err := os.ReadFile(from)
	must(t, err)
	must(t, os.WriteFile(to, content, 0o755))
}

// usedDirectory makes the data of a peer that was started and killed.
func usedDirectory(t *testing.T, program, data string) {
	t.Helper()
	cmd := exec.CommandContext(within(t, patience), program, append(alone, "-data-path", data)...)
	must(t, cmd.Start())
	defer func() { _ = cmd.Wait() }() // it was killed
	defer func() { _ = cmd.Process.Kill() }()
	eventually(t, func(context.Context) error {
		_, err := os.Stat(filepath.Join(data, "state"))
		return err
	})
}

// give makes everything below path the ordinary user's.
func give(t *testing.T, path string) {
	t.Helper()
	must(t, filepath.WalkDir(path, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, nobody, nobody))
	}))
}

func needPrivilegedPorts(t *testing.T) {
	t.Helper()
	if first, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start"); err != nil || len(first) < 2 || first[0] == '0' || first[0] == '1' && len(first) == 2 {
		skipNeeds(t, "privileged ports")
	}
}

func makeImmutable(t *testing.T, path string) {
	t.Helper()
	if out, err := exec.Command("chattr", "+i", path).CombinedOutput(); err != nil {
		skipNeeds(t, "chattr +i: "+string(out))
	}
	t.Cleanup(func() { must(t, exec.Command("chattr", "-i", path).Run()) })
}

// tree lists the files below path with their size, mode and content's hash.
func tree(t *testing.T, path string) string {
	t.Helper()
	out, err := exec.Command("sh", "-c", `cd "$0" && find . -name LOCK -prune -o -printf '%p %m %U %s ' -exec sh -c 'test -f "$0" && cksum <"$0" || echo' {} \;`, path).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}
