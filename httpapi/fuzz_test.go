package httpapi_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/fsm"
	"github.com/lookupd/lookupd/httpapi"
	"github.com/lookupd/lookupd/registry"
)

// recorder is a peer that notes what it is to propose and changes nothing, so
// that the answer to an input does not depend on the inputs before it.
type recorder struct {
	*fakeNode
	t        testing.TB
	proposed []registry.Command
}

func (r *recorder) Propose(_ context.Context, commands ...registry.Command) ([]registry.Result, uint64, error) {
	r.proposed = append(r.proposed, commands...)
	if _, err := fsm.EncodeBatch(fsm.Batch{Origin: r.id, Epoch: 1, Number: 1, Commands: commands}); err != nil {
		r.t.Errorf("proposed what cannot be committed: %v", err)
	}
	if r.fail != nil {
		return nil, 0, r.fail
	}
	results := make([]registry.Result, len(commands))
	for i, c := range commands {
		if c, ok := c.(registry.DeleteChannel); ok && c != (registry.DeleteChannel{Topic: "t", Channel: "c"}) {
			results[i] = registry.ResultChannelNotFound
		}
	}
	return results, 1, nil
}

// codes are the messages that each status may come with.
var codes = map[int][]string{
	http.StatusBadRequest: {
		"INVALID_REQUEST", "MISSING_ARG_TOPIC", "MISSING_ARG_CHANNEL", "MISSING_ARG_NODE", "INVALID_ARG_TOPIC",
		"INVALID_ARG_CHANNEL", "INVALID_ARG_CONSISTENCY", "INVALID_ARG_STATE", "INVALID_ARG_LIMIT",
	},
	http.StatusForbidden:             {"FORBIDDEN", "CROSS_SITE_REQUEST"},
	http.StatusNotFound:              {"NOT_FOUND", "TOPIC_NOT_FOUND", "CHANNEL_NOT_FOUND"},
	http.StatusMethodNotAllowed:      {"METHOD_NOT_ALLOWED"},
	http.StatusRequestEntityTooLarge: {"BODY_TOO_BIG"},
	http.StatusRequestURITooLong:     {"URL_TOO_LONG"},
	http.StatusServiceUnavailable:    {"NO_QUORUM", "NOT_READY", "OVERLOADED", "DISK_LOW", "STOPPING"},
}

