package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/supervisor"
)

// The tests are inside the package because a main package has no outside.

// call runs a command line and returns its exit code and output.
func call(t *testing.T, env map[string]string, args ...string) (code int, out, talk string) {
	t.Helper()
	return callWith(t, streams{}, env, args...)
}

// answering is call by somebody at a terminal who types text.
func answering(t *testing.T, text string, args ...string) (code int, out, talk string) {
	t.Helper()
	return callWith(t, streams{in: strings.NewReader(text), interactive: true}, nil, args...)
}

func callWith(t *testing.T, s streams, env map[string]string, args ...string) (code int, out, talk string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	s.out, s.err = &stdout, &stderr
	code = run(context.Background(), args, s, func(key string) string { return env[key] })
	return code, stdout.String(), stderr.String()
}

// peer answers each path with a status and a body.
func peer(t *testing.T, status int, answers map[string]any) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, ok := answers[r.URL.RequestURI()]
		if !ok {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		if strings.Contains(r.URL.RawQuery, "stale") {
			w.Header().Set("X-Lookupd-Stale-Ms", "120")
		}
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(body)
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// nobody is an address at which nothing listens.
func nobody(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func degraded() cluster.Status {
	return cluster.Status{
		Sentence: "Degraded. 2 of 3 peers up; cannot lose another.", State: cluster.StateDegraded,
		SeenBy: "c", Leader: "c", Term: 3, Index: 57,
		Counts: registry.Counts{Topics: 214, Producers: 1},
		Peers: []cluster.PeerStatus{
			{Name: "a", ID: "a-00000001", Role: cluster.RoleVoter, Health: cluster.HealthDown, LastContactMS: 12345, Version: "0.1.0"},
			{Name: "b", ID: "b-00000001", Role: cluster.RoleVoter, Health: cluster.HealthOK, Lag: 2, LastContactMS: 21, Version: "0.1.0", Sessions: 41},
			{Name: "c", ID: "c-00000001", Role: cluster.RoleLeader, Health: cluster.HealthOK, LastContactMS: 0, Version: "0.1.0"},
		},
	}
}

func TestStatusTable(t *testing.T) {
	address := peer(t, 200, map[string]any{"/v1/status": degraded()})
	code, out, talk := call(t, nil, "status", "-address", address)
	if code != exitUnhealthy || talk != "" {
		t.Errorf("exit code %d, stderr %q; want %d and silence", code, talk, exitUnhealthy)
	}
	lines := strings.Split(out, "\n")
	want := []string{
		"Degraded. 2 of 3 peers up; cannot lose another.   leader c (term 3)   index 57   1 producer, 214 topics",
		"NAME ROLE HEALTH LAG LAST CONTACT VERSION SESSIONS",
		"a voter down - 12s ago 0.1.0 0 -> restart it, or: lookupctl peer remove a",
		"b voter ok 2 21ms 0.1.0 41",
		"c leader ok 0 - 0.1.0 0",
	}
	for i, line := range want {
		if i >= len(lines) {
			t.Fatalf("only %d lines:\n%s", len(lines), out)
		}
		got := lines[i]
		if i > 0 { // the sentence is as it stands, columns are padded
			got = strings.Join(strings.Fields(got), " ")
		}
		if got != line {
			t.Errorf("line %d: %q, want %q", i, got, line)
		}
	}
}

// TestStatusNamesWhoIsUpgradedNext: one after the other, the leader last, and
// nobody while one is down or none may be missed.
func TestStatusNamesWhoIsUpgradedNext(t *testing.T) {
	const old, fresh = "0.1.0", "0.2.0"
	for name, test := range map[string]struct {
		versions  [3]string // of a, b and c, which leads
		latest    int       // who was started last
		tolerance int
		state     cluster.State
		want      string
	}{
		"one version":     {[3]string{old, old, old}, 1, 1, cluster.StateHealthy, ""},
		"b is done":       {[3]string{old, fresh, old}, 1, 1, cluster.StateHealthy, "a"},
		"a and b are":     {[3]string{fresh, fresh, old}, 0, 1, cluster.StateHealthy, "c"},
		"back again":      {[3]string{fresh, old, fresh}, 1, 1, cluster.StateHealthy, "a"},
		"none may go":     {[3]string{old, fresh, old}, 1, 0, cluster.StateHealthy, ""},
		"another is down": {[3]string{old, fresh, old}, 1, 1, cluster.StateDegraded, ""},
	} {
		s := degraded()
		s.State, s.Tolerance = test.state, test.tolerance
		for i := range s.Peers {
			s.Peers[i].Version, s.Peers[i].Health, s.Peers[i].UptimeMS = test.versions[i], cluster.HealthOK, 1_000_000
		}
		s.Peers[test.latest].UptimeMS = 5_000
		_, out, _ := call(t, nil, "status", "-a", peer(t, 200, map[string]any{"/v1/status": s}))
		var named string
		for line := range strings.Lines(out) {
			if strings.Contains(line, "-> upgrade it next") {
				named += strings.Fields(line)[0]
			}
		}
		if named != test.want {
			t.Errorf("%s: %q is named, want %q:\n%s", name, named, test.want, out)
		}
	}
}

func TestStatusShowsIDsOfTwins(t *testing.T) {
	s := degraded()
	s.Peers[1].Name = "a"
	address := peer(t, 200, map[string]any{"/v1/status": s})
	if _, out, _ := call(t, nil, "status", "-a", address); !strings.Contains(out, "a-00000001") || !strings.Contains(out, "b-00000001") {
		t.Errorf("two peers called a are not told apart:\n%s", out)
	}
}

func TestExitCodes(t *testing.T) {
	status := func(state cluster.State) string {
		return peer(t, 200, map[string]any{"/v1/status": cluster.Status{State: state}})
	}
	found := map[string]any{"channels": []string{}, "producers": []string{}}
	for _, test := range []struct {
		name string
		args []string
		want int
	}{
		{"healthy", []string{"status", "-a", status(cluster.StateHealthy)}, exitOK},
		{"starting", []string{"status", "-a", status(cluster.StateStarting)}, exitUnhealthy},
		{"no quorum", []string{"status", "-a", status(cluster.StateNoQuorum)}, exitNoQuorum},
		{"no quorum, JSON", []string{"status", "-o", "json", "-a", status(cluster.StateNoQuorum)}, exitNoQuorum},
		{"nobody answers", []string{"status", "-a", nobody(t)}, exitFailed},
		{"ready", []string{"status", "--local", "-q", "-a", peer(t, 200, map[string]any{"/readyz": "ok"})}, exitOK},
		{"not ready", []string{"status", "--local", "-q", "-a", peer(t, 503, map[string]any{"/readyz": "no"})}, exitUnhealthy},
		{"found", []string{"lookup", "t", "-a", peer(t, 200, map[string]any{"/lookup?topic=t": found})}, exitOK},
		{"unknown topic", []string{"lookup", "t", "-a", peer(t, 404, map[string]any{"/lookup?topic=t": map[string]string{"message": "TOPIC_NOT_FOUND"}})}, exitFailed},
		{"lookup without quorum", []string{"lookup", "t", "-a", peer(t, 503, map[string]any{"/lookup?topic=t": map[string]string{"message": "NO_QUORUM"}})}, exitNoQuorum},
		{"unknown option", []string{"status", "-addres", "x"}, exitUsage},
		{"unknown command", []string{"statsu"}, exitUsage},
		{"unknown output", []string{"status", "-o", "yaml"}, exitUsage},
		{"no topic", []string{"lookup"}, exitUsage},
		{"timeout of 0", []string{"status", "-timeout", "0s"}, exitUsage},
		{"dev that does not run", []string{"dev", "kill", "a", "-dir", t.TempDir()}, exitFailed},
	} {
		t.Run(test.name, func(t *testing.T) {
			if code, out, talk := call(t, nil, test.args...); code != test.want {
				t.Errorf("exit code %d, want %d\n%s%s", code, test.want, out, talk)
			}
		})
	}
}

func TestErrorsSayWhatNext(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"statsu"}, "did you mean status?"},
		{[]string{"dev", "kil"}, "did you mean kill?"},
		{[]string{"status", "-addres=x"}, "did you mean --address?"},
		{[]string{"peer", "remove", "c", "--dryrun"}, "did you mean --dry-run?"},
		{[]string{"status", "--bogus"}, "unknown flag: --bogus\nSee: lookupctl status --help"},
		{[]string{"lookup", "t", "-a", peer(t, 503, map[string]any{"/lookup?topic=t": map[string]string{"message": "NO_QUORUM"}})}, "--stale"},
		{[]string{"topic", "create", "t", "-a", peer(t, 503, map[string]any{"/topic/create?topic=t": map[string]string{"message": "NO_QUORUM"}})}, "a change is made or not; lookupctl status"},
		{[]string{"status", "-a", nobody(t)}, "is lookupd running"},
		{[]string{"dev", "kill", "a", "-dir", t.TempDir()}, "lookupctl dev"},
	} {
		if _, _, talk := call(t, nil, test.args...); !strings.Contains(talk, test.want) {
			t.Errorf("%v: %q does not say %q", test.args, talk, test.want)
		}
	}
}

