package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/lookupd/lookupd/secrets/secretstest"
)

func TestBadHTTPSettings(t *testing.T) {
	authority := secretstest.NewAuthority(t)
	files := secretstest.WriteServer(t, t.TempDir(), authority.Issue(t, secretstest.Host("localhost")))
	hostless := secretstest.WriteServer(t, t.TempDir(), authority.Issue(t))
	short := writeFile(t, "short")
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"C9 certificate alone":        {[]string{"-http-tls-cert=" + files.Certificate}, "-http-tls-key (default): is not given"},
		"C9 key alone":                {[]string{"-http-tls-key=" + files.Key}, "-http-tls-cert (default): is not given"},
		"C9 certificate of no host":   {[]string{"-http-tls-cert=" + hostless.Certificate, "-http-tls-key=" + hostless.Key}, "it names no host"},
		"C9 files that are not there": {[]string{"-http-tls-cert=/absent", "-http-tls-key=/absent"}, "/absent"},
		"C8 lookup token too short":   {[]string{"-lookup-token-file=" + short}, "-lookup-token-file (flag): no usable token"},
		"C8 lookup tokens absent":     {[]string{"-lookup-token-file=/absent"}, "/absent"},
	} {
		t.Run(name, func(t *testing.T) {
			var talk bytes.Buffer
			if code := run(append(test.args, "-check-config"), nil, io.Discard, &talk); code != exitConfig || !strings.Contains(talk.String(), test.want) {
				t.Errorf("exit code %d: %s", code, talk.String())
			}
		})
	}
}

// TestHTTPCertificateIsReadAgain: a new pair is shown without a restart, a bad one
// never, and metrics tell when it ends.
func TestHTTPCertificateIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	authority, next := secretstest.NewAuthority(t), secretstest.NewAuthority(t)
	files := secretstest.WriteServer(t, dir, authority.Issue(t, secretstest.Host("localhost")))
	o := loopbackOptions(t, dir+"/data", "-http-tls-cert="+files.Certificate, "-http-tls-key="+files.Key)
	var logged syncBuffer
	d := newDaemon(o, newJournal(&logged, o), func(err error) { t.Errorf("fatal: %v", err) })
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.stop(); err != nil {
			t.Error(err)
		}
	}()
	fetch := func(a *secretstest.Authority, path string) (string, error) {
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(secretstest.PEM(a))
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}}
		response, err := client.Get("https://" + d.http.Addr().String() + path)
		if err != nil {
			return "", err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		return string(body), err
	}
	eventually := func(what string, done func() bool) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: %s", what, logged.String())
			}
		}
	}
	if body, err := fetch(authority, "/metrics"); err != nil || !strings.Contains(body, "lookupd_certificate_expiry_timestamp_seconds{listener=\"http\"} 1.") {
		t.Fatal(err, body)
	}
	secretstest.Replace(t, files.Certificate, []byte("garbage"))
	eventually("the bad one is not told", func() bool { return strings.Contains(logged.String(), "the one from before stays") })
	if _, err := fetch(authority, "/ping"); err != nil {
		t.Error(err)
	}
	pair := next.Issue(t, secretstest.Host("localhost"))
	secretstest.Replace(t, files.Key, pair.Key)
	secretstest.Replace(t, files.Certificate, pair.Certificate)
	eventually("the new one is not shown", func() bool { _, err := fetch(next, "/ping"); return err == nil })
	if _, err := fetch(authority, "/ping"); err == nil {
		t.Error("the old one is still shown")
	}
	if key, err := os.ReadFile(files.Key); err != nil || strings.Contains(logged.String(), string(key[30:60])) {
		t.Error("the key is in the log")
	}
}
