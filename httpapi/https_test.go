package httpapi_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lookupd/lookupd/httpapi"
	"github.com/lookupd/lookupd/secrets/secretstest"
)

// serveTLS serves a node over TLS; roots are what its clients need.
func serveTLS(t *testing.T, adjust ...func(*httpapi.Config)) (p *peer, roots *x509.CertPool, shown *atomic.Pointer[tls.Certificate]) {
	t.Helper()
	authority := secretstest.NewAuthority(t)
	certificate := authority.Issue(t, secretstest.Host("peer.example")).TLS(t)
	shown = &atomic.Pointer[tls.Certificate]{}
	shown.Store(&certificate)
	p = serveOne(t, append(adjust, func(c *httpapi.Config) { c.Certificate = shown.Load })...)
	roots = x509.NewCertPool()
	roots.AppendCertsFromPEM(secretstest.PEM(authority))
	return p, roots, shown
}

// dialTLS is peer.dial with TLS.
func dialTLS(t *testing.T, p *peer, config *tls.Config) *tls.Conn {
	t.Helper()
	c := tls.Client(p.dial(), config)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func doTLS(t *testing.T, p *peer, config *tls.Config, request string, headers ...string) answer {
	t.Helper()
	c := dialTLS(t, p, config)
	method, target, _ := strings.Cut(request, " ")
	text := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\n", method, target, p.addr)
	for _, h := range headers {
		text += h + "\r\n"
	}
	if _, err := io.WriteString(c, text+"\r\n"); err != nil {
		t.Fatal(err)
	}
	return readAnswer(t, c, method)
}

func TestHTTPS(t *testing.T) {
	p, roots, _ := serveTLS(t, withProcess(newFakeProcess()))
	config := &tls.Config{RootCAs: roots, ServerName: "peer.example"}
	for request, want := range map[string]string{
		"GET /ping": "OK", "GET /lookup?topic=t": message("TOPIC_NOT_FOUND"), "GET /topics": `{"topics":[`, "POST /topic/create?topic=x": "",
		"GET /v1/config": `"seen_by":"a"`,
	} {
		if a := doTLS(t, p, config, request); !contains(a.body, want) {
			t.Errorf("%s: %d %s", request, a.status, a.body)
		}
	}
	// Many requests on one connection, as consumers send them.
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
	defer client.CloseIdleConnections()
	for range 50 {
		response, err := client.Get("https://" + p.addr + "/topics")
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(response.Body); err != nil || response.StatusCode != 200 || string(body) != `{"topics":["x"]}` {
			t.Fatal(response.StatusCode, string(body), err)
		}
		_ = response.Body.Close()
	}
}

// TestPlainRequestsAreSentAway, as nsqd does, and health checks are not.
func TestPlainRequestsAreSentAway(t *testing.T) {
	p, _, _ := serveTLS(t, withProcess(newFakeProcess()))
	_, port, _ := net.SplitHostPort(p.addr)
	for _, request := range []string{"GET /lookup?topic=t", "GET /info", "GET /channels?topic=t", "POST /topic/create?topic=t", "GET /metrics", "GET /debug/pprof", "GET /nowhere"} {
		if a := p.do(request); a.status != 403 || a.body != `{"message":"TLS_REQUIRED","https_port":`+port+`}` {
			t.Errorf("%s: %d %s", request, a.status, a.body)
		}
	}
	for _, request := range []string{"GET /v1/status", "GET /v1/config", "POST /v1/import"} {
		if a := p.do(request); a.status != 403 || !contains(a.body, `"code":"TLS_REQUIRED"`) || !contains(a.body, "use https://") {
			t.Errorf("%s: %d %s", request, a.status, a.body)
		}
	}
	for _, request := range []string{"GET /ping", "GET /livez", "GET /readyz"} {
		if a := p.do(request); a.status != 200 {
			t.Errorf("%s: %d %s", request, a.status, a.body)
		}
	}
	if err := httpapi.Ping(t.Context(), p.addr, 5*time.Second); err != nil {
		t.Errorf("other peers' ping: %v", err)
	}
	if topics := doTLS(t, p, &tls.Config{InsecureSkipVerify: true}, "GET /topics").body; topics != `{"topics":[]}` {
		t.Errorf("a plain request did something: %s", topics)
	}
}

func TestCertificateIsChanged(t *testing.T) {
	p, roots, shown := serveTLS(t)
	config := &tls.Config{RootCAs: roots, ServerName: "peer.example"}
	old := dialTLS(t, p, config)
	if err := old.Handshake(); err != nil {
		t.Fatal(err)
	}
	authority := secretstest.NewAuthority(t)
	next := authority.Issue(t, secretstest.Host("peer.example")).TLS(t)
	shown.Store(&next)
	var unknown *tls.CertificateVerificationError
	if err := dialTLS(t, p, config).Handshake(); !errors.As(err, &unknown) {
		t.Errorf("the old authority: %v", err)
	}
	roots.AppendCertsFromPEM(secretstest.PEM(authority))
	if err := dialTLS(t, p, config).Handshake(); err != nil {
		t.Error(err)
	}
	if _, err := io.WriteString(old, "GET /ping HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if a := readAnswer(t, old, "GET"); a.body != "OK" {
		t.Errorf("the connection from before: %+v", a)
	}
}

// TestBadTLS: what is no proper hello ends, in time, and hurts nobody.
func TestBadTLS(t *testing.T) {
	p, roots, _ := serveTLS(t, func(c *httpapi.Config) {
		c.Limits.HeaderTimeout, c.Limits.IdleTimeout = 200*time.Millisecond, 200*time.Millisecond
	})
	for name, bytes := range map[string]string{
		"H13 TLS hello that stops":   "\x16\x03\x01\x02\x00\x01\x00",
		"H13 record of 4 GB":         "\x16\xff\xff\xff\xff\xff\xff\xff\xff",
		"H13 garbage after one byte": "\x16" + strings.Repeat("GET / HTTP/1.1\r\n", 100),
		"H12 silence":                "",
		"H13 SSL 2":                  "\x80\x2e\x01\x00\x02",
		"H13 HTTP/2":                 "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := p.dial()
			defer c.Close()
			_, _ = io.WriteString(c, bytes) // it may be closed already
			began := time.Now()
			_, _ = io.Copy(io.Discard, c)
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("open for %v", took)
			}
		})
	}
	t.Run("TLS 1.1", func(t *testing.T) {
		config := &tls.Config{RootCAs: roots, ServerName: "peer.example", MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
		if err := dialTLS(t, p, config).Handshake(); err == nil {
			t.Error("is spoken")
		}
	})
	t.Run("handshake, then silence", func(t *testing.T) {
		c := dialTLS(t, p, &tls.Config{RootCAs: roots, ServerName: "peer.example"})
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) { // a goodbye, not a cut
			t.Error(err)
		}
	})
}

