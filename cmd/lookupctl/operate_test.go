package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lookupd/lookupd/cmd/internal/build"
	"github.com/lookupd/lookupd/httpapi"
)

// bundle is a tar.gz with one file.
func bundle(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	zipped := gzip.NewWriter(&b)
	archive := tar.NewWriter(zipped)
	content := bytes.Repeat([]byte("what ails it\n"), 1000)
	if err := archive.WriteHeader(&tar.Header{Name: "lookupd-a/log.txt", Size: int64(len(content)), Mode: 0o600}); err != nil {
		t.Fatal(err)
	}
	if _, err := archive.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zipped.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// looked is a peer that can be looked into.
func looked(t *testing.T) *fakePeer {
	t.Helper()
	return newFakePeer(t, map[string]any{
		"GET /v1/status": degraded(),
		"GET /v1/config": httpapi.Settings{SeenBy: "a", Version: "0.1.0", Settings: []httpapi.Setting{
			{Name: "data-path", Value: "/data", Origin: "flag"}, {Name: "log-level", Value: "info", Origin: "default"},
		}},
		"PUT /v1/log-level?level=debug": httpapi.LogLevel{Level: "debug", Before: "info"},
		"PUT /v1/log-level?level=loud":  http.StatusBadRequest,
		"GET /v1/logs?lines=100":        []byte("one\ntwo\n"),
		"GET /v1/logs?lines=1":          []byte("two\n"),
		"GET /v1/logs?follow=&lines=5":  []byte("one\nlast\n"),
		"GET /v1/bundle":                bundle(t),
	})
}

func TestLookingIntoAPeer(t *testing.T) {
	for _, test := range []struct {
		args string
		code int
		out  string
	}{
		{"config show", 0, "a, version 0.1.0\nSETTING    VALUE  ORIGIN\ndata-path  /data  flag\n"},
		{"config show -o csv", 0, "SETTING,VALUE,ORIGIN\ndata-path,/data,flag\n"},
		{"config show log_level -o csv", 0, "SETTING,VALUE,ORIGIN\nlog-level,info,default\n"},
		{"config show -o json", 0, `"origin":"flag"`},
		{"config show data-path -o json", 0, `[{"name":"data-path","value":"/data","origin":"flag"}]`},
		{"config show data-dir", 1, `has no setting "data-dir"`},
		{"config", 0, "Shows the settings of a peer"},
		{"log-level", 0, "info"},
		{"log-level debug", 0, "logs from debug on, before from info on"},
		{"log-level debug -o json", 0, `"before":"info"`},
		{"log-level loud", 1, "WOULD_LOSE_QUORUM"}, // what the fake fails with
		{"log-level debug info", 2, "one LEVEL at most"},
		{"logs", 0, "one\ntwo\n"},
		{"monitor", 0, "one\ntwo\n"},
		{"logs -n 1", 0, "two\n"},
		{"logs -f -n 5", 1, "one\nlast\nlookupctl: ADDRESS has ended the log: it stops\n"},
		{"logs x", 2, "unknown command"},
		{"version", 0, "lookupctl " + build.Version},
		{"version", 0, "b     0.1.0"},
		{"version --client", 0, "lookupctl " + build.Version},
		{"-version", 0, "lookupctl version " + build.Version},
		{"version -o json", 0, `"peers":[{"name":"a","version":"0.1.0"}`},
		{"debug a b", 2, "one FILE at most"},
		{"operator autopilot set-config", 2, "these are flags of lookupd"},
		{"defrag", 2, "nothing needs it"},
		{"config validate", 2, "wants FILE"},
		{"config validate -insecure", 2, "wants FILE"},
		{"config validate --help", 0, "Says all that is wrong with a file"},
	} {
		t.Run(test.args, func(t *testing.T) {
			p := looked(t)
			code, out, talk := call(t, map[string]string{"LOOKUPD_ADDR": p.address}, strings.Fields(test.args)...)
			printed := strings.ReplaceAll(out+talk, p.address, "ADDRESS")
			if code != test.code || !strings.Contains(printed, test.out) {
				t.Errorf("exit code %d, want %d:\n%s\nwant %s", code, test.code, printed, test.out)
			}
		})
	}
	if code, out, _ := call(t, nil, "version", "-a", nobody(t)); code != exitFailed || !strings.Contains(out, build.Version) {
		t.Errorf("without a peer: exit code %d, %s", code, out)
	}
}

// TestRefusedLogsAreAskedForOnce: what one peer refuses, the next would refuse too.
func TestRefusedLogsAreAskedForOnce(t *testing.T) {
	first, second := looked(t), looked(t)
	first.answers["GET /v1/logs?lines=-3"] = http.StatusBadRequest
	code, _, talk := call(t, nil, "logs", "-n=-3", "-a", first.address, "-a", second.address)
	if code != exitFailed || strings.Count(talk, "WOULD_LOSE_QUORUM") != 1 || len(second.asked) > 0 { // what the fake fails with
		t.Errorf("exit code %d: %s; the second was asked %v", code, talk, second.asked)
	}
	first.answers["GET /v1/logs?lines=100"] = http.StatusServiceUnavailable
	if code, out, talk := call(t, nil, "logs", "-a", first.address, "-a", second.address); code != exitOK || out != "one\ntwo\n" {
		t.Errorf("after one that is not well: exit code %d: %s%s", code, out, talk)
	}
}

func TestDebugSavesABundle(t *testing.T) {
	p := looked(t)
	path := filepath.Join(t.TempDir(), "bundle.tar.gz")
	if code, _, talk := call(t, nil, "debug", path, "-a", p.address); code != exitOK || !strings.Contains(talk, "Saved "+path) {
		t.Fatalf("exit code %d: %s", code, talk)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", err, info)
	}
	if content, err := os.ReadFile(path); err != nil || !bytes.Equal(content, p.answers["GET /v1/bundle"].([]byte)) {
		t.Errorf("%v, %d bytes", err, len(content))
	}
	if code, _, talk := call(t, nil, "debug", path, "-a", p.address); code != exitUsage || !strings.Contains(talk, "--yes replaces it") {
		t.Errorf("over a file: exit code %d: %s", code, talk)
	}
	if code, _, talk := call(t, nil, "debug", path, "-y", "-a", p.address); code != exitOK {
		t.Errorf("with -y: exit code %d: %s", code, talk)
	}
	if code, _, talk := call(t, nil, "debug", filepath.Dir(path), "-y", "-a", p.address); code != exitFailed {
		t.Errorf("over a directory: exit code %d: %s", code, talk)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(filepath.Dir(path)), ".*")); err != nil || len(left) > 0 {
		t.Errorf("over a directory: %v is left, %v", left, err)
	}
	whole := p.answers["GET /v1/bundle"].([]byte)
	for name, bad := range map[string][]byte{"cut": whole[:len(whole)-9], "empty": {}, "no bundle": []byte("hello")} {
		p.answers["GET /v1/bundle"] = bad
		gone := filepath.Join(t.TempDir(), "bad.tar.gz")
		if code, _, talk := call(t, nil, "debug", gone, "-a", p.address); code != exitFailed {
			t.Errorf("%s: exit code %d: %s", name, code, talk)
		}
		if left, err := os.ReadDir(filepath.Dir(gone)); err != nil || len(left) > 0 {
			t.Errorf("%s: %v is left, %v", name, left, err)
		}
	}
}

