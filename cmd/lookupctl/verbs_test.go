package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/httpapi"
)

// fakePeer answers "METHOD /path?query" and notes what it was asked.
type fakePeer struct {
	address string
	answers map[string]any // a number is a status with the error of failAs

	mu     sync.Mutex
	asked  []string
	tokens []string
	bodies []string // of what changes something
}

const failAs = `{"code":"WOULD_LOSE_QUORUM","message":"the rest would have no quorum (voters 3 -> 2, of which 1 up: no quorum)","hint":"start the peers that are down"}`

func newFakePeer(t *testing.T, answers map[string]any) *fakePeer {
	t.Helper()
	p := &fakePeer{answers: answers}
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	p.address = server.Listener.Addr().String()
	return p
}

func (p *fakePeer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	request := r.Method + " " + r.URL.RequestURI()
	text, _ := io.ReadAll(r.Body) // of a test
	p.mu.Lock()
	if r.Method != http.MethodGet {
		p.bodies = append(p.bodies, string(text))
	}
	p.asked = append(p.asked, request)
	p.tokens = append(p.tokens, r.Header.Get("Authorization"))
	p.mu.Unlock()
	switch body := p.answers[request].(type) {
	case nil:
		w.WriteHeader(http.StatusTeapot)
	case int:
		w.WriteHeader(body)
		_, _ = io.WriteString(w, failAs)
	case []byte:
		_, _ = w.Write(body)
	default:
		w.Header()["X-Lookupd-Index"] = []string{"17"}
		_ = json.NewEncoder(w).Encode(body)
	}
}

// changes returns what changed something.
func (p *fakePeer) changes() (changes []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, request := range p.asked {
		if !strings.HasPrefix(request, "GET ") {
			changes = append(changes, request)
		}
	}
	return changes
}

func removal() cluster.Removal {
	return cluster.Removal{Sentence: "voters 3 -> 2, can lose 1 -> 0", Name: "c", ID: "c-00000003", HasQuorum: true}
}

func operated(t *testing.T) *fakePeer {
	t.Helper()
	done := removal()
	done.HandedOverTo = "a"
	lookup := map[string]any{"channels": []string{"c1", "c2"}, "producers": []any{
		map[string]any{"broadcast_address": "n1", "tcp_port": 4150, "http_port": 4151, "hostname": "h", "version": "1.3.0"},
	}}
	ping := 1.5
	return newFakePeer(t, map[string]any{
		"GET /v1/status":                                    degraded(),
		"DELETE /v1/peers/c?dry_run":                        removal(),
		"DELETE /v1/peers/c-00000003":                       done,
		"DELETE /v1/peers/b?dry_run":                        http.StatusConflict,
		"DELETE /v1/peers/b?force&dry_run":                  removal(),
		"POST /v1/leader/transfer?to=b":                     cluster.Transfer{Sentence: "leader c -> b, writes paused 180ms", Old: "c", New: "b", PauseMS: 180},
		"POST /v1/leader/transfer":                          cluster.Transfer{Sentence: "leader c -> a, writes paused 90ms", Old: "c", New: "a", PauseMS: 90},
		"POST /v1/leader/transfer?dry_run=true&to=b":        cluster.Transfer{Sentence: "leader c -> b, writes would pause for a moment", Old: "c", New: "b", DryRun: true},
		"GET /v1/autopilot":                                 cluster.AutopilotState{Sentence: "All healthy; can lose 1.", Servers: []cluster.AutopilotServer{{Name: "a", ID: "a-00000001", Status: "alive", Role: "voter", Healthy: true}}, Settings: cluster.AutopilotSettings{MinQuorum: 3}},
		"GET /topics":                                       map[string]any{"topics": []string{"orders", "payments"}},
		"GET /channels?topic=orders":                        map[string]any{"channels": []string{"c1", "c2"}},
		"GET /lookup?topic=orders":                          lookup,
		"POST /topic/create?topic=orders":                   struct{}{},
		"POST /topic/delete?topic=orders":                   struct{}{},
		"POST /channel/create?channel=c1&topic=orders":      struct{}{},
		"POST /channel/delete?channel=c1&topic=orders":      struct{}{},
		"POST /topic/tombstone?node=n1%3A4151&topic=orders": struct{}{},
		"GET /v1/producers?limit=1000": producersDocument{Producers: []producerDocument{{
			ID: "n1:4150", Hostname: "h", BroadcastAddress: "n1", TCPPort: 4150, HTTPPort: 4151, Version: "1.3.0",
			Sessions: []sessionDocument{{ID: "s1", Peer: "a", State: "open", LastPing: &ping}, {ID: "s2", Peer: "b", State: "orphan"}},
		}}, Next: "n1:4150"},
		"GET /v1/producers?after=n1%3A4150&limit=1000":  producersDocument{Producers: []producerDocument{{ID: "n2:4150"}}},
		"GET /v1/producers?limit=1000&prefix=n1%3A4150": producersDocument{Producers: []producerDocument{{ID: "n1:4150", Sessions: []sessionDocument{{Peer: "a", State: "open", LastPing: &ping}}}}},
	})
}

