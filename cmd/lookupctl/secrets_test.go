package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lookupd/lookupd/secrets"
)

func TestSecretsInit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	code, out, talk := call(t, nil, "secrets", "init", dir, "-cluster=prod")
	if code != exitOK || !strings.Contains(talk, "without ca-key.pem") {
		t.Fatalf("exit code %d: %s", code, talk)
	}
	files := map[string]string{}
	for _, flag := range strings.Fields(out) {
		name, path, _ := strings.Cut(flag, "=")
		files[name] = path
	}
	c, err := secrets.Files{
		Certificate: files["-peer-tls-cert"], Key: files["-peer-tls-key"], Authorities: files["-peer-tls-root-ca-file"],
	}.Load(time.Now())
	if err != nil || c.Name().Cluster != "prod" {
		t.Errorf("%v of %q", err, out)
	}
	if _, err := secrets.LoadGossipKeys(files["-gossip-key-file"]); err != nil {
		t.Error(err)
	}
	before := contentsOf(t, dir)
	for _, text := range before {
		for line := range strings.Lines(text) {
			if line = strings.TrimSpace(line); len(line) > 30 && strings.Contains(out+talk, line) {
				t.Errorf("a secret is printed: %s", line)
			}
		}
	}
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"secrets", "init", dir}, exitFailed, "holds secrets already"},
		{[]string{"secrets", "init", dir, "--if-absent"}, exitOK, "nothing was changed"},
		{[]string{"secrets", "init", dir + "2", "--cluster=A"}, exitUsage, "--cluster"},
		{[]string{"secrets", "init", dir + "2", "--http=host1,host2:4161"}, exitUsage, `--http: "host2:4161" is neither`},
		{[]string{"secrets", "init"}, exitUsage, "wants DIR"},
		{[]string{"secrets", "ini", dir}, exitUsage, "did you mean init?"},
	} {
		if code, out, talk := call(t, nil, c.args...); code != c.code || out != "" || !strings.Contains(talk, c.want) {
			t.Errorf("%v: exit code %d, %q, %q; want %d, %q", c.args, code, out, talk, c.code, c.want)
		}
	}
	if after := contentsOf(t, dir); !slices.Equal(after, before) {
		t.Error("files were changed")
	}
}

// TestSecretsInitIfAbsentFindsAPart: after an init that was cut off, peers would
// fail for want of a file, again and again, if this one succeeded.
func TestSecretsInitIfAbsentFindsAPart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	ifAbsent := func(code int, want string, options ...string) {
		t.Helper()
		got, _, talk := call(t, nil, append([]string{"secrets", "init", dir, "--if-absent"}, options...)...)
		if got != code || !strings.Contains(talk, want) {
			t.Errorf("exit code %d, want %d: %s", got, code, talk)
		}
	}
	ifAbsent(exitOK, "Made ")
	ifAbsent(exitFailed, "http.pem and http-key.pem lacking", "--http=host1")
	if err := os.Remove(filepath.Join(dir, secrets.AuthorityKeyFile)); err != nil { // it belongs into a safe
		t.Fatal(err)
	}
	ifAbsent(exitOK, "nothing was changed")
	if err := os.Remove(filepath.Join(dir, secrets.KeyFile)); err != nil {
		t.Fatal(err)
	}
	ifAbsent(exitFailed, "peer-key.pem lacking")
	if err := os.WriteFile(filepath.Join(dir, secrets.KeyFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ifAbsent(exitFailed, "peer-key.pem lacking")
}

func TestSecretsInitForHTTP(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	code, out, talk := call(t, nil, "secrets", "init", dir, "--http=host1,10.0.0.1", "--http", "host2")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if code != exitOK || len(lines) != 2 || !strings.Contains(talk, "--ca-file") {
		t.Fatalf("exit code %d: %q, %s", code, out, talk)
	}
	if want := "-http-tls-cert=" + dir + "/http.pem -http-tls-key=" + dir + "/http-key.pem"; lines[1] != want {
		t.Errorf("%q, want %q", lines[1], want)
	}
	c, err := secrets.ServerFiles{Certificate: dir + "/http.pem", Key: dir + "/http-key.pem"}.Load(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if leaf := c.Own().Leaf; !slices.Equal(leaf.DNSNames, []string{"host1", "host2"}) || len(leaf.IPAddresses) != 1 {
		t.Error(leaf.DNSNames, leaf.IPAddresses)
	}
}

func contentsOf(t *testing.T, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		text, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(text))
	}
	return all
}
