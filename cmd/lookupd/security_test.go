package main

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lookupd/lookupd/secrets"
	"github.com/lookupd/lookupd/secrets/secretstest"
)

// secretArgs makes secrets and returns the flags that name them.
func secretArgs(t *testing.T) (dir string, args []string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "secrets")
	if err := secrets.Create(dir, secrets.DefaultCluster, secrets.Hosts{}, time.Now()); err != nil {
		t.Fatal(err)
	}
	return dir, []string{
		"-peer-tls-cert=" + filepath.Join(dir, secrets.CertificateFile), "-peer-tls-key=" + filepath.Join(dir, secrets.KeyFile),
		"-peer-tls-root-ca-file=" + filepath.Join(dir, secrets.AuthorityFile), "-gossip-key-file=" + filepath.Join(dir, secrets.GossipKeyFile),
	}
}

// Off loopback a peer starts with certificates and key, or with -insecure.
func TestOffLoopback(t *testing.T) {
	_, all := secretArgs(t)
	certificates, key := all[:3], all[3:]
	for name, c := range map[string]struct {
		args       []string
		want       []string // of the refusal; nil for none
		unprotects string
	}{
		"both":                             {args: slices.Concat([]string{"-join=h1"}, all)},
		"both, and -insecure":              {args: slices.Concat([]string{"-join=h1", "-insecure"}, all)},
		"neither":                          {args: []string{"-join=h1"}, want: []string{"-peer-address", "-peer-tls-cert", "-gossip-address", "-gossip-key-file", "lookupctl secrets init", "-insecure"}},
		"neither, and -insecure":           {args: []string{"-join=h1", "-insecure"}, unprotects: "certificates, gossip key"},
		"no key":                           {args: slices.Concat([]string{"-join=h1"}, certificates), want: []string{"-gossip-address (default)"}},
		"no key, and -insecure":            {args: slices.Concat([]string{"-join=h1", "-insecure"}, certificates), unprotects: "gossip key"},
		"no certificates":                  {args: slices.Concat([]string{"-join=h1"}, key), want: []string{"-peer-address (default)"}},
		"alone":                            {args: nil},
		"alone, but open":                  {args: []string{"-peer-address=:4162"}, want: []string{"-peer-address (flag)", ":4162 is not loopback"}},
		"alone, -insecure without meaning": {args: []string{"-insecure"}},
	} {
		t.Run(name, func(t *testing.T) {
			o, _, err := parse(c.args, nil)
			if (err != nil) != (c.want != nil) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in: %v", want, err)
				}
			}
			if err == nil && o.unprotected() != c.unprotects {
				t.Errorf("warns of %q, want %q", o.unprotected(), c.unprotects)
			}
		})
	}
}

// A start with secrets that cannot be used is refused, with the flag and the
// file named, and -insecure changes nothing about it.
func TestBadSecrets(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(t *testing.T, dir string, args []string) []string
		want  []string
	}{
		"C8 key of 15 bytes": {func(t *testing.T, dir string, args []string) []string {
			secretstest.Replace(t, filepath.Join(dir, secrets.GossipKeyFile), []byte("MTIzNDU2Nzg5MDEyMzQ1\n"))
			return args
		}, []string{"-gossip-key-file (flag)", secrets.GossipKeyFile, "15 bytes, want 32"}},
		"C8 key that is not base64": {func(t *testing.T, dir string, args []string) []string {
			secretstest.Replace(t, filepath.Join(dir, secrets.GossipKeyFile), []byte("swordfish"))
			return args
		}, []string{"-gossip-key-file", "not base64"}},
		"C8 key that others read": {func(t *testing.T, dir string, args []string) []string {
			chmod(t, filepath.Join(dir, secrets.GossipKeyFile), 0o644)
			return args
		}, []string{"-gossip-key-file", "mode 0644", "chmod 0600"}},
		"C8 key that is not there": {func(t *testing.T, dir string, args []string) []string {
			return append(args[:3], "-gossip-key-file="+dir+"/absent")
		}, []string{"-gossip-key-file", "/absent"}},
		"C9 certificate alone": {func(_ *testing.T, _ string, args []string) []string { return args[:1] }, []string{"-peer-tls-key (default)", "-peer-tls-root-ca-file (default)", "all three or none"}},
		"C9 key that others read": {func(t *testing.T, dir string, args []string) []string {
			chmod(t, filepath.Join(dir, secrets.KeyFile), 0o640|0o004)
			return args
		}, []string{"-peer-tls-cert", secrets.KeyFile, "chmod 0600"}},
		"C9 certificate of another authority": {func(t *testing.T, dir string, args []string) []string {
			secretstest.Replace(t, filepath.Join(dir, secrets.AuthorityFile), secretstest.PEM(secretstest.NewAuthority(t)))
			return args
		}, []string{"-peer-tls-cert (flag)", secrets.CertificateFile, "unknown authority"}},
		"C9 expired certificate": {func(t *testing.T, dir string, _ []string) []string {
			authority := secretstest.NewAuthority(t)
			f := secretstest.Write(t, dir, authority.Issue(t, secretstest.Valid(-2*time.Hour, -time.Hour)), secretstest.PEM(authority))
			return []string{"-peer-tls-cert=" + f.Certificate, "-peer-tls-key=" + f.Key, "-peer-tls-root-ca-file=" + f.Authorities}
		}, []string{"-peer-tls-cert", "expired"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir, args := secretArgs(t)
			secret, err := os.ReadFile(filepath.Join(dir, secrets.GossipKeyFile))
			if err != nil {
				t.Fatal(err)
			}
			var stdout, stderr bytes.Buffer
			if code := run(append(c.spoil(t, dir, args), "-insecure"), nil, &stdout, &stderr); code != exitConfig {
				t.Errorf("exit code %d", code)
			}
			for _, want := range c.want {
				if !strings.Contains(stderr.String(), want) {
					t.Errorf("%q is not in: %s", want, stderr.String())
				}
			}
			for line := range strings.Lines(string(secret)) {
				if strings.Contains(stderr.String()+stdout.String(), strings.TrimSpace(line)) || strings.Contains(stderr.String(), "swordfish") {
					t.Errorf("a secret is in: %s", stderr.String())
				}
			}
		})
	}
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func TestSecurityMetrics(t *testing.T) {
	_, args := secretArgs(t)
	o := loopbackOptions(t, t.TempDir()+"/data", args...)
	d, err := startDaemon(t, o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		http.DefaultClient.CloseIdleConnections()
		if err := d.stop(); err != nil {
			t.Error(err)
		}
	}()
	body, _ := ask(t, d, "/metrics")
	for _, want := range []string{"\nlookupd_certificate_expiry_timestamp_seconds{listener=\"peer\"} 1.", "\nlookupd_insecure 0\n"} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q in /metrics", want)
		}
	}
}