// FuzzRequest sends one request, as it stands on the wire, to the whole handler
// of a peer that is well, or has one of several troubles. Every answer must be
// one that nsqlookupd's clients can read: JSON with a known code and NSQ's
// header, or one of the few that are text. Nothing but a good POST proposes, and
// what it proposes can be committed.
func FuzzRequest(f *testing.F) {
	for _, line := range []string{
		"GET /lookup?topic=t", "GET /lookup", "GET /lookup?topic=", "GET /lookup?topic=%zz", "GET /lookup?topic=a;b",
		"GET /lookup?topic=t&topic=b", "GET /lookup?topic=*", "GET /lookup?topic=absent", "GET /lookup?topic=t&consistency=stale",
		"GET /lookup?topic=t&consistency=x", "GET /channels?topic=t", "GET /channels?topic=*", "GET /channels", "GET /topics", "GET /topics?consistency=stale",
		"GET /nodes", "GET /debug", "GET /info", "GET /ping", "GET /debug/pprof", "GET /debug/pprof/cmdline",
		"POST /topic/create?topic=n", "POST /topic/create?topic=a/b", "POST /topic/delete?topic=*", "POST /topic/delete?topic=t",
		"POST /topic/tombstone?topic=t&node=h1:4151", "POST /topic/tombstone?topic=t", "POST /topic/tombstone?topic=%ff&node=%00",
		"POST /channel/create?topic=t&channel=n", "POST /channel/create?topic=t", "POST /channel/delete?topic=t&channel=c",
		"POST /channel/delete?topic=t&channel=absent", "GET /topic/create?topic=t", "HEAD /lookup?topic=t", "OPTIONS /lookup", "PATCH /topics",
		"GET /lookup/?topic=t", "GET //lookup?topic=t", "GET /LOOKUP?topic=t", "GET http://x/lookup?topic=t", "OPTIONS *", "CONNECT x:1",
		"GET /livez", "GET /readyz?quorum", "GET /metrics", "GET /v1/status", "GET /v1/producers?limit=1&after=h1:4150&prefix=h&state=open",
		"GET /v1/producers?limit=0", "GET /v1/producers?state=x", "DELETE /v1/status", "GET /v1/x", "GET /v1//status", "GET /v1/../lookup?topic=t",
		"GET /lookup?topic=" + strings.Repeat("a", 8<<10),
	} {
		f.Add([]byte(line+" HTTP/1.1\r\nHost: x\r\n\r\n"), byte(0))
	}
	post := "POST /topic/create?topic=n HTTP/1.1\r\nHost: x\r\n"
	f.Add([]byte(post+"Origin: http://evil\r\n\r\n"), byte(0))
	f.Add([]byte(post+"Sec-Fetch-Site: cross-site\r\n\r\n"), byte(0))
	f.Add([]byte(post+"Content-Length: 70000\r\n\r\n"), byte(0))
	f.Add([]byte(post+"Content-Length: 5\r\n\r\nab"), byte(0))
	f.Add([]byte(post+"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"), byte(0))
	f.Add([]byte(post+"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nabc"), byte(0))
	for trouble := range byte(6) {
		f.Add([]byte("GET /channels?topic=t HTTP/1.1\r\nHost: x\r\n\r\n"), trouble)
		f.Add([]byte(post+"\r\n"), trouble)
	}

	node := &recorder{fakeNode: newFakeCluster(f, "a").peers[0]}
	node.producer(1, nsqd("h1"), [2]string{"t", "c"}, [2]string{"u#ephemeral", ""})
	node.cluster.propose(node.id, registry.CreateTopic{Topic: "empty"}, registry.Tombstone{Topic: "t", Node: "h1:4151"})
	cfg := httpapi.DefaultConfig()
	cfg.Version, cfg.Cluster, cfg.Sessions = "9.8.7", node, pings{nsqd("h1").ID(): cfg.Now()}
	cfg.Logger = slog.New(slog.DiscardHandler)
	cfg.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "metrics") })
	server, err := httpapi.New(cfg)
	if err != nil {
		f.Fatal(err)
	}
	handler := server.Handler()
	troubles := []error{nil, cluster.ErrNoQuorum, cluster.ErrNotReady, cluster.ErrOverloaded, cluster.ErrDiskLow, cluster.ErrStopped}

	f.Fuzz(func(t *testing.T, sent []byte, trouble byte) {
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(sent)))
		if err != nil {
			return // net/http answers 400 itself
		}
		r.RemoteAddr = "192.0.2.1:1234" // no admin: profiles take their time
		path, query := r.URL.Path, r.URL.RawQuery
		node.t, node.proposed, node.fail = t, nil, troubles[int(trouble)%len(troubles)]
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		a := fuzzedAnswer{t: t, method: r.Method, path: path, query: query, w: w, body: w.Body.Bytes()}
		a.check(node.fail != nil)
		a.checkProposed(node.proposed)
	})
}

// fuzzedAnswer is an answer with the request that it is for.
type fuzzedAnswer struct {
	t                   *testing.T
	method, path, query string
	w                   *httptest.ResponseRecorder
	body                []byte
}

func (a fuzzedAnswer) wrong(format string, args ...any) {
	a.t.Helper()
	a.t.Errorf("%s %q ? %q: status %d, header %v, body %.200q", a.method, a.path, a.query, a.w.Code, a.w.Header(), a.body)
	a.t.Fatalf(format, args...)
}

// isNSQ looks the header up as it is sent, which is not Go's canonical form.
func (a fuzzedAnswer) isNSQ() bool {
	return map[string][]string(a.w.Header())["X-NSQ-Content-Type"] != nil
}