// TestValidateAsksLookupd: a lookupd that only tells how it was started is enough
// here; the real one is asked in e2e.
func TestValidateAsksLookupd(t *testing.T) {
	dir := t.TempDir()
	script := "#!/bin/sh\necho \"lookupd: $*, expect=$LOOKUPD_BOOTSTRAP_EXPECT\" >&2\ncase \"$3\" in *bad*) exit 2;; esac\n"
	if err := os.WriteFile(filepath.Join(dir, "lookupd"), []byte(script), 0o700); err != nil { //nolint:gosec // it must run
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv("LOOKUPD_BOOTSTRAP_EXPECT", "3")
	code, out, talk := call(t, nil, "config", "validate", "good.toml", "-insecure")
	if code != exitOK || out != "good.toml is good.\n" || talk != "lookupd: -check-config -config good.toml --insecure, expect=\n" {
		t.Errorf("exit code %d: %q %q", code, out, talk)
	}
	if code, out, talk := call(t, nil, "config", "validate", "bad.toml"); code != exitFailed || out != "" || !strings.Contains(talk, "bad.toml") {
		t.Errorf("exit code %d: %q %q", code, out, talk)
	}
	t.Setenv("PATH", t.TempDir())
	if code, _, talk := call(t, nil, "config", "validate", "good.toml"); code != exitFailed || !strings.Contains(talk, "neither next to lookupctl nor on PATH") {
		t.Errorf("exit code %d: %q", code, talk)
	}
}

func TestManual(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "man")
	if code, _, talk := call(t, nil, "man", dir); code != exitOK {
		t.Fatal(talk)
	}
	page, err := os.ReadFile(filepath.Join(dir, "lookupctl-snapshot-restore.1"))
	if err != nil || !bytes.Contains(page, []byte(`.TH "LOOKUPCTL" "1"`)) || !bytes.Contains(page, []byte("also delete what the file lacks")) {
		t.Errorf("%v: %s", err, page)
	}
	if _, err := os.Stat(filepath.Join(dir, "lookupctl-members.1")); err == nil {
		t.Error("there is a page for a hidden word")
	}
	if code, _, talk := call(t, nil, "man", "--markdown", dir); code != exitOK {
		t.Fatal(talk)
	}
	if _, err := os.Stat(filepath.Join(dir, "lookupctl_status.md")); err != nil {
		t.Error(err)
	}
}

