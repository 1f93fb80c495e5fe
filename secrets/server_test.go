package secrets_test

import (
	"crypto/x509"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/lookupd/lookupd/secrets"
	"github.com/lookupd/lookupd/secrets/secretstest"
)

func TestServerCertificates(t *testing.T) {
	authority := secretstest.NewAuthority(t)
	host := secretstest.Host("peer.example")
	for name, test := range map[string]struct {
		change []func(*x509.Certificate)
		spoil  func(secrets.ServerFiles)
		want   string // in the error, "" for none
	}{
		"good":                  {},
		"C9 expired":            {change: []func(*x509.Certificate){secretstest.Valid(-2*time.Hour, -time.Minute)}, want: "it ended on"},
		"C9 not yet valid":      {change: []func(*x509.Certificate){secretstest.Valid(time.Hour, 2*time.Hour)}, want: "not valid before"},
		"C9 names no host":      {change: []func(*x509.Certificate){func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = nil, nil }}, want: "names no host"},
		"C9 for clients":        {change: []func(*x509.Certificate){secretstest.Usage(x509.ExtKeyUsageClientAuth)}, want: "servers may not use it"},
		"for any use":           {change: []func(*x509.Certificate){secretstest.Usage(x509.ExtKeyUsageAny)}},
		"C9 another's key":      {spoil: func(f secrets.ServerFiles) { secretstest.Replace(t, f.Key, authority.Issue(t).Key) }, want: "private key does not match"},
		"C9 key that all read":  {spoil: func(f secrets.ServerFiles) { chmod(t, f.Key, 0o644) }, want: "others can read it"},
		"C9 writable for all":   {spoil: func(f secrets.ServerFiles) { chmod(t, f.Certificate, 0o666) }, want: "others can write it"},
		"C9 no key":             {spoil: func(f secrets.ServerFiles) { remove(t, f.Key) }, want: "no such file"},
		"C9 no certificate":     {spoil: func(f secrets.ServerFiles) { remove(t, f.Certificate) }, want: "no such file"},
		"C9 empty certificate":  {spoil: func(f secrets.ServerFiles) { secretstest.Replace(t, f.Certificate, nil) }, want: "failed to find any PEM"},
		"C9 garbage":            {spoil: func(f secrets.ServerFiles) { secretstest.Replace(t, f.Certificate, []byte("\x00\xff garbage")) }, want: "failed to find any PEM"},
		"C9 key as certificate": {spoil: func(f secrets.ServerFiles) { secretstest.Replace(t, f.Certificate, read(t, f.Key)) }, want: "did find a private key"},
	} {
		t.Run(name, func(t *testing.T) {
			files := secretstest.WriteServer(t, t.TempDir(), authority.Issue(t, append([]func(*x509.Certificate){host}, test.change...)...))
			if test.spoil != nil {
				test.spoil(files)
			}
			c, err := files.Load(time.Now())
			if test.want != "" {
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("got %v, want %s", err, test.want)
				}
				return
			}
			if err != nil || c.Own().Leaf == nil || c.Ends().Before(time.Now()) || !c.Same(c) {
				t.Errorf("%v", err)
			}
		})
	}
	expired := secretstest.WriteServer(t, t.TempDir(), authority.Issue(t, host, secretstest.Valid(-2*time.Hour, -time.Minute)))
	if _, err := expired.Load(time.Unix(0, 0)); err != nil {
		t.Errorf("with a clock at 1970: %v", err)
	}
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
