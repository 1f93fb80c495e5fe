package secrets_test

import (
	"bytes"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lookupd/lookupd/secrets"
	"github.com/lookupd/lookupd/secrets/secretstest"
)

// Each bad file is refused, by name, and without a word of what is in it.
func TestBadCertificates(t *testing.T) {
	authority, other := secretstest.NewAuthority(t), secretstest.NewAuthority(t)
	good := authority.Issue(t)
	with := func(changes ...func(*x509.Certificate)) func(*testing.T, secrets.Files) {
		return func(t *testing.T, f secrets.Files) {
			pair := authority.Issue(t, changes...)
			secretstest.Replace(t, f.Certificate, pair.Certificate)
			secretstest.Replace(t, f.Key, pair.Key)
		}
	}
	named := func(uris ...string) func(*testing.T, secrets.Files) { return with(secretstest.URIs(t, uris...)) }
	mode := func(path func(secrets.Files) string, mode os.FileMode) func(*testing.T, secrets.Files) {
		return func(t *testing.T, f secrets.Files) {
			if err := os.Chmod(path(f), mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	key := func(f secrets.Files) string { return f.Key }
	for name, c := range map[string]struct {
		spoil func(*testing.T, secrets.Files)
		want  string
	}{
		"C9 no certificate":           {func(_ *testing.T, f secrets.Files) { _ = os.Remove(f.Certificate) }, "no such file"},
		"C9 no key":                   {func(_ *testing.T, f secrets.Files) { _ = os.Remove(f.Key) }, "no such file"},
		"C9 no authority":             {func(_ *testing.T, f secrets.Files) { _ = os.Remove(f.Authorities) }, "no such file"},
		"C9 empty certificate":        {func(t *testing.T, f secrets.Files) { secretstest.Replace(t, f.Certificate, nil) }, "cert.pem"},
		"C9 empty authority":          {func(t *testing.T, f secrets.Files) { secretstest.Replace(t, f.Authorities, nil) }, "no certificate in PEM"},
		"C9 another key":              {func(t *testing.T, f secrets.Files) { secretstest.Replace(t, f.Key, other.Issue(t).Key) }, "private key does not match"},
		"C9 another authority":        {func(t *testing.T, f secrets.Files) { secretstest.Replace(t, f.Authorities, secretstest.PEM(other)) }, "unknown authority"},
		"C9 a key as authority":       {func(t *testing.T, f secrets.Files) { secretstest.Replace(t, f.Authorities, good.Key) }, "holds a PRIVATE KEY"},
		"C9 a peer as authority":      {func(t *testing.T, f secrets.Files) { secretstest.Replace(t, f.Authorities, good.Certificate) }, "no authority's"},
		"C9 expired":                  {with(secretstest.Valid(-2*time.Hour, -time.Hour)), "expired"},
		"C9 not yet valid":            {with(secretstest.Valid(time.Hour, 2*time.Hour)), "not yet valid"},
		"C9 no name":                  {with(secretstest.For()), "names no role"},
		"C9 two names":                {named("lookupd://test/peer", "lookupd://other/peer"), "2 names"},
		"C9 another role":             {named("lookupd://test/client"), `the role "client"`},
		"C9 no role":                  {named("lookupd://test"), "is not lookupd://CLUSTER/ROLE"},
		"C9 no cluster":               {named("lookupd:///peer"), "is not lookupd://CLUSTER/ROLE"},
		"C9 more than a node":         {named("lookupd://test/peer/a/b"), "is not lookupd://CLUSTER/ROLE"},
		"C9 a query":                  {named("lookupd://test/peer?a"), "is not lookupd://CLUSTER/ROLE"},
		"C9 a user":                   {named("lookupd://me@test/peer"), "is not lookupd://CLUSTER/ROLE"},
		"C9 for servers only":         {with(secretstest.Usage(x509.ExtKeyUsageServerAuth)), "incompatible key usage"},
		"C9 for clients only":         {with(secretstest.Usage(x509.ExtKeyUsageClientAuth)), "incompatible key usage"},
		"C9 key that all read":        {mode(key, 0o644), "others can read it: chmod 0600"},
		"C9 key that all write":       {mode(key, 0o602), "others can write it"},
		"C9 authority that all write": {mode(func(f secrets.Files) string { return f.Authorities }, 0o666), "others can write it"},
		"C9 a pipe for a key": {func(t *testing.T, f secrets.Files) {
			if err := os.Remove(f.Key); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Mkfifo(f.Key, 0o600); err != nil {
				t.Fatal(err)
			}
		}, "no regular file"},
		"C9 2 MiB": {func(t *testing.T, f secrets.Files) {
			secretstest.Replace(t, f.Key, append(bytes.Clone(good.Key), make([]byte, 2<<20)...))
		}, "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			files := secretstest.Write(t, t.TempDir(), good, secretstest.PEM(authority))
			if _, err := files.Load(time.Now()); err != nil {
				t.Fatalf("before: %v", err)
			}
			c.spoil(t, files)
			_, err := files.Load(time.Now())
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), ".pem") {
				t.Fatalf("got %v, want %q and a file's name", err, c.want)
			}
			for line := range strings.Lines(string(good.Key)) {
				if line = strings.TrimSpace(line); len(line) > 10 && strings.Contains(err.Error(), line) && !strings.Contains(line, "PRIVATE KEY") {
					t.Errorf("the key is in the error: %v", err)
				}
			}
		})
	}
}

