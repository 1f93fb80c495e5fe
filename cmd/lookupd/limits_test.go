package main

import (
	"bytes"
	"context"
	"flag"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lookupd/lookupd/httpapi"
	"github.com/lookupd/lookupd/session"
	"github.com/lookupd/lookupd/tcpproto"
)

func TestLimitsAreTheDefaults(t *testing.T) {
	o, _, err := parse(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	l := o.limits
	if l.tcp != tcpproto.DefaultLimits() || l.http != httpapi.DefaultConfig().Limits || l.session != session.DefaultConfig().Limits {
		t.Errorf("%+v", l)
	}
	if l.tcpAnswer != session.DefaultConfig().AnswerWithin {
		t.Error(l.tcpAnswer)
	}
}

func TestLimitsFromEverywhere(t *testing.T) {
	file := writeFile(t, `
tcp_max_connections = 7
tcp_max_body_bytes = "32KiB"
http_max_body_bytes = 1000
http_idle_timeout = 1500
min_free_disk = "2GiB"
`)
	o, _, err := parse([]string{"-config", file, "-max-topics=5", "-max-registrations=6", "-unreachable-timeout=12s", "-max-bad-client-log-lines=3"},
		[]string{"LOOKUPD_PEER_MAX_HANDSHAKES=3", "LOOKUPD_TCP_MAX_CONNECTIONS=8"})
	if err != nil {
		t.Fatal(err)
	}
	l := o.limits
	if l.tcp.Connections != 8 || l.tcp.BodyBytes != 32<<10 || l.tcp.UserTimeout != 12*time.Second || l.tcp.LogLines != 3 {
		t.Errorf("tcp %+v", l.tcp)
	}
	if a := l.tcp.KeepAlive; a.Idle != 6*time.Second || a.Interval != 2*time.Second || a.Count != 3 || a != l.http.KeepAlive {
		t.Errorf("keep-alive %+v", a)
	}
	if l.http.BodyBytes != 1000 || l.http.IdleTimeout != 1500*time.Millisecond || l.http.Topics != 5 || l.http.Channels != 6 || l.http.LogLines != 3 {
		t.Errorf("http %+v", l.http)
	}
	if l.session.Topics != 5 || l.session.InAll != 6 || l.cluster.Peer.Handshakes != 3 || l.freeDisk != 2<<30 {
		t.Errorf("session %+v, cluster %+v, disk %d", l.session, l.cluster, l.freeDisk)
	}
}

// TestLimitsHaveRanges: no limit can be set so that nothing works or that there
// is none.
func TestLimitsHaveRanges(t *testing.T) {
	limitFlags(new(limits)).VisitAll(func(f *flag.Flag) {
		for _, value := range []string{"-1", "99999999999999999999", "x", "", "-5s", "9999999h", "99999999GiB"} {
			if _, _, err := parse([]string{"-" + f.Name + "=" + value}, nil); err == nil || !strings.Contains(err.Error(), f.Name) {
				t.Errorf("-%s=%s: %v", f.Name, value, err)
			}
		}
		if _, _, err := parse([]string{"-" + f.Name + "=" + f.DefValue}, nil); err != nil {
			t.Errorf("-%s=%s, its default: %v", f.Name, f.DefValue, err)
		}
		if strings.HasPrefix(f.Name, "port") || strings.HasPrefix(f.Name, "service-") {
			t.Errorf("-%s: Kubernetes sets such variables", f.Name)
		}
	})
	for _, c := range []struct{ flag, want string }{
		{"-tcp-max-connections=0", "tcp-max-connections: not from 1 to 1000000"},
		{"-tcp-max-line-bytes=1", "tcp-max-line-bytes: not from 160B to 1MiB"},
		{"-http-answer-timeout=1ms", "http-answer-timeout: not from 50ms to 1m0s"},
		{"-min-free-disk=1TB", "not a size such as"},
	} {
		var stderr bytes.Buffer
		if code := run([]string{c.flag}, nil, os.Stdout, &stderr); code != exitConfig || !strings.Contains(stderr.String(), c.want) {
			t.Errorf("%s: %d %s", c.flag, code, stderr.String())
		}
	}
}

// The help shows the common flags first, the limits in a
// part of their own.
func TestLimitsInTheHelp(t *testing.T) {
	var out bytes.Buffer
	if code := run([]string{"-help"}, nil, &out, os.Stderr); code != exitStopped {
		t.Fatalf("exit code %d", code)
	}
	common, limits, found := strings.Cut(out.String(), "Limits on clients")
	if !found || strings.Contains(common, "tcp-max-connections") || strings.Contains(limits, "  -data-path") {
		t.Error(out.String())
	}
	for _, want := range []string{"-tcp-max-connections number", "(default 64KiB)", "(default 2m0s)"} {
		if !strings.Contains(limits, want) {
			t.Errorf("%q is not in: %s", want, limits)
		}
	}
}

// TestLimitsAreDocumented: the operators' table has every limit with its default.
func TestLimitsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	limitFlags(new(limits)).VisitAll(func(f *flag.Flag) {
		row := "| `-" + f.Name + "` | " + f.DefValue + " |"
		if !slices.ContainsFunc(lines, func(line string) bool { return strings.HasPrefix(line, row) }) {
			t.Errorf("docs/operations.md has no row that begins with %s", row)
		}
	})
}

