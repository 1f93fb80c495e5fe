package httpapi_test

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lookupd/lookupd/httpapi"
	"github.com/lookupd/lookupd/logring"
)

// fakeProcess has three settings, and a ring that holds 50 lines.
type fakeProcess struct{ ring *logring.Ring }

func newFakeProcess() fakeProcess { return fakeProcess{logring.New(50, 1<<20)} }

func (fakeProcess) Settings() []httpapi.Setting {
	return []httpapi.Setting{
		{Name: "admin-token-file", Value: "/etc/lookupd/token", Origin: "environment LOOKUPD_ADMIN_TOKEN_FILE"},
		{Name: "data-path", Value: "/data", Origin: "flag"},
		{Name: "log-level", Value: "info", Origin: "default"},
	}
}

func (fakeProcess) SetLogLevel(name, _ string) (string, error) {
	if name != "debug" {
		return "info", fmt.Errorf("%w %q", httpapi.ErrUnknownLevel, name)
	}
	return "info", nil
}

func (p fakeProcess) Log() *logring.Ring { return p.ring }

func (p fakeProcess) say(lines ...string) {
	for _, line := range lines {
		_, _ = p.ring.Write([]byte(line + "\n")) // never fails
	}
}

func withProcess(p fakeProcess) func(*httpapi.Config) {
	return func(c *httpapi.Config) { c.Process = p }
}

var processRequests = []string{"GET /v1/config", "PUT /v1/log-level?level=debug", "GET /v1/logs", "GET /v1/bundle"}

func TestProcessDocuments(t *testing.T) {
	p := serveOne(t, withProcess(newFakeProcess()))
	for name, request := range map[string]string{"config": "GET /v1/config", "log_level": "PUT /v1/log-level?level=debug"} {
		a := p.do(request)
		if a.status != 200 || a.header.Get("Content-Type") != jsonType {
			t.Fatalf("%d %v %s", a.status, a.header, a.body)
		}
		golden(t, name, a.body)
	}
}

func TestProcessIsForAdmins(t *testing.T) {
	far := serveFar(t, withProcess(newFakeProcess()))
	for _, request := range processRequests {
		if a := far.do(request); a.status != 403 || !contains(a.body, `"code":"FORBIDDEN"`) {
			t.Errorf("%s: %d %s", request, a.status, a.body)
		}
	}
	if a := serveOne(t).do("GET /v1/config"); a.status != 404 {
		t.Errorf("without a process to look into: %d %s", a.status, a.body)
	}
	var logged lockedBuffer
	p := serveOne(t, withProcess(newFakeProcess()), func(c *httpapi.Config) { c.Logger = slog.New(slog.NewTextHandler(&logged, nil)) })
	for _, request := range processRequests {
		p.do(request)
		if _, target, _ := strings.Cut(request, " "); strings.Count(logged.String(), target+" ")+strings.Count(logged.String(), `"`+target+`"`) != 1 {
			t.Errorf("%s is not logged once:\n%s", request, logged.String())
		}
	}
}

func TestBadProcessRequests(t *testing.T) {
	p := serveOne(t, withProcess(newFakeProcess()))
	for request, want := range map[string]string{
		"PUT /v1/log-level":              "400 INVALID_ARG_LEVEL",
		"PUT /v1/log-level?level=loud":   "400 INVALID_ARG_LEVEL",
		"PUT /v1/log-level?level=%zz":    "400 INVALID_REQUEST",
		"GET /v1/log-level":              "405 METHOD_NOT_ALLOWED",
		"POST /v1/config":                "405 METHOD_NOT_ALLOWED",
		"POST /v1/bundle":                "405 METHOD_NOT_ALLOWED",
		"GET /v1/logs?lines=-1":          "400 INVALID_ARG_LINES",
		"GET /v1/logs?lines=10001":       "400 INVALID_ARG_LINES",
		"GET /v1/logs?lines=x":           "400 INVALID_ARG_LINES",
		"GET /v1/logs?lines=99999999999": "400 INVALID_ARG_LINES",
		"GET /v1/logs?follow=%zz":        "400 INVALID_REQUEST",
		"GET /v1/logs?follow=maybe":      "400 INVALID_REQUEST",
	} {
		status, code, _ := strings.Cut(want, " ")
		if a := p.do(request); fmt.Sprint(a.status) != status || !contains(a.body, `"code":"`+code+`"`) {
			t.Errorf("%s: %d %s, want %s", request, a.status, a.body, want)
		}
	}
	if a := p.do("GET /v1/logs?lines=x"); !contains(a.body, `"message":"\"x\" is not from 0 to 10000"`) {
		t.Errorf("the message says its code again: %s", a.body)
	}
	if a := p.do("PUT /v1/log-level?level=debug", "Origin: http://evil.example"); a.status != 403 {
		t.Errorf("from another site: %d %s", a.status, a.body)
	}
}

func TestLogs(t *testing.T) {
	process := newFakeProcess()
	p := serveOne(t, withProcess(process))
	process.say("one", "two", "three")
	for request, want := range map[string]string{
		"GET /v1/logs": "one\ntwo\nthree\n", "GET /v1/logs?lines=2": "two\nthree\n", "GET /v1/logs?lines=0": "",
		"GET /v1/logs?lines=1&follow=false": "three\n",
	} {
		if a := p.do(request); a.status != 200 || a.body != want || a.header.Get("Content-Type") != "text/plain; charset=utf-8" {
			t.Errorf("%s: %d %q %v", request, a.status, a.body, a.header)
		}
	}
}

