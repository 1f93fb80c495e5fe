package httpapi_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lookupd/lookupd/httpapi"
)

// TestBadRequests has the rows of docs/bad-inputs.md that are a request and its
// answer.
func TestBadRequests(t *testing.T) {
	p := serveSeeded(t)
	for _, test := range []struct {
		name, request string
		status        int
		body          string
	}{
		{"H1 unknown", "GET /lookup?topic=nope", 404, message("TOPIC_NOT_FOUND")},
		{"H1 empty", "GET /lookup?topic=", 404, message("TOPIC_NOT_FOUND")},
		{"H1 invalid", "GET /lookup?topic=t%24", 404, message("TOPIC_NOT_FOUND")},
		{"H1 NUL", "GET /lookup?topic=t%00", 404, message("TOPIC_NOT_FOUND")},
		{"H1 65 bytes", "GET /lookup?topic=" + strings.Repeat("x", 65), 404, message("TOPIC_NOT_FOUND")},
		{"H1 no topic", "GET /lookup", 400, message("MISSING_ARG_TOPIC")},
		{"H1 other case", "GET /lookup?Topic=t", 400, message("MISSING_ARG_TOPIC")},
		{"H2 bad escape on /lookup", "GET /lookup?topic=%zz", 400, message("INVALID_REQUEST")},
		{"H2 semicolon on /lookup", "GET /lookup?topic=t;x=1", 400, message("INVALID_REQUEST")},
		{"H2 bad escape on /channels", "GET /channels?topic=%zz", 400, message("INVALID_REQUEST")},
		{"H2 bad escape on a write", "POST /topic/create?topic=%zz", 400, message("INVALID_REQUEST")},
		{"H2 semicolon on a write", "POST /topic/create?topic=a;b", 400, message("INVALID_REQUEST")},
		{"H3 first is there", "GET /lookup?topic=bare&topic=nope", 200, `{"channels":[],"producers":[]}`},
		{"H3 first is not there", "GET /lookup?topic=nope&topic=bare", 404, message("TOPIC_NOT_FOUND")},
		{"H4 delete of all topics", "POST /topic/delete?topic=*", 400, message("INVALID_ARG_TOPIC")},
		{"H4 tombstone in all topics", "POST /topic/tombstone?topic=*&node=x:1", 400, message("INVALID_ARG_TOPIC")},
		{"H5 star on /lookup", "GET /lookup?topic=*", 404, message("TOPIC_NOT_FOUND")},
		{"H5 star on /channels", "GET /channels?topic=*", 200, `{"channels":[]}`},
		{"H6 create of star", "POST /topic/create?topic=*", 400, message("INVALID_ARG_TOPIC")},
		{"H6 create without a name", "POST /topic/create?topic=", 400, message("INVALID_ARG_TOPIC")},
		{"H6 create with a blank", "POST /topic/create?topic=a%20b", 400, message("INVALID_ARG_TOPIC")},
		{"H6 create of 65 bytes", "POST /topic/create?topic=" + strings.Repeat("x", 65), 400, message("INVALID_ARG_TOPIC")},
		{"H6 channel of star", "POST /channel/create?topic=t&channel=*", 400, message("INVALID_ARG_CHANNEL")},
		{"H6 delete of an absent channel", "POST /channel/delete?topic=t&channel=nope", 404, message("CHANNEL_NOT_FOUND")},
		{"H6 delete in an absent topic", "POST /channel/delete?topic=nope&channel=c", 404, message("CHANNEL_NOT_FOUND")},
		{"H8 unknown path", "GET /nope", 404, message("NOT_FOUND")},
		{"H8 root", "GET /", 404, message("NOT_FOUND")},
		{"H8 POST to the root", "POST /", 404, message("NOT_FOUND")},
		{"H8 path of old releases", "POST /create_topic?topic=t", 404, message("NOT_FOUND")},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := p.do(test.request)
			if a.status != test.status || a.body != test.body {
				t.Errorf("got %d %s\nwant %d %s", a.status, a.body, test.status, test.body)
			}
			if got := a.header.Get("Content-Type"); got != jsonType {
				t.Errorf("Content-Type %q", got)
			}
			if got := a.header.Get("X-NSQ-Content-Type"); got != nsqType {
				t.Errorf("X-NSQ-Content-Type %q", got)
			}
		})
	}
	if a := p.do("GET /topics"); a.body != `{"topics":["bare","e#ephemeral","empty","t"]}` {
		t.Errorf("a bad request changed the registry: %s", a.body)
	}
}