// TestCloseOverTLS does not wait for clients that read nothing.
func TestCloseOverTLS(t *testing.T) {
	process := newFakeProcess()
	p, roots, _ := serveTLS(t, withProcess(process))
	config := &tls.Config{RootCAs: roots, ServerName: "peer.example"}
	for range 4 {
		c := dialTLS(t, p, config)
		if _, err := fmt.Fprintf(c, "GET /v1/logs?follow HTTP/1.1\r\nHost: %s\r\n\r\n", p.addr); err != nil {
			t.Fatal(err)
		}
		if _, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil {
			t.Fatal(err)
		}
	}
	for range 20_000 { // more than sockets hold
		process.say(strings.Repeat("x", 1000))
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_ = p.server.Close(ctx) // says that it cut some off
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestLookupTokens(t *testing.T) {
	const one, two = "lookup-token-number-1", "lookup-token-number-2"
	path := tokenFile(t, one+"\n\n"+two+"\n")
	p := serveFar(t, func(c *httpapi.Config) { c.LookupTokenFile, c.AdminTokenFile = path, tokenFile(t, goodToken) })
	with := func(token string) string { return "Authorization: Bearer " + token }
	for _, request := range []string{
		"GET /lookup?topic=t", "GET /topics", "GET /nodes", "GET /debug", "GET /v1/producers",
		"POST /topic/create?topic=t", "POST /channel/create?topic=t&channel=c", "POST /topic/tombstone?topic=t&node=n:1",
		"POST /channel/delete?topic=t&channel=c", "POST /topic/delete?topic=t",
	} {
		a := p.do(request)
		if a.status != 401 || a.header.Get("WWW-Authenticate") != `Bearer realm="lookupd"` || !contains(a.body, "UNAUTHORIZED") {
			t.Errorf("%s without a token: %d %s", request, a.status, a.body)
		}
		for _, bad := range []string{with(one[1:]), with(""), with(one + two), "Authorization: Basic " + one, "X-Token: " + one} {
			if a := p.do(request, bad); a.status != 401 {
				t.Errorf("%s with %q: %d", request, bad, a.status)
			}
		}
		for _, good := range []string{one, two, goodToken} {
			if a := p.do(request, with(good)); a.status != 200 && a.status != 404 {
				t.Errorf("%s with %q: %d %s", request, good, a.status, a.body)
			}
		}
	}
	for request, status := range map[string]int{
		"GET /ping": 200, "GET /info": 200, "GET /channels?topic=t": 200, "GET /livez": 200, "GET /readyz": 200, "GET /v1/status": 200, "GET /v1/check": 200,
	} {
		if a := p.do(request); a.status != status {
			t.Errorf("%s needs no token: %d %s", request, a.status, a.body)
		}
	}
	if a := p.do("GET /debug/pprof/cmdline", with(one)); a.status != 403 {
		t.Errorf("a token for lookups makes an admin: %d", a.status)
	}
	if a := serveOne(t, func(c *httpapi.Config) { c.LookupTokenFile = path }).do("GET /topics"); a.status != 200 {
		t.Errorf("an admin needs no token: %d", a.status)
	}
}

func TestLookupTokensChange(t *testing.T) {
	const one, two = "lookup-token-number-1", "lookup-token-number-2"
	path := tokenFile(t, one)
	p := serveFar(t, func(c *httpapi.Config) { c.LookupTokenFile = path })
	status := func(token string) int { return p.do("GET /topics", "Authorization: Bearer "+token).status }
	if status(one) != 200 || status(two) != 401 {
		t.Error("at first")
	}
	rewrite := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		p.clock.advance(2 * time.Second)
	}
	rewrite(one + "\n" + two)
	if status(one) != 200 || status(two) != 200 {
		t.Error("with both")
	}
	rewrite(two)
	if status(one) != 401 || status(two) != 200 {
		t.Error("with the new one")
	}
	rewrite("short")
	if status(two) != 200 || status("short") != 401 {
		t.Error("with a bad file")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	p.clock.advance(2 * time.Second)
	if status(two) != 200 || status("") != 401 {
		t.Error("without the file")
	}
}

func TestReadTokens(t *testing.T) {
	if all, err := httpapi.ReadTokens(tokenFile(t, " "+goodToken+"\r\n\n"+goodToken+"2")); err != nil || len(all) != 2 || string(all[0]) != goodToken {
		t.Errorf("%q %v", all, err)
	}
	for name, text := range map[string]string{
		"empty": "", "blank": "\n \n", "short": "short", "two words": goodToken + " x", "one short": goodToken + "\nshort",
		"too many": strings.Repeat(goodToken+"\n", 9), "long": strings.Repeat("x", 40_000),
	} {
		if _, err := httpapi.ReadTokens(tokenFile(t, text)); !errors.Is(err, httpapi.ErrBadToken) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
