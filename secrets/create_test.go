package secrets_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lookupd/lookupd/secrets"
)

func created(dir string) secrets.Files {
	return secrets.Files{
		Certificate: filepath.Join(dir, secrets.CertificateFile), Key: filepath.Join(dir, secrets.KeyFile),
		Authorities: filepath.Join(dir, secrets.AuthorityFile),
	}
}

func TestCreate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "secrets")
	if err := secrets.Create(dir, "prod", time.Now()); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 5 {
		t.Fatalf("%v, %v", entries, err)
	}
	for _, entry := range append(entries, mustStat(t, dir)) {
		info, err := entry.Info()
		if err != nil {
			t.Fatal(err)
		}
		if want := map[bool]os.FileMode{true: 0o700, false: 0o600}[info.IsDir()]; info.Mode().Perm() != want {
			t.Errorf("%s has mode %v", info.Name(), info.Mode())
		}
	}
	c, err := created(dir).Load(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if want := (secrets.Name{Cluster: "prod", Role: secrets.RolePeer}); c.Name() != want || time.Until(c.Ends()) < 700*24*time.Hour {
		t.Errorf("%v until %v", c.Name(), c.Ends())
	}
	if keys, err := secrets.LoadGossipKeys(filepath.Join(dir, secrets.GossipKeyFile)); err != nil || len(keys) != 1 {
		t.Errorf("%d keys, %v", len(keys), err)
	}
}

func mustStat(t *testing.T, path string) os.DirEntry {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Fatal(entries, err)
	}
	return entries[0]
}

// What is there stays, to the last byte.
func TestCreateOverwritesNothing(t *testing.T) {
	for _, name := range []string{secrets.AuthorityFile, secrets.AuthorityKeyFile, secrets.CertificateFile, secrets.KeyFile, secrets.GossipKeyFile} {
		dir := t.TempDir()
		if err := os.Chmod(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("/nowhere", filepath.Join(dir, name)); err != nil { // a link to nothing counts too
			t.Fatal(err)
		}
		if err := secrets.Create(dir, "prod", time.Now()); !errors.Is(err, secrets.ErrExists) {
			t.Errorf("%s: %v", name, err)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
			t.Errorf("%s: %v, %v", name, entries, err)
		}
	}
}

func TestCreateRefuses(t *testing.T) {
	open := filepath.Join(t.TempDir(), "open")
	if err := os.Mkdir(open, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ dir, cluster, want string }{
		{t.TempDir() + "/x", "Prod", "cannot be a cluster's name"},
		{t.TempDir() + "/x", "", "cannot be a cluster's name"},
		{t.TempDir() + "/x", "-", "cannot be a cluster's name"},
		{open, "prod", "others can enter it: chmod 0700"},
		{file, "prod", file},
		{t.TempDir() + "/x/y", "prod", "no such file"},
	} {
		if err := secrets.Create(c.dir, c.cluster, time.Now()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s, %q: %v, want %q", c.dir, c.cluster, err, c.want)
		}
	}
}