// TestBadInputs has the rows that are more than that.
func TestBadInputs(t *testing.T) {
	for name, test := range map[string]func(*testing.T){
		"H9 endless bodies take no memory": endlessBodies,
		"H11 long heads take no memory":    longHeads,
		"H14 requests from other sites":    crossSite,
		"H15 Host of others":               foreignHosts,
		"H17 headers of a peer or proxy":   claims,
		"H18 panic in a handler":           panics,
		"H19 profiles":                     profiles,
	} {
		t.Run(name, test)
	}
}

func TestDefaultsThatBadInputsMeet(t *testing.T) {
	d := httpapi.DefaultConfig().Limits
	for name, test := range map[string]struct{ got, want any }{
		"H9 body of 64 KiB":          {d.BodyBytes, int64(64 << 10)},
		"H11 header of 16 KiB":       {d.HeaderBytes, 16 << 10},
		"H11 URL of 8 KiB":           {d.URLBytes, 8 << 10},
		"H12 header within 5 s":      {d.HeaderTimeout, 5 * time.Second},
		"H12 request within 10 s":    {d.ReadTimeout, 10 * time.Second},
		"H12 each write within 30 s": {d.WriteTimeout, 30 * time.Second},
		"H12 idle for 120 s":         {d.IdleTimeout, 120 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			if test.got != test.want {
				t.Errorf("%v, want %v", test.got, test.want)
			}
		})
	}
}

func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

// endlessBodies sends bodies until the server closes.
func endlessBodies(t *testing.T) {
	const most = 1 << 20 // of memory, both ends
	p := serveOne(t)
	chunk := []byte("ffff\r\n" + strings.Repeat("x", 0xffff) + "\r\n")
	for _, head := range []string{
		"POST /topic/create?topic=t HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000000\r\n\r\n",
		"POST /topic/create?topic=t HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
		"GET /lookup?topic=t HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
	} {
		conn := p.dial()
		defer conn.Close()
		before := allocated()
		if _, err := io.WriteString(conn, head); err != nil {
			t.Fatal(err)
		}
		closed := false
		for range 1600 { // 100 MB
			if _, err := conn.Write(chunk); err != nil {
				closed = true
				break
			}
		}
		if !closed {
			t.Errorf("100 MB were taken after %q", head)
		}
		if used := allocated() - before; used > most {
			t.Errorf("%d bytes allocated after %q", used, head)
		}
	}
	if a := p.do("GET /topics"); a.body != `{"topics":[]}` {
		t.Errorf("something was done: %s", a.body)
	}
}

// longHeads sends heads whose memory, were it taken, would show.
func longHeads(t *testing.T) {
	const heads, most = 20, 256 << 10
	p := serveOne(t)
	for _, text := range []string{
		"GET /ping HTTP/1.1\r\nX: " + strings.Repeat("x", 4<<20),
		"GET /ping HTTP/1.1\r\n" + strings.Repeat("X: y\r\n", 700_000),
		"GET /lookup?topic=" + strings.Repeat("x", 4<<20),
	} {
		head := []byte(text)
		before := allocated()
		var clients sync.WaitGroup
		for range heads { // at once: net/http closes half a second after its answer
			conn := p.dial()
			clients.Go(func() {
				_, _ = conn.Write(head) // fails: the server answers before it has read all
				_, _ = io.Copy(io.Discard, conn)
				_ = conn.Close()
			})
		}
		clients.Wait()
		if each := (allocated() - before) / heads; each > most {
			t.Errorf("%.22q: %d bytes allocated for each", text, each)
		}
	}
}

func crossSite(t *testing.T) {
	p := serveOne(t)
	for _, header := range []string{"Origin: http://evil.example", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site"} {
		for _, request := range []string{"POST /topic/create?topic=x", "POST /channel/delete?topic=a&channel=b", "POST /nope", "DELETE /v1/peers/a"} {
			form := `{"message":"CROSS_SITE_REQUEST"`
			if contains(request, "/v1/") {
				form = `{"code":"CROSS_SITE_REQUEST"`
			}
			if a := p.do(request, header); a.status != 403 || !strings.HasPrefix(a.body, form) {
				t.Errorf("%s, %s: %d %s", request, header, a.status, a.body)
			}
		}
		if a := p.do("GET /topics", header); a.status != 200 || a.body != `{"topics":[]}` {
			t.Errorf("GET, %s: %d %s", header, a.status, a.body)
		}
	}
	wantDone(t, p, "POST /topic/create?topic=x")
	if a := p.do("POST /topic/create?topic=x", "Origin: http://"+p.addr); a.status != 200 {
		t.Errorf("own origin: %d", a.status)
	}
}

