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
