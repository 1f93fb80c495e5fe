package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lookupd/lookupd/httpapi"
	"github.com/lookupd/lookupd/secrets/secretstest"
)

// TestCheckOfAWholePeer: what a peer is started with is found in its check.
func TestCheckOfAWholePeer(t *testing.T) {
	dir := t.TempDir()
	authority := secretstest.NewAuthority(t)
	files := secretstest.Write(t, dir, authority.Issue(t, secretstest.Valid(-time.Hour, 20*24*time.Hour)), secretstest.PEM(authority))
	// The authority's certificate ends in an hour; what counts is the earlier end.
	certificates := []string{"-peer-tls-cert=" + files.Certificate, "-peer-tls-key=" + files.Key, "-peer-tls-root-ca-file=" + files.Authorities}
	key := "-gossip-key-file=" + secretstest.WriteGossipKeys(t, dir, secretstest.GossipKey())
	for name, test := range map[string]struct {
		flags            []string
		rule, what       string
		level            httpapi.Level
		otherwiseHealthy bool
	}{
		"on loopback":                  {nil, "security", "ports between peers are closed to others", httpapi.LevelOK, true},
		"no gossip key":                {append(certificates, "-peer-address=0.0.0.0:0", "-gossip-address=0.0.0.0:0", "-insecure"), "security", "solo has no gossip key, off loopback", httpapi.LevelWarn, false},
		"nothing":                      {[]string{"-peer-address=0.0.0.0:0", "-insecure"}, "security", "solo has no mutual TLS on the peer port and no gossip key", httpapi.LevelWarn, false},
		"a certificate about to end":   {append(certificates, key), "certificates", "the certificate of solo ends on ", httpapi.LevelCrit, false},
		"address that does not answer": {[]string{"-broadcast-address=nowhere.invalid"}, "addresses", "solo does not answer at nowhere.invalid:", httpapi.LevelWarn, false},
	} {
		t.Run(name, func(t *testing.T) {
			o := loopbackOptions(t, t.TempDir()+"/data", test.flags...)
			d, err := startDaemon(t, o)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := d.stop(); err != nil {
					t.Error(err)
				}
				http.DefaultClient.CloseIdleConnections()
			}()
			base := "http://" + d.http.Addr().String()
			var c httpapi.Check
			for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
				body, _ := get(t, base+"/v1/check")
				c = httpapi.Check{}
				if err := json.Unmarshal([]byte(body), &c); err != nil {
					t.Fatal(err, body)
				}
				if strings.HasPrefix(c.Status, "Healthy") {
					break
				}
				if time.Now().After(deadline) {
					t.Fatal(body)
				}
			}
			if (c.Level == httpapi.LevelOK) != test.otherwiseHealthy {
				t.Errorf("level %s: %+v", c.Level, c.Findings)
			}
			for _, f := range c.Findings {
				if f.Rule == test.rule && f.Level == test.level && strings.HasPrefix(f.What, test.what) {
					return
				}
			}
			t.Errorf("not found: %+v", c.Findings)
		})
	}
}