var profilePaths = []string{"", "/cmdline", "/symbol", "/heap", "/goroutine", "/block", "/threadcreate", "/profile?seconds=1"}

func profiles(t *testing.T) {
	p := serveOne(t)
	for _, path := range profilePaths {
		a := p.do("GET /debug/pprof" + path)
		if a.status != 200 || a.header.Get("X-NSQ-Content-Type") != "" {
			t.Errorf("%s: %d %v", path, a.status, a.header)
		}
	}
	if a := p.raw("POST /debug/pprof/symbol HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\n0x1", "POST"); a.status != 200 || !contains(a.body, "num_symbols") {
		t.Errorf("symbol: %d %s", a.status, a.body)
	}
	far := serveFar(t)
	if a := far.do("GET /debug"); a.status != 200 || a.body != "{}" {
		t.Errorf("/debug: %d %s", a.status, a.body)
	}
	for _, path := range profilePaths {
		if a := far.do("GET /debug/pprof" + path); a.status != 403 || a.body != message("FORBIDDEN") {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
}

// serveFar serves a peer whose admins are elsewhere.
func serveFar(t *testing.T, adjust ...func(*httpapi.Config)) *peer {
	t.Helper()
	far := func(c *httpapi.Config) { c.AdminCIDR = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} }
	return serveOne(t, append(adjust, far)...)
}

func foreignHosts(t *testing.T) {
	p := serveOne(t, func(c *httpapi.Config) { c.AdminHosts = []string{"peer.example", ""} })
	for host, status := range map[string]int{
		"localhost": 200, "LOCALHOST:4161": 200, "127.0.0.1": 200, "[::1]:4161": 200, "192.0.2.1:80": 200,
		"peer.example": 200, "Peer.Example.:4161": 200,
		"evil.example": 403, "evil.example:4161": 403, "localhost.evil.example": 403, "": 403,
	} {
		if a := p.do("GET /debug/pprof/cmdline", "Host: "+host); a.status != status {
			t.Errorf("Host %q: %d", host, a.status)
		}
	}
}

// claims: nothing that a client says of itself in a header is believed.
func claims(t *testing.T) {
	far := serveFar(t)
	for _, header := range []string{
		"X-Forwarded-For: 10.0.0.1", "X-Real-Ip: 10.0.0.1", "Forwarded: for=10.0.0.1", "X-Lookupd-Peer: a", "X-Lookupd-Leader: a",
	} {
		if a := far.do("GET /debug/pprof/cmdline", header); a.status != 403 || a.body != message("FORBIDDEN") {
			t.Errorf("%s: %d %s", header, a.status, a.body)
		}
		if a := far.do("GET /topics", header); a.status != 200 || a.header.Get("X-Lookupd-Index") != "0" {
			t.Errorf("%s: %d %s %v", header, a.status, a.body, a.header)
		}
	}
}

func panics(t *testing.T) {
	var logged lockedBuffer
	p := serveOne(t, func(c *httpapi.Config) {
		c.Logger = slog.New(slog.NewTextHandler(&logged, nil))
		c.Metrics = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.RawQuery == "late" {
				_, _ = w.Write(make([]byte, 100_000))
			}
			panic("boom")
		})
	})
	if a := p.do("GET /metrics"); a.status != 500 || a.body != message("INTERNAL_ERROR") || a.header.Get("X-NSQ-Content-Type") != nsqType {
		t.Errorf("%d %s", a.status, a.body)
	}
	if text := logged.String(); !contains(text, "boom") || !contains(text, "badinputs_test.go") {
		t.Errorf("no stack in the log: %s", text)
	}
	conn := p.dial()
	defer conn.Close()
	fmt.Fprint(conn, "GET /metrics?late HTTP/1.1\r\nHost: a\r\n\r\n")
	if all := readAll(t, conn); strings.HasSuffix(all, "0\r\n\r\n") || contains(all, "INTERNAL_ERROR") {
		t.Error("half an answer looks like a whole one")
	}
	if a := p.do("GET /ping"); a.status != 200 {
		t.Errorf("after a panic: %d", a.status)
	}
}