func TestVerbs(t *testing.T) {
	for _, test := range []struct {
		args    string
		code    int
		out     string // in what is printed
		changes []string
	}{
		{"peers -o name", 0, "a\nb\nc\n", nil},
		{"members -o name", 0, "a\nb\nc\n", nil},
		{"operator raft list-peers -o csv", 0, "NAME,ROLE,HEALTH,LAG,VERSION,SESSIONS,HTTP,PEER,ID,FREE DISK\na,voter,down", nil},
		{"peers -o wide", 0, "b-00000001", nil},
		{"peer show b", 0, "b-00000001", nil},
		{"peer show nobody", 1, "there are a, b, c", nil},
		{"peer remove c --dry-run", 0, "voters 3 -> 2, can lose 1 -> 0\n", []string{"DELETE /v1/peers/c?dry_run"}},
		{"peer remove c", 2, "--yes", []string{"DELETE /v1/peers/c?dry_run"}},
		{"peer remove c -y", 0, "It led; a leads now.\nRemoved c.", []string{"DELETE /v1/peers/c?dry_run", "DELETE /v1/peers/c-00000003"}},
		{"operator raft remove-peer -id=c -yes", 0, "Removed c.", []string{"DELETE /v1/peers/c?dry_run", "DELETE /v1/peers/c-00000003"}},
		{"peer remove b -y", 1, "WOULD_LOSE_QUORUM: the rest would have no quorum (voters 3 -> 2, of which 1 up: no quorum)\nstart the peers", []string{"DELETE /v1/peers/b?dry_run"}},
		{"peer remove b --force --dry-run", 0, "voters", []string{"DELETE /v1/peers/b?force&dry_run"}},
		{"member add x", 2, "-join", nil},
		{"leader show", 0, "c\n", nil},
		{"leader transfer b", 0, "leader c -> b, writes paused 180ms\n", []string{"POST /v1/leader/transfer?to=b"}},
		{"leader transfer b --dry-run", 0, "leader c -> b, writes would pause for a moment\n", []string{"POST /v1/leader/transfer?dry_run=true&to=b"}},
		{"move-leader", 0, "leader c -> a, writes paused 90ms\n", []string{"POST /v1/leader/transfer"}},
		{"leader transfer -o json", 0, `"pause_ms":90`, []string{"POST /v1/leader/transfer"}},
		{"autopilot state", 0, "All healthy; can lose 1.\n", nil},
		{"operator autopilot state", 0, "alive", nil},
		{"autopilot config", 0, "MinQuorum", nil},
		{"topics", 0, "TOPIC\norders\npayments\n", nil},
		{"topics -o name", 0, "orders\npayments\n", nil},
		{"topics -output json", 0, `{"topics":["orders","payments"]}`, nil},
		{"channels orders -o csv", 0, "CHANNEL\nc1\nc2\n", nil},
		{"topic show orders", 0, "orders: 1 producer, 2 channels: c1 c2\n", nil},
		{"topic create orders", 0, "Created topic orders (index 17).\n", []string{"POST /topic/create?topic=orders"}},
		{"topic create orders --dry-run", 0, "Would create topic orders.\n", nil},
		{"topic delete orders --dry-run", 0, "1 producer and 2 channels go", nil},
		{"topic delete orders", 2, "--yes", nil},
		{"topic delete orders -y", 0, "Deleted topic orders (index 17).\n", []string{"POST /topic/delete?topic=orders"}},
		{"topic tombstone orders n1:4151 -y", 0, "Tombstoned n1:4151 in topic orders", []string{"POST /topic/tombstone?node=n1%3A4151&topic=orders"}},
		{"channel create orders c1", 0, "Created channel c1 of topic orders", []string{"POST /channel/create?channel=c1&topic=orders"}},
		{"channel delete orders c1 -y", 0, "Deleted channel c1 of topic orders", []string{"POST /channel/delete?channel=c1&topic=orders"}},
		{"topic tombstone orders n2:4151 --dry-run", 0, "nothing changes for them", nil},
		{"channel delete orders c9 --dry-run", 1, `topic "orders" has no channel "c9"`, nil},
		{"channel delete orders c9 -y", 1, `topic "orders" has no channel "c9"`, nil},
		{"producers -o name", 0, "n1:4150\nn2:4150\n", nil},
		{"producers", 0, "a, b (orphan)", nil},
		{"producer show n1:4150", 0, "1.5s", nil},
		{"topic shwo orders", 2, "did you mean show?", nil},
		{"topic create", 2, "wants TOPIC, got 0 arguments", nil},
		{"peers -o yaml", 2, "table, wide, json, csv, name", nil},
		{"peer remove c --token-file /nothing", 2, "/nothing", nil},
	} {
		t.Run(test.args, func(t *testing.T) {
			p := operated(t)
			code, out, talk := call(t, nil, append(strings.Fields(test.args), "-a", p.address)...)
			if code != test.code || !strings.Contains(out+talk, test.out) {
				t.Errorf("exit code %d, want %d and %q:\n%s%s", code, test.code, test.out, out, talk)
			}
			if changes := p.changes(); !slices.Equal(changes, test.changes) {
				t.Errorf("asked %v, want %v", changes, test.changes)
			}
		})
	}
}

