package secrets_test

import (
	"crypto/x509"
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
	if err := secrets.Create(dir, "prod", secrets.Hosts{}, time.Now()); err != nil {
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
		if err := secrets.Create(dir, "prod", secrets.Hosts{}, time.Now()); !errors.Is(err, secrets.ErrExists) {
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
		if err := secrets.Create(c.dir, c.cluster, secrets.Hosts{}, time.Now()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s, %q: %v, want %q", c.dir, c.cluster, err, c.want)
		}
	}
}

func TestCreateForHTTP(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "secrets")
	hosts, err := secrets.ParseHosts([]string{"host1", "*.prod.example", "10.0.0.1", "::1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := secrets.Create(dir, "prod", hosts, time.Now()); err != nil {
		t.Fatal(err)
	}
	files := secrets.ServerFiles{
		Certificate: filepath.Join(dir, secrets.HTTPCertificateFile), Key: filepath.Join(dir, secrets.HTTPKeyFile),
	}
	c, err := files.Load(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if time.Until(c.Ends()) < 700*24*time.Hour {
		t.Errorf("it ends at %s", c.Ends())
	}
	authority, err := os.ReadFile(filepath.Join(dir, secrets.AuthorityFile))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	for host, good := range map[string]bool{
		"host1": true, "a.prod.example": true, "10.0.0.1": true, "::1": true,
		"host2": false, "a.b.prod.example": false, "10.0.0.2": false,
	} {
		if _, err := c.Own().Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: host}); (err == nil) != good {
			t.Errorf("%s: %v", host, err)
		}
	}
	// It opens no peer port: neither as a peer's, nor as a client's.
	peer := created(dir)
	peer.Certificate, peer.Key = files.Certificate, files.Key
	if _, err := peer.Load(time.Now()); err == nil {
		t.Error("a peer takes it for its own")
	}
	usage := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if _, err := c.Own().Leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: usage}); err == nil {
		t.Error("clients may use it")
	}
	if info, err := os.Stat(files.Key); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info, err)
	}
}

func TestParseHosts(t *testing.T) {
	for _, bad := range []string{"", " ", "a b", "host1:4161", "https://host1", "10.0.0", "10.0.0.256", "*", "a.*.b", "-a", "a-", "a..b", "[::1]", strings.Repeat("a", 64), strings.Repeat("a.", 127) + "a"} {
		if got, err := secrets.ParseHosts([]string{"host1", bad}); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
	got, err := secrets.ParseHosts([]string{"lookupd-0.lookupd.nsq.svc", "Host_1.example", "127.0.0.1", "xn--bcher-kva.example", "h"})
	if err != nil || len(got.Names) != 4 || len(got.Addresses) != 1 {
		t.Error(got, err)
	}
}