// watched runs a command line until it has asked a peer so many times.
func watched(t *testing.T, s streams, times int, args ...string) (code int, out string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked++; asked > times {
			cancel()
		}
		if asked == 2 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintf(w, `{"topics":["t%d"]}`, asked)
	}))
	defer server.Close()
	var stdout, stderr bytes.Buffer
	s.out, s.err = &stdout, &stderr
	code = run(ctx, append(args, "-a", server.Listener.Addr().String()), s, func(string) string { return "" })
	return code, stdout.String() + stderr.String()
}

func TestWatch(t *testing.T) {
	code, out := watched(t, streams{}, 3, "topics", "--watch=100ms", "-o", "name")
	if code != exitOK || !strings.HasPrefix(out, "t1\nlookupctl: ") || !strings.HasSuffix(out, "answered 503\nt3\n") {
		t.Errorf("exit code %d: %q", code, out)
	}
	code, out = watched(t, streams{outTerminal: true}, 1, "topics", "-watch=100ms", "-o", "name")
	if code != exitOK || !strings.HasPrefix(out, "\x1b[H\x1b[2J") || !strings.HasSuffix(out, ", every 100ms\n\nt1\n") {
		t.Errorf("exit code %d: %q", code, out)
	}
	for _, bad := range []string{"--watch=1ms", "--watch=-1s", "--watch=soon"} {
		if code, _, talk := call(t, nil, "topics", bad); code != exitUsage {
			t.Errorf("%s: exit code %d: %s", bad, code, talk)
		}
	}
	for _, command := range []string{"status", "check", "peers", "topics", "channels", "producers", "lookup"} {
		if code, out, _ := call(t, nil, command, "--help"); code != exitOK || !strings.Contains(out, "--watch duration[=2s]") {
			t.Errorf("%s cannot be watched: %s", command, out)
		}
	}
}