// following reads the log of p line by line until the test ends.
func following(t *testing.T, p *peer, query string) *bufio.Reader {
	t.Helper()
	conn := p.dial()
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := fmt.Fprintf(conn, "GET /v1/logs?follow%s HTTP/1.1\r\nHost: %s\r\n\r\n", query, p.addr); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatal(err, response)
	}
	return bufio.NewReader(response.Body)
}

func nextLine(t *testing.T, r *bufio.Reader, want string) {
	t.Helper()
	if line, err := r.ReadString('\n'); err != nil || line != want+"\n" {
		t.Fatalf("%q %v, want %q", line, err, want)
	}
}

func TestFollowTheLog(t *testing.T) {
	process := newFakeProcess()
	p := serveOne(t, withProcess(process))
	process.say("before", "last")
	r := following(t, p, "&lines=1")
	nextLine(t, r, "last")
	process.say("then")
	nextLine(t, r, "then")
	process.say("and", "on")
	nextLine(t, r, "and")
	nextLine(t, r, "on")
	for range 7 { // eight in all
		following(t, p, "")
	}
	if a := p.do("GET /v1/logs?follow"); a.status != 503 || !contains(a.body, "OVERLOADED") {
		t.Errorf("one too many: %d %s", a.status, a.body)
	}
	if a := p.do("GET /v1/logs"); a.status != 200 {
		t.Errorf("who does not follow: %d %s", a.status, a.body)
	}
}

// TestSlowFollowerLosesLines: nobody waits for it, and it is told.
func TestSlowFollowerLosesLines(t *testing.T) {
	process := newFakeProcess()
	p := serveOne(t, withProcess(process))
	r := following(t, p, "&lines=0")
	const count = 50_000
	long := strings.Repeat("x", 1000)
	began := time.Now()
	for i := range count { // some 50 MB, which no socket holds
		process.say(fmt.Sprint(long, " ", i))
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the log waited %v for a reader", took)
	}
	lost, got := 0, 0
	for last := ""; !strings.HasSuffix(last, fmt.Sprintln(count-1)); got++ {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("%v after %q", err, last)
		}
		var n int
		if _, err := fmt.Sscanf(line, "... %d lines are lost", &n); err == nil {
			lost += n
			got--
		}
		last = line
	}
	if lost == 0 || lost+got != count {
		t.Errorf("%d lines came and %d are told to be lost, of %d", got, lost, count)
	}
}

// TestCloseEndsFollowers: they would go on for ever.
func TestCloseEndsFollowers(t *testing.T) {
	process := newFakeProcess()
	p := serveOne(t, withProcess(process))
	process.say("one")
	r := following(t, p, "")
	nextLine(t, r, "one")
	if err := p.server.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ReadString('\n'); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
}

// unpack returns the files of a bundle, by name without the folder.
func unpack(t *testing.T, body string) map[string]string {
	t.Helper()
	zipped, err := gzip.NewReader(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for archive := tar.NewReader(zipped); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(archive)
		if err != nil || header.Mode != 0o600 {
			t.Fatal(err, header)
		}
		files[strings.TrimPrefix(header.Name, "lookupd-a/")] = string(content)
	}
}

func TestBundle(t *testing.T) {
	process := newFakeProcess()
	n := newFakeCluster(t, "a").peers[0]
	p := serve(t, n, withProcess(process), func(c *httpapi.Config) {
		c.AdminTokenFile = tokenFile(t, goodToken)
		c.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "lookupd_topics 1\n") })
	})
	n.status = healthy(p.addr)
	process.say("what happened")
	a := p.do("GET /v1/bundle", "Authorization: Bearer "+goodToken)
	if a.status != 200 || a.header.Get("Content-Type") != "application/gzip" {
		t.Fatalf("%d %v", a.status, a.header)
	}
	files := unpack(t, a.body)
	for name, want := range map[string]string{
		"status.json": `"sentence": "Healthy."`, "check.json": `"findings"`, "autopilot.json": `"settings"`, "config.json": `"/etc/lookupd/token"`,
		"metrics.txt": "lookupd_topics 1", "goroutines.txt": "goroutine profile: total", "heap.pprof": "\x1f\x8b", "log.txt": "what happened\n",
	} {
		if !contains(files[name], want) {
			t.Errorf("%s lacks %q: %.200q", name, want, files[name])
		}
	}
	for name, content := range files {
		if contains(content, goodToken) {
			t.Errorf("%s holds the token", name)
		}
	}
	if len(files) != 8 {
		t.Errorf("%d files", len(files))
	}
}

// TestBundleOfAnAilingPeer: what cannot be had is named, the rest comes.
func TestBundleOfAnAilingPeer(t *testing.T) {
	n := newFakeCluster(t, "a").peers[0]
	n.fail = errors.New("out of order")
	files := unpack(t, serve(t, n, withProcess(newFakeProcess())).do("GET /v1/bundle").body)
	if !contains(files["errors.txt"], "status.json: out of order") || files["config.json"] == "" {
		t.Errorf("%q", files)
	}
}