func TestNextAddressIsTried(t *testing.T) {
	dead := nobody(t)
	alone := peer(t, 503, map[string]any{"/lookup?topic=t": map[string]string{"message": "NO_QUORUM"}})
	good := peer(t, 200, map[string]any{"/lookup?topic=t": map[string]any{"channels": []string{"c", "d"}, "producers": []any{
		map[string]any{"broadcast_address": "::1", "tcp_port": 4150, "http_port": 4151, "hostname": "h", "version": "1.3.0"},
	}}})
	for name, how := range map[string]struct {
		env  map[string]string
		args []string
	}{
		"repeated":    {nil, []string{"-a", dead, "--address", alone, "-lookupd-http-address", "http://" + good + "/"}},
		"commas":      {nil, []string{"--endpoints=" + dead + "," + alone + "," + good}},
		"environment": {map[string]string{"LOOKUPD_ADDR": dead + "," + good}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, talk := call(t, how.env, append([]string{"lookup", "t"}, how.args...)...)
			if code != exitOK || !strings.HasPrefix(out, "t: 1 producer, 2 channels: c d\n") || !strings.Contains(out, "[::1]:4150") {
				t.Errorf("exit code %d\n%s%s", code, out, talk)
			}
		})
	}
}

func TestStaleLookupIsMarked(t *testing.T) {
	address := peer(t, 200, map[string]any{"/lookup?topic=t&consistency=stale": map[string]any{"channels": []string{}, "producers": []any{}}})
	code, out, talk := call(t, nil, "lookup", "t", "-stale", "-o", "json", "-a", address)
	if code != exitOK || strings.TrimSpace(out) != `{"channels":[],"producers":[]}` || talk != "Stale: at most 120 ms old.\n" {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, out, talk)
	}
}