// A clock that was never set must not keep a peer from starting: dates are all
// that cannot be checked then.
func TestClockThatIsOff(t *testing.T) {
	authority := secretstest.NewAuthority(t)
	for name, now := range map[string]time.Time{
		"C10 a clock at 1970": time.Unix(0, 0),
		"C10 a clock at 2100": time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
	} {
		t.Run(name, func(t *testing.T) {
			files := secretstest.Write(t, t.TempDir(), authority.Issue(t), secretstest.PEM(authority))
			c, err := files.Load(now)
			if err != nil {
				t.Fatal(err)
			}
			if warning := c.Warning(now); !strings.Contains(warning, "clock") {
				t.Errorf("warning %q", warning)
			}
			secretstest.Replace(t, files.Authorities, secretstest.PEM(secretstest.NewAuthority(t)))
			if _, err := files.Load(now); err == nil {
				t.Error("nothing else is checked")
			}
		})
	}
}

func TestCertificateEnds(t *testing.T) {
	authority := secretstest.NewAuthority(t)
	pair := authority.Issue(t, secretstest.Valid(-time.Hour, 10*time.Minute))
	c, err := secretstest.Write(t, t.TempDir(), pair, secretstest.PEM(authority)).Load(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if left := time.Until(c.Ends()); left < 9*time.Minute || left > 10*time.Minute {
		t.Errorf("ends in %v", left)
	}
	for _, w := range []struct {
		after time.Duration
		want  string
	}{{0, "ends soon"}, {time.Hour, "has ended"}} {
		if warning := c.Warning(time.Now().Add(w.after)); !strings.Contains(warning, w.want) {
			t.Errorf("after %v: %q", w.after, warning)
		}
	}
}

// What Kubernetes hands over: links, and files of root that the group reads.
func TestFilesThroughLinks(t *testing.T) {
	authority := secretstest.NewAuthority(t)
	files := secretstest.Write(t, t.TempDir(), authority.Issue(t), secretstest.PEM(authority))
	if os.Geteuid() == 0 {
		if err := os.Chmod(files.Key, 0o440); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(t.TempDir(), "key.pem")
	if err := os.Symlink(files.Key, link); err != nil {
		t.Fatal(err)
	}
	files.Key = link
	if _, err := files.Load(time.Now()); err != nil {
		t.Fatal(err)
	}
}

func TestWatch(t *testing.T) {
	authority := secretstest.NewAuthority(t)
	files := secretstest.Write(t, t.TempDir(), authority.Issue(t), secretstest.PEM(authority))
	load := func() (*secrets.Certificates, error) { return files.Load(time.Now()) }
	first, err := load()
	if err != nil {
		t.Fatal(err)
	}
	w := secrets.NewWatch(first, load)
	look := func(wantChange bool, wantErr string) *secrets.Certificates {
		t.Helper()
		c, changed, err := w.Look()
		if changed != wantChange || (err == nil) != (wantErr == "") || err != nil && !strings.Contains(err.Error(), wantErr) {
			t.Fatalf("changed %v, error %v; want %v, %q", changed, err, wantChange, wantErr)
		}
		return c
	}
	if look(false, "") != first {
		t.Error("another one without a change")
	}
	next := authority.Issue(t)
	secretstest.Replace(t, files.Certificate, next.Certificate)
	look(false, "") // the key may follow
	if look(false, "does not match") != first {
		t.Error("the old one does not stay")
	}
	look(false, "") // said once
	secretstest.Replace(t, files.Key, next.Key)
	if look(true, "") == first {
		t.Error("the new one is not taken in")
	}
	look(false, "")
}
