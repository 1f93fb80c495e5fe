package main

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
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
	https := secretstest.WriteServer(t, dir, authority.Issue(t, secretstest.Host("localhost")))
	key := "-gossip-key-file=" + secretstest.WriteGossipKeys(t, dir, secretstest.GossipKey())
	for name, test := range map[string]struct {
		flags            []string
		rule, what       string
		level            httpapi.Level
		otherwiseHealthy bool
	}{
		"on loopback":                      {nil, "security", "ports between peers are closed to others", httpapi.LevelOK, true},
		"no gossip key":                    {append(certificates, "-peer-address=0.0.0.0:0", "-gossip-address=0.0.0.0:0", "-insecure"), "security", "solo has no gossip key, off loopback", httpapi.LevelWarn, false},
		"nothing":                          {[]string{"-peer-address=0.0.0.0:0", "-insecure"}, "security", "solo has no mutual TLS on the peer port and no gossip key", httpapi.LevelWarn, false},
		"a certificate about to end":       {append(certificates, key), "certificates", "the certificate of solo ends on ", httpapi.LevelCrit, false},
		"an HTTP certificate about to end": {[]string{"-http-tls-cert=" + https.Certificate, "-http-tls-key=" + https.Key}, "certificates", "the certificate of the HTTP port of solo ends on ", httpapi.LevelCrit, false},
		"address that does not answer":     {[]string{"-broadcast-address=nowhere.invalid"}, "addresses", "solo does not answer at nowhere.invalid:", httpapi.LevelWarn, false},
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
			}()
			c := healthyCheck(t, d)
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

// healthyCheck returns a check of a peer once its cluster is well.
func healthyCheck(t *testing.T, d *daemon) (c httpapi.Check) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	scheme := "http"
	if d.o.httpCertificate.Given() {
		scheme = "https"
	}
	eventually(t, func() error {
		answer, err := client.Get(scheme + "://" + d.http.Addr().String() + "/v1/check")
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		c = httpapi.Check{}
		if err := json.NewDecoder(answer.Body).Decode(&c); err != nil {
			return err
		}
		if !strings.HasPrefix(c.Status, "Healthy") {
			return errors.New(c.Status)
		}
		return nil
	})
	return c
}

// TestCheckFindsTwoNSQDsOfOneAddress: two hosts take each other's place.
func TestCheckFindsTwoNSQDsOfOneAddress(t *testing.T) {
	d, err := startDaemon(t, loopbackOptions(t, t.TempDir()+"/data"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.stop(); err != nil {
			t.Error(err)
		}
	}()
	healthyCheck(t, d)
	for i := range 3 {
		local := net.IPv4(127, 0, 0, byte(2+i%2))
		c, err := dialV1(d, &net.TCPAddr{IP: local})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.declare("n1", fmt.Sprint("h", i%2), "REGISTER t"); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, func() error {
		c := healthyCheck(t, d)
		for _, f := range c.Findings {
			if f.Rule == "shared" && f.What == "n1:4150 is two nsqds: h0 (127.0.0.2) and h1 (127.0.0.3)" {
				return nil
			}
		}
		return fmt.Errorf("not found: %+v", c.Findings)
	})
}