func (a fuzzedAnswer) check(trouble bool) {
	a.t.Helper()
	if len(a.w.Header().Values("Content-Type")) > 1 {
		a.wrong("two content types")
	}
	switch code := a.w.Code; {
	case code == http.StatusOK:
		a.checkGood()
	case code == http.StatusMovedPermanently, code == http.StatusTemporaryRedirect, code == http.StatusPermanentRedirect:
		a.checkRedirect()
	case a.path == "/readyz" && code == http.StatusServiceUnavailable && trouble:
	case code == http.StatusServiceUnavailable && !trouble:
		a.wrong("unavailable, and all is well")
	default:
		a.checkError()
	}
}

// checkGood checks a 200: JSON without null, but for the few that are text or empty.
func (a fuzzedAnswer) checkGood() {
	a.t.Helper()
	nsq := a.isNSQ()
	switch {
	case a.method == http.MethodOptions:
		if a.w.Header().Get("Allow") == "" || len(a.body) > 0 {
			a.wrong("OPTIONS without Allow or with a body")
		}
	case slices.Contains([]string{"/ping", "/livez", "/readyz", "/metrics"}, a.path):
		if nsq || len(a.body) == 0 {
			a.wrong("text as NSQ's JSON, or none")
		}
	case a.method == http.MethodPost:
		if !nsq || len(a.body) > 0 {
			a.wrong("a write that is done has NSQ's header and no body")
		}
	default:
		var any map[string]json.RawMessage
		if err := json.Unmarshal(a.body, &any); err != nil || !nsq {
			a.wrong("no JSON or no NSQ header: %v", err)
		}
		if bytes.Contains(a.body, []byte(":null")) {
			a.wrong("null")
		}
	}
}

// checkRedirect: only to a route of ours, never to another host.
func (a fuzzedAnswer) checkRedirect() {
	a.t.Helper()
	to, err := url.Parse(a.w.Header().Get("Location"))
	if err != nil || !strings.HasPrefix(to.Path, "/") || strings.HasPrefix(to.Path, "//") {
		a.wrong("redirect to %v, %v", to, err)
	}
	path := to.Path
	if strings.HasPrefix(a.path, "/v1/") { // http.ServeMux has it, and escapes what is escaped
		if path, err = url.PathUnescape(path); err != nil {
			a.wrong("redirect to %q: %v", to.Path, err)
		}
	}
	if !strings.EqualFold(strings.Trim(path, "/"), strings.Trim(cleaned(a.path), "/")) {
		a.wrong("redirect to %q", to.Path)
	}
}

// cleaned is path without what is no element of it.
func cleaned(path string) string {
	to, err := url.JoinPath("/", (&url.URL{Path: path}).EscapedPath())
	if err != nil {
		return path
	}
	if to, err = url.PathUnescape(to); err != nil {
		return path
	}
	return to
}

func (a fuzzedAnswer) checkError() {
	a.t.Helper()
	var said struct{ Code, Message string }
	if err := json.Unmarshal(a.body, &said); err != nil || !a.isNSQ() {
		a.wrong("no JSON or no NSQ header: %v", err)
	}
	if said.Code == "" { // nsqlookupd's form
		said.Code = said.Message
	} else if !strings.HasPrefix(a.path, "/v1/") && !slices.Contains([]string{"/livez", "/readyz", "/metrics"}, a.path) {
		a.wrong("an error in the form of /v1/")
	}
	if !slices.Contains(codes[a.w.Code], said.Code) {
		a.wrong("unknown code %q", said.Code)
	}
	if a.w.Code == http.StatusServiceUnavailable && a.w.Header().Get("Retry-After") == "" {
		a.wrong("no Retry-After")
	}
}

func (a fuzzedAnswer) checkProposed(commands []registry.Command) {
	a.t.Helper()
	switch {
	case len(commands) == 0:
	case len(commands) > 1 || a.method != http.MethodPost:
		a.wrong("proposed %v", commands)
	case a.w.Code == http.StatusBadRequest || a.w.Code == http.StatusForbidden:
		a.wrong("refused and proposed %v", commands)
	}
}