// TestFewFiles: clients never get the files that raft and the log need.
func TestFewFiles(t *testing.T) {
	for _, files := range []int{leastFiles, 200, 256, 1024, 10_000, 14_191} {
		o, _, err := parse(nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		l := o.limits
		if !l.fitFiles(files) {
			t.Errorf("%d files: nothing lowered", files)
		}
		tcp, http := l.tcp, l.http
		if sum := tcp.Connections + http.Connections; sum > files-reservedFiles || sum < (files-reservedFiles)*3/4 {
			t.Errorf("%d files: %d and %d connections", files, tcp.Connections, http.Connections)
		}
		if tcp.ConnectionsPerAddress < 1 || tcp.ConnectionsPerAddress > tcp.Connections/2 || http.ConnectionsPerAddress < 1 || http.ConnectionsPerAddress > http.Connections/2 {
			t.Errorf("%d files: %d and %d from one address", files, tcp.ConnectionsPerAddress, http.ConnectionsPerAddress)
		}
		if l.fitFiles(files) {
			t.Errorf("%d files: lowered twice", files)
		}
	}
	o, _, err := parse([]string{"-http-max-connections=1"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if o.limits.fitFiles(leastFiles); o.limits.http.Connections != 1 || o.limits.tcp.Connections != leastFiles-reservedFiles-1 {
		t.Errorf("%+v", o.limits)
	}
	if enough := o.limits; enough.fitFiles(1 << 20) {
		t.Error("lowered without need")
	}
}

func TestPressure(t *testing.T) {
	var logged bytes.Buffer
	p := newPressure(&options{dataPath: t.TempDir(), limits: limits{memory: 90, freeDisk: 1 << 60}}, slog.New(slog.NewTextHandler(&logged, nil)))
	p.mostMemory = 1
	p.measureDisk()
	p.measureMemory()
	if !p.DiskLow() || !p.MemoryHigh() {
		t.Errorf("disk low: %t, memory high: %t", p.DiskLow(), p.MemoryHigh())
	}
	p.minFreeDisk, p.mostMemory = 0, 1<<60
	p.measureDisk()
	p.measureMemory()
	if p.DiskLow() || p.MemoryHigh() {
		t.Errorf("later disk low: %t, memory high: %t", p.DiskLow(), p.MemoryHigh())
	}
	if n := strings.Count(logged.String(), "\n"); n != 4 {
		t.Errorf("%d lines: %s", n, logged.String())
	}
	if used := memoryUse().inUse; used < 100<<10 || used > 1<<30 {
		t.Errorf("%d bytes in use", used)
	}
}

func TestAfterCollections(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	called := make(chan struct{})
	afterCollections(ctx, func() { called <- struct{}{} })
	collect := func() bool {
		runtime.GC()
		select {
		case <-called:
			return true
		case <-time.After(10 * time.Millisecond):
			return false
		}
	}
	for range 3 {
		for !collect() { // the test's own deadline bounds it
		}
	}
	stop()
	after := 0
	for range 5 {
		if collect() {
			after++
		}
	}
	if after > 1 { // one may have been under way
		t.Errorf("called %d times after its end", after)
	}
}

func TestGOGCFor(t *testing.T) {
	const mb = 1 << 20
	for _, row := range []struct {
		live uint64
		want int
	}{{0, 800}, {4 * mb, 800}, {8 * mb, 400}, {20 * mb, 160}, {32 * mb, 100}, {40 * mb, 80}, {64 * mb, 50}, {300 * mb, 50}} {
		if got := gogcFor(row.live); got != row.want {
			t.Errorf("%d MiB in use: %d, want %d", row.live/mb, got, row.want)
		}
	}
	p := &pressure{gogc: defaultGOGC}
	before := debug.SetGCPercent(defaultGOGC)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	for _, row := range []struct {
		live uint64
		want int
	}{{20 * mb, 160}, {22 * mb, 160}, {32 * mb, 100}, {30 * mb, 100}} {
		if p.tuneCollector(row.live); p.gogc != row.want {
			t.Errorf("%d MiB in use: the collector was told %d, want %d", row.live/mb, p.gogc, row.want)
		}
	}
	told := &pressure{} // by the operator
	told.tuneCollector(20 * mb)
	if now := debug.SetGCPercent(defaultGOGC); now != defaultGOGC {
		t.Errorf("what the operator told the collector was changed to %d", now)
	}
}