func TestConfirmation(t *testing.T) {
	for text, want := range map[string]int{"y\n": 2, "YES\n": 2, "n\n": 1, "\n": 1, "": 1, "yep\n": 1} {
		p := operated(t)
		code, _, talk := answering(t, text, "peer", "remove", "c", "-a", p.address)
		if n := len(p.changes()); n != want || (code == 0) != (want == 2) || !strings.Contains(talk, "Remove c (c-00000003)? [y/N]") {
			t.Errorf("%q: exit code %d after %d requests: %s", text, code, n, talk)
		}
	}
}

// TestInterruptIsNoYes: an interrupt at the question ends the command, and what is
// typed after it confirms nothing.
func TestInterruptIsNoYes(t *testing.T) {
	keyboard, typed := io.Pipe()
	defer typed.Close()
	ctx, interrupt := context.WithCancel(context.Background())
	p := operated(t)
	asked := make(chan struct{})
	talk := writerFunc(func(text []byte) (int, error) {
		if bytes.Contains(text, []byte("[y/N]")) {
			close(asked)
		}
		return len(text), nil
	})
	go func() {
		<-asked
		interrupt()
	}()
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"topic", "delete", "orders", "-a", p.address},
			streams{out: io.Discard, err: talk, in: keyboard, interactive: true}, func(string) string { return "" })
	}()
	select {
	case code := <-ended:
		if code != exitFailed || len(p.changes()) > 0 {
			t.Errorf("exit code %d after %v", code, p.changes())
		}
	case <-time.After(10 * time.Second):
		t.Error("it still waits for an answer")
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(text []byte) (int, error) { return f(text) }

func TestNobodyAnswersAtDevNull(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if isTerminal(null) {
		t.Error("it counts as a terminal, so that cron is asked and never told of --yes")
	}
}

func TestTokenIsSent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte("0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := operated(t)
	if code, _, talk := call(t, map[string]string{"LOOKUPD_TOKEN_FILE": path}, "leader", "transfer", "-a", p.address); code != 0 {
		t.Fatal(talk)
	}
	if p.tokens[0] != "Bearer 0123456789abcdef" {
		t.Errorf("%v", p.tokens)
	}
}

// TestChangesGoToTheNextAddress only when the one before surely did nothing.
func TestChangesGoToTheNextAddress(t *testing.T) {
	good := operated(t)
	if code, out, talk := call(t, nil, "topic", "create", "orders", "-a", nobody(t), "-a", good.address); code != 0 {
		t.Errorf("after one that is down: %s%s", out, talk)
	}
	cut := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer cut.Close()
	before := len(good.changes())
	code, _, talk := call(t, nil, "topic", "create", "orders", "-a", cut.Listener.Addr().String(), "-a", good.address)
	if code != exitFailed || !strings.Contains(talk, "may have been done") || len(good.changes()) != before {
		t.Errorf("after one that was cut: exit code %d %s, %v", code, talk, good.changes())
	}
	for name, address := range map[string]string{"it never shakes hands": silent(t), "its certificate is not trusted": untrusted(t)} {
		before := len(good.changes())
		code, _, talk := call(t, nil, "topic", "create", "orders", "-timeout=2s", "-a", "https://"+address, "-a", good.address)
		if code != exitOK || len(good.changes()) != before+1 {
			t.Errorf("%s: exit code %d %s, %v", name, code, talk, good.changes())
		}
		code, _, talk = call(t, nil, "topic", "create", "orders", "-timeout=500ms", "-a", "https://"+address)
		if code != exitFailed || strings.Contains(talk, "may have been done") {
			t.Errorf("%s: exit code %d, and a lie: %s", name, code, talk)
		}
	}
}

// silent is an address where a connection is taken, and nothing comes of it.
func silent(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener.Addr().String()
}

// untrusted is a server with a certificate that nobody knows.
func untrusted(t *testing.T) string {
	t.Helper()
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

func TestCompletion(t *testing.T) {
	p := operated(t)
	env := map[string]string{}
	for line, want := range map[string]string{
		"peer show ":       "a\nb\nc\n",
		"leader transfer ": "a\nb\nc\n",
		"peer remove b":    "b\n",
	} {
		args := append([]string{"__complete", "-a", p.address}, strings.Fields(line)...)
		if strings.HasSuffix(line, " ") {
			args = append(args, "")
		}
		_, out, _ := call(t, env, args...)
		if !strings.HasPrefix(out, want) {
			t.Errorf("%q: %q, want %q", line, out, want)
		}
	}
	if _, out, _ := call(t, env, "__complete", "-a", nobody(t), "peer", "show", ""); !strings.HasPrefix(out, ":4") {
		t.Errorf("without a peer: %q", out)
	}
}

func checked(level httpapi.Level) httpapi.Check {
	c := httpapi.Check{Status: "Healthy."}
	c.Add(httpapi.Finding{Rule: "lag", Level: level, Subject: "b", What: "b is 900 entries behind", Impact: "it cannot lead", Next: "look at its disk"})
	return c
}

func TestCheck(t *testing.T) {
	good := newFakePeer(t, map[string]any{"GET /ping": struct{}{}})
	deaf := nobody(t)
	status := func(address string) cluster.Status {
		s := degraded()
		s.Peers[1].HTTPAddress = address
		return s
	}
	nsqd := func(address string) producersDocument {
		host, port, _ := strings.Cut(address, ":")
		p := producerDocument{ID: "n1:4150", BroadcastAddress: host}
		fmt.Sscan(port, &p.HTTPPort)
		return producersDocument{Producers: []producerDocument{p}}
	}
	for _, test := range []struct {
		name, args       string
		level            httpapi.Level
		peer, nsqd, want string
		code             int
	}{
		{"well", "", httpapi.LevelOK, good.address, good.address, "Healthy.\n", 0},
		{"warning", "", httpapi.LevelWarn, good.address, good.address, "warn  lag           b is 900 entries behind\n", 1},
		{"critical", "", httpapi.LevelCrit, good.address, good.address, "Healthy. 1 critical, 0 to look at.\n", 2},
		{"deaf peer", "", httpapi.LevelOK, deaf, good.address, "b does not answer at " + deaf, 1},
		{"deaf nsqd", "", httpapi.LevelOK, good.address, deaf, "n1:4150 does not answer at " + deaf, 1},
		{"deaf nsqd, not asked", "--probe=false", httpapi.LevelOK, good.address, deaf, "Healthy.\n", 0},
		{"fewer than expected", "--expect 5", httpapi.LevelOK, good.address, good.address, "3 peers are members, 5 are expected", 2},
		{"as many as expected", "--expect 3", httpapi.LevelOK, good.address, good.address, "Healthy.\n", 0},
		{"nagios", "--format nagios", httpapi.LevelWarn, good.address, good.address, "LOOKUPD WARNING - Healthy. 0 critical, 1 to look at.; b is 900 entries behind\n", 1},
		{"prometheus", "--format prometheus", httpapi.LevelWarn, good.address, good.address, "lookupd_check{rule=\"lag\",subject=\"b\"} 1\n", 1},
		{"json", "-o json", httpapi.LevelWarn, good.address, good.address, `"level":"warn"`, 1},
		{"quiet", "-q", httpapi.LevelWarn, good.address, good.address, "", 1},
		{"unknown option", "--bogus", httpapi.LevelOK, good.address, good.address, "--bogus", 3},
		{"an option nearly right", "--quite", httpapi.LevelOK, good.address, good.address, "did you mean --quiet?", 3},
		{"an argument", "b", httpapi.LevelOK, good.address, good.address, "unknown command", 3},
		{"no such token", "--token-file /nothing", httpapi.LevelOK, good.address, good.address, "/nothing", 3},
		{"unknown format", "--format xml", httpapi.LevelOK, good.address, good.address, "text, json, prometheus, nagios", 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newFakePeer(t, map[string]any{
				"GET /v1/check": checked(test.level), "GET /v1/status": status(test.peer),
				"GET /v1/producers?consistency=stale&limit=1000": nsqd(test.nsqd),
			})
			code, out, talk := call(t, nil, append(strings.Fields("check "+test.args), "-a", p.address)...)
			if code != test.code || !strings.Contains(out+talk, test.want) || test.name == "quiet" && out != "" {
				t.Errorf("exit code %d, want %d and %q:\n%s%s", code, test.code, test.want, out, talk)
			}
		})
	}
	if code, _, talk := call(t, nil, "check", "-a", deaf); code != checkUnknown || talk == "" {
		t.Errorf("nobody answers: exit code %d %s", code, talk)
	}
	if code, _, _ := call(t, nil, "check", "--local", "-a", deaf); code != checkCrit {
		t.Errorf("--local, nobody answers: exit code %d", code)
	}
}

// TestPrometheusGetsEachSeriesOnce: of several findings of one rule and subject it
// is the worst.
func TestPrometheusGetsEachSeriesOnce(t *testing.T) {
	document := httpapi.Check{Status: "Degraded."}
	for _, f := range []httpapi.Finding{
		{Rule: "quorum", Level: httpapi.LevelWarn, What: "no other voter may fail"},
		{Rule: "quorum", Level: httpapi.LevelCrit, What: "4 voters survive no more failures than 3"},
		{Rule: "producers", Level: httpapi.LevelWarn, Subject: "a\\b\"c\u00ad:4150", What: "an odd name"},
	} {
		document.Add(f)
	}
	p := newFakePeer(t, map[string]any{"GET /v1/check": document, "GET /v1/status": degraded()})
	_, out, talk := call(t, nil, "check", "--format=prometheus", "--probe=false", "-a", p.address)
	want := "lookupd_check{rule=\"quorum\",subject=\"\"} 2\nlookupd_check{rule=\"producers\",subject=\"a\\\\b\\\"c\u00ad:4150\"} 1\n"
	if !strings.HasSuffix(out, "gauge\n"+want) {
		t.Errorf("%s%s\nwant %s", out, talk, want)
	}
}