func TestLongOptions(t *testing.T) {
	got := longOptions([]string{"-address", "x", "-o", "json", "-o=json", "--stale", "-timeout=1s", "-", "--", "-address"})
	want := []string{"--address", "x", "-o", "json", "-o=json", "--stale", "--timeout=1s", "-", "--", "-address"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestPortsShiftAsABlock(t *testing.T) {
	free, err := freeLayout(devSize{peers: 5, nsqds: 2})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", supervisor.Address(free.peers[1].HTTP))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	next, err := freeLayout(devSize{peers: 5, nsqds: 2})
	if err != nil {
		t.Fatal(err)
	}
	shift := next.nsqds[0].TCP - free.nsqds[0].TCP
	if shift <= 0 || shift%devShift != 0 {
		t.Fatalf("shift by %d", shift)
	}
	for i, port := range next.all() {
		if port != free.all()[i]+shift {
			t.Errorf("port %d moved to %d, the others by %d", free.all()[i], port, shift)
		}
	}
}

func TestDevSize(t *testing.T) {
	for args, want := range map[string]string{
		"--peers 0": "--peers 0: want 1 to 9", "--peers 10": "--peers 10: want 1 to 9",
		"--nsqd -1": "--nsqd -1: want 0 to 9", "--nsqd 10": "--nsqd 10: want 0 to 9",
		"--load -1": "--load -1: want 0 to 500", "up --load 501": "--load 501: want 0 to 500",
	} {
		code, _, talk := call(t, nil, append([]string{"dev", "--dir", t.TempDir()}, strings.Fields(args)...)...)
		if code != exitUsage || !strings.Contains(talk, want) {
			t.Errorf("%s: exit code %d: %s", args, code, talk)
		}
	}
	ports := layout(devSize{peers: maxDevPeers, nsqds: maxDevNSQDs}, 0).all()
	slices.Sort(ports)
	if n := len(slices.Compact(slices.Clone(ports))); n != len(ports) || ports[n-1]-ports[0] >= devShift {
		t.Errorf("%d ports, %d of them different: %v", len(ports), n, ports)
	}
}

// TestNSQDsThatCannotRun: who asks for nsqds is told that there is no nsqd.
func TestNSQDsThatCannotRun(t *testing.T) {
	path := t.TempDir()
	if err := os.WriteFile(path+"/lookupd", []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", path)
	code, _, talk := call(t, nil, "dev", "--dir", t.TempDir(), "--nsqd", "2")
	if code != exitFailed || !strings.Contains(talk, "nsqd is not on PATH, so --nsqd 2 cannot be done") {
		t.Errorf("exit code %d: %s", code, talk)
	}
}

func TestSecondDevIsRefused(t *testing.T) {
	socket := t.TempDir() + "/control.sock"
	server, err := listenDev(context.Background(), socket)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := listenDev(context.Background(), socket); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("second dev: %v, want a refusal", err)
	}
	if err := server.close(); err != nil {
		t.Fatal(err)
	}
	again, err := listenDev(context.Background(), socket)
	if err != nil {
		t.Fatalf("after the first has ended: %v", err)
	}
	if err := again.close(); err != nil {
		t.Error(err)
	}
}

func TestDevDirectoryIsPrivate(t *testing.T) {
	dir := t.TempDir()
	if err := makePrivate(dir + "/new"); err != nil {
		t.Error(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := makePrivate(dir); err == nil {
		t.Error("a directory that everybody can change is taken")
	}
}
