package httpapi_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lookupd/lookupd/httpapi"
)

const goodToken = "0123456789abcdef-token"

func tokenFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAdminToken(t *testing.T) {
	path := tokenFile(t, goodToken+"\n")
	p := serveFar(t, func(c *httpapi.Config) { c.AdminTokenFile = path })
	for name, test := range map[string]struct {
		headers []string
		status  int
	}{
		"none":                    {nil, 403},
		"right":                   {[]string{"Authorization: Bearer " + goodToken}, 200},
		"other case of the word":  {[]string{"Authorization: bearer " + goodToken}, 200},
		"right, by a name":        {[]string{"Authorization: Bearer " + goodToken, "Host: anything.example"}, 200},
		"wrong":                   {[]string{"Authorization: Bearer " + goodToken[1:]}, 403},
		"empty":                   {[]string{"Authorization: Bearer "}, 403},
		"another scheme":          {[]string{"Authorization: Basic " + goodToken}, 403},
		"right, from a page":      {[]string{"Authorization: Bearer " + goodToken, "Origin: http://evil.example"}, 200}, // GET changes nothing
		"in the wrong header":     {[]string{"X-Token: " + goodToken}, 403},
		"a header of two schemes": {[]string{"Authorization: Bearer Bearer " + goodToken}, 403},
	} {
		t.Run(name, func(t *testing.T) {
			if a := p.do("GET /debug/pprof/cmdline", test.headers...); a.status != test.status {
				t.Errorf("%d %s, want %d", a.status, a.body, test.status)
			}
		})
	}
	if err := os.WriteFile(path, []byte("another-0123456789abcdef"), 0o600); err != nil {
		t.Fatal(err)
	}
	if a := p.do("GET /debug/pprof/cmdline", "Authorization: Bearer "+goodToken); a.status != 403 {
		t.Errorf("the old token after a change: %d", a.status)
	}
	if a := p.do("GET /debug/pprof/cmdline", "Authorization: Bearer another-0123456789abcdef"); a.status != 200 {
		t.Errorf("the new token: %d", a.status)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if a := p.do("GET /debug/pprof/cmdline", "Authorization: Bearer another-0123456789abcdef"); a.status != 403 {
		t.Errorf("without the file: %d", a.status)
	}
}

// A proxy on the peer's own host calls from loopback, and by an address, for
// whoever calls it.
func TestAProxyIsNoAdmin(t *testing.T) {
	p := serveOne(t, func(c *httpapi.Config) { c.AdminTokenFile = tokenFile(t, goodToken) })
	for _, header := range []string{
		"X-Forwarded-For: 192.0.2.1", "x-real-ip: 192.0.2.1", "Forwarded: for=192.0.2.1", "Via: 1.1 proxy", "X-Forwarded-For:",
	} {
		for _, request := range []string{"GET /debug/pprof/cmdline", "DELETE /v1/peers/a", "POST /v1/import"} {
			if a := p.do(request, header); a.status != 403 || !contains(a.body, "FORBIDDEN") {
				t.Errorf("%s %s: %d %s", header, request, a.status, a.body)
			}
		}
		if a := p.do("GET /debug/pprof/cmdline", header, "Authorization: Bearer "+goodToken); a.status != 200 {
			t.Errorf("%s, with the token: %d %s", header, a.status, a.body)
		}
		if a := p.do("GET /topics", header); a.status != 200 {
			t.Errorf("%s, no admin route: %d %s", header, a.status, a.body)
		}
	}
}

func TestReadToken(t *testing.T) {
	if token, err := httpapi.ReadToken(tokenFile(t, "  "+goodToken+"\r\n")); err != nil || string(token) != goodToken {
		t.Errorf("%q %v", token, err)
	}
	for name, text := range map[string]string{
		"empty": "", "white space": " \n\n", "short": "0123456789abcde", "two words": goodToken + " " + goodToken,
		"control character": goodToken + "\x00" + goodToken, "not ASCII": goodToken + "ü", "long": strings.Repeat("x", 4097),
	} {
		if _, err := httpapi.ReadToken(tokenFile(t, text)); !errors.Is(err, httpapi.ErrBadToken) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := httpapi.ReadToken(filepath.Join(t.TempDir(), "nothing")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// TestAdminCallsAreLoggedOnce: by what right, whence, what and how it ended; and
// never the token.
func TestAdminCallsAreLoggedOnce(t *testing.T) {
	var logged lockedBuffer
	p := serveOne(t, func(c *httpapi.Config) {
		c.Logger = slog.New(slog.NewTextHandler(&logged, nil))
		c.AdminTokenFile = tokenFile(t, goodToken)
	})
	p.do("GET /debug/pprof/cmdline")
	p.do("GET /debug/pprof/cmdline", "Authorization: Bearer "+goodToken)
	text := logged.String()
	for _, want := range []string{"by=network remote=127.0.0.1:", "by=token remote=127.0.0.1:", "uri=/debug/pprof/cmdline", "status=200"} {
		if !contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if n := strings.Count(text, "admin request"); n != 2 {
		t.Errorf("%d lines on 2 calls:\n%s", n, text)
	}
	if contains(text, goodToken) {
		t.Errorf("the token is in the log:\n%s", text)
	}
}

// TestAdminCallsThatAreCutOffAreLogged: whoever reads a snapshot or a bundle but
// for its end has it all the same.
func TestAdminCallsThatAreCutOffAreLogged(t *testing.T) {
	var logged lockedBuffer
	p := serveOne(t, withProcess(newFakeProcess()), func(c *httpapi.Config) {
		c.Logger = slog.New(slog.NewTextHandler(&logged, nil))
		c.Metrics = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	})
	conn := p.dial()
	defer conn.Close()
	fmt.Fprintf(conn, "GET /v1/bundle HTTP/1.1\r\nHost: %s\r\n\r\n", p.addr)
	readAll(t, conn)
	if text := logged.String(); strings.Count(text, `msg="admin request"`) != 1 || !contains(text, "cut_off=true") {
		t.Errorf("no line on a call that was cut off:\n%s", text)
	}
}