// TestColours: only where a terminal shows them, and nobody has said otherwise.
func TestColours(t *testing.T) {
	p := newFakePeer(t, map[string]any{"GET /v1/status": degraded()})
	terminal := streams{outTerminal: true}
	for _, test := range []struct {
		s      streams
		env    map[string]string
		more   []string
		colour bool
	}{
		{terminal, nil, nil, true},
		{terminal, nil, []string{"-o", "wide"}, true},
		{streams{}, nil, nil, false},
		{terminal, map[string]string{"NO_COLOR": "1"}, nil, false},
		{terminal, nil, []string{"--no-color"}, false},
		{terminal, nil, []string{"-o", "csv"}, false},
		{terminal, nil, []string{"-o", "json"}, false},
	} {
		_, out, _ := callWith(t, test.s, test.env, append([]string{"status", "-a", p.address}, test.more...)...)
		if strings.Contains(out, "\x1b[31mdown\x1b[0m") != test.colour || !test.colour && strings.Contains(out, "\x1b") {
			t.Errorf("%+v: %q", test, out)
		}
	}
}

// TestProgress: only a terminal is told how far a transfer is.
func TestProgress(t *testing.T) {
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		whole := bundle(t)
		half := len(whole) / 2
		_, _ = w.Write(whole[:half])
		w.(http.Flusher).Flush()
		time.Sleep(2 * sayEvery)
		_, _ = w.Write(whole[half:])
	}))
	defer slow.Close()
	address := slow.Listener.Addr().String()
	_, _, talk := callWith(t, streams{errTerminal: true}, nil, "debug", filepath.Join(t.TempDir(), "b"), "-a", address)
	if !strings.Contains(talk, "\rReceived 0.0 MiB") || !strings.Contains(talk, clearLine+"Saved ") {
		t.Errorf("a terminal sees %q", talk)
	}
	_, _, talk = call(t, nil, "debug", filepath.Join(t.TempDir(), "b"), "-a", address)
	if strings.ContainsAny(talk, "\r\x1b") {
		t.Errorf("a file gets %q", talk)
	}
}

// TestCompletionIsQuick: a peer that does not answer costs no more than the
// finger on the key bears.
func TestCompletionIsQuick(t *testing.T) {
	hanging := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hanging }))
	defer server.Close()
	defer close(hanging)
	began := time.Now()
	env := map[string]string{"LOOKUPD_ADDR": server.Listener.Addr().String()}
	if code, out, _ := call(t, env, "__complete", "lookup", ""); code != exitOK || strings.Contains(out, "orders") {
		t.Errorf("exit code %d: %s", code, out)
	}
	if took := time.Since(began); took < completeWithin || took > 5*completeWithin {
		t.Errorf("%v", took)
	}
	p := operated(t)
	p.answers["GET /topics?consistency=stale"] = p.answers["GET /topics"]
	p.answers["GET /channels?consistency=stale&topic=orders"] = p.answers["GET /channels?topic=orders"]
	p.answers["GET /lookup?consistency=stale&topic=orders"] = p.answers["GET /lookup?topic=orders"]
	env["LOOKUPD_ADDR"] = p.address
	for args, want := range map[string][]string{
		"lookup ": {"orders", "payments"}, "peer remove ": {"a", "b", "c"}, "log-level ": logLevels,
		"channel delete ": {"orders", "payments"}, "channel delete orders ": {"c1", "c2"}, "channel delete unknown ": nil,
		"topic tombstone orders ": {"n1:4151"}, "topic tombstone orders n2": nil,
		"topic delete orders ": nil, "channel delete orders c1 ": nil, "lookup orders ": nil,
	} {
		_, out, _ := call(t, env, append([]string{"__complete"}, strings.Split(args, " ")...)...)
		names, _, _ := strings.Cut(out, ":4\n") // cobra's word that names of files do not fit
		if got := strings.Fields(names); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", args, got, want)
		}
	}
}
