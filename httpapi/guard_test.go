package httpapi_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lookupd/lookupd/httpapi"
	"github.com/lookupd/lookupd/registry"
)

func contains(s, part string) bool { return strings.Contains(s, part) }

func TestBodies(t *testing.T) {
	p := serveOne(t)
	chunk := "ffff\r\n" + strings.Repeat("x", 0xffff) + "\r\n"
	for _, test := range []struct {
		name, head, body string
		status           int
	}{
		{"ignored", "POST /topic/create?topic=t", "Content-Length: 7\r\n\r\nignored", 200},
		{"64 KiB", "POST /topic/create?topic=t", "Content-Length: 65536\r\n\r\n" + strings.Repeat("x", 65536), 200},
		{"on GET", "GET /topics", "Content-Length: 7\r\n\r\nignored", 200},
		{"H9 10 GB announced", "POST /topic/create?topic=t", "Content-Length: 10000000000\r\n\r\n", 413},
		{"H9 10 GB announced on GET", "GET /ping", "Content-Length: 10000000000\r\n\r\n", 413},
		{"H9 endless chunks", "POST /topic/create?topic=t", "Transfer-Encoding: chunked\r\n\r\n" + chunk + chunk, 413},
		{"H9 endless chunks on GET", "GET /lookup?topic=t", "Transfer-Encoding: chunked\r\n\r\n" + chunk + chunk, 413},
		{"H9 endless chunks to an unknown path", "GET /nope", "Transfer-Encoding: chunked\r\n\r\n" + chunk + chunk, 413},
		{"H10 two lengths", "POST /topic/create?topic=t", "Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx", 400},
		{"H10 length and chunks: these count", "POST /topic/create?topic=t", "Content-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", 200},
		{"H10 two transfer encodings", "POST /topic/create?topic=t", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n", 501},
		{"H10 bad chunk size", "POST /topic/create?topic=t", "Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400},
		{"H10 bare LF in a chunk size", "POST /topic/create?topic=t", "Transfer-Encoding: chunked\r\n\r\n1\nx\r\n0\r\n\r\n", 400},
		{"H10 negative length", "POST /topic/create?topic=t", "Content-Length: -1\r\n\r\n", 400},
	} {
		t.Run(test.name, func(t *testing.T) {
			method, _, _ := strings.Cut(test.head, " ")
			a := p.raw(test.head+" HTTP/1.1\r\nHost: a\r\n"+test.body, method)
			if a.status != test.status {
				t.Errorf("%d %s, want %d", a.status, a.body, test.status)
			}
			if test.status == 413 && (!a.closed || a.body != message("BODY_TOO_BIG")) {
				t.Errorf("closed %v, %s", a.closed, a.body)
			}
			if test.status == 400 && !a.closed {
				t.Error("the connection stays open")
			}
		})
	}
}

func TestHeadAndURLLimits(t *testing.T) {
	p := serveOne(t)
	for name, test := range map[string]struct {
		request string
		header  string
		status  []int
	}{
		"8 KiB of URL":                {"GET /lookup?topic=" + strings.Repeat("x", 8<<10-len("/lookup?topic=")), "", []int{404}},
		"H11 8 KiB and a byte of URL": {"GET /lookup?topic=" + strings.Repeat("x", 8<<10-len("/lookup?topic=")+1), "", []int{414}},
		"H11 1 MB of URL":             {"GET /lookup?topic=" + strings.Repeat("x", 1<<20), "", []int{414, 431}},
		"15 KiB of header":            {"GET /ping", "X: " + strings.Repeat("x", 15<<10), []int{200}},
		"H11 1 MB of header":          {"GET /ping", "X: " + strings.Repeat("x", 1<<20), []int{431}},
		"H11 10,000 headers":          {"GET /ping", strings.TrimSuffix(strings.Repeat("X: y\r\n", 10_000), "\r\n"), []int{431}},
		"bad header":                  {"GET /ping", "no colon", []int{400}},
		"NUL in a header":             {"GET /ping", "X: a\x00b", []int{400}},
		"unknown transfer":            {"POST /topic/create?topic=t", "Transfer-Encoding: gzip", []int{501}},
		"strange expecting":           {"POST /topic/create?topic=t", "Expect: miracles", []int{417}},
	} {
		t.Run(name, func(t *testing.T) {
			conn := p.dial()
			defer conn.Close()
			method, target, _ := strings.Cut(test.request, " ")
			go func() { // the server may answer before it has read all
				_, _ = fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n", method, target, test.header)
			}()
			// net/http may reset the connection before its answer is read to the
			// end, because it leaves the rest of the request unread.
			resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if !slices.Contains(test.status, resp.StatusCode) {
				t.Errorf("%s, want %v", resp.Status, test.status)
			}
		})
	}
}

func TestSlowClientsAreClosed(t *testing.T) {
	p := serveOne(t, func(c *httpapi.Config) {
		c.Limits.HeaderTimeout, c.Limits.ReadTimeout, c.Limits.IdleTimeout = 50*time.Millisecond, 100*time.Millisecond, 50*time.Millisecond
	})
	for name, sent := range map[string]string{
		"H12 silence":     "",
		"H12 half a line": "GET /to",
		"H12 half a head": "GET /topics HTTP/1.1\r\nHost: a\r\n",
		"H12 half a body": "POST /topic/create?topic=t HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nx",
		"H12 idle":        "GET /ping HTTP/1.1\r\nHost: a\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			conn := p.dial()
			defer conn.Close()
			if _, err := io.WriteString(conn, sent); err != nil {
				t.Fatal(err)
			}
			waitClosed(t, conn, 3*time.Second)
		})
	}
	t.Run("H12 slow reader", func(t *testing.T) {
		asked := make(chan struct{}, 1)
		p := serveOne(t, func(c *httpapi.Config) {
			c.Limits.WriteTimeout = 100 * time.Millisecond
			c.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				asked <- struct{}{}
				for range 64 { // more than the sockets hold
					if _, err := w.Write(make([]byte, 1<<20)); err != nil {
						return
					}
				}
			})
		})
		conn := p.dial()
		defer conn.Close()
		if _, err := io.WriteString(conn, "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		<-asked
		// Nothing is read: the server must give up by itself.
		eventually(t, func() error {
			if n := served(t); n > 0 {
				return fmt.Errorf("%d connections are served", n)
			}
			return nil
		})
	})
}

// served counts goroutines that serve a connection.
func served(t *testing.T) int {
	t.Helper()
	var all strings.Builder
	if err := pprof.Lookup("goroutine").WriteTo(&all, 2); err != nil {
		t.Fatal(err)
	}
	return strings.Count(all.String(), "net/http.(*conn).serve(")
}

func TestOddProtocols(t *testing.T) {
	p := serveOne(t)
	for name, test := range map[string]struct {
		sent   string
		status []int
	}{
		"H13 HTTP/2 preface": {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", []int{400, 405, 505}},
		"HTTP/3.0":           {"GET /ping HTTP/3.0\r\nHost: a\r\n\r\n", []int{505}},
		"H13 TLS hello":      {"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n", []int{400}},
		"H13 V1":             {"  V1PING\n\n", []int{400}},
		"H13 CONNECT":        {"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", []int{404}},
		"H13 absolute URI":   {"GET http://elsewhere/ping HTTP/1.1\r\nHost: a\r\n\r\n", []int{200}},
		"asterisk":           {"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", []int{200}},
		"no Host":            {"GET /ping HTTP/1.1\r\n\r\n", []int{400}},
		"HTTP/1.0":           {"GET /ping HTTP/1.0\r\n\r\n", []int{200}},
		"no slash":           {"GET ping HTTP/1.1\r\nHost: a\r\n\r\n", []int{400}},
	} {
		t.Run(name, func(t *testing.T) {
			a := p.raw(test.sent, "GET")
			if !slices.Contains(test.status, a.status) {
				t.Errorf("%d %s, want %v", a.status, a.body, test.status)
			}
		})
	}
}

func TestConnectionLimits(t *testing.T) {
	for name, adjust := range map[string]func(*httpapi.Config){
		"per address": func(c *httpapi.Config) { c.Limits.ConnectionsPerAddress = 2 },
		"in all":      func(c *httpapi.Config) { c.Limits.Connections = 2 },
	} {
		t.Run(name, func(t *testing.T) {
			p := serveOne(t, adjust)
			keep := make([]net.Conn, 2)
			for i := range keep {
				keep[i] = p.dial()
				defer keep[i].Close()
				fmt.Fprint(keep[i], "GET /ping HTTP/1.1\r\nHost: a\r\n\r\n")
				if a := readAnswer(t, keep[i], "GET"); a.status != 200 {
					t.Fatalf("connection %d: %d", i, a.status)
				}
			}
			third := p.dial()
			defer third.Close()
			waitClosed(t, third, time.Second)
			keep[0].Close()
			eventually(t, func() error { return tryPing(p.addr) })
		})
	}
}

func tryPing(addr string) error {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Second}
	resp, err := client.Get("http://" + addr + "/ping")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		return errors.New(resp.Status)
	}
	return nil
}

// TestLogLines: who changed what is told, text from clients is cut, and a bad
// client cannot fill the log.
func TestLogLines(t *testing.T) {
	var logged lockedBuffer
	p := serveOne(t, func(c *httpapi.Config) { c.Logger = slog.New(slog.NewTextHandler(&logged, nil)) })
	p.cluster.propose(p.id, registry.CreateTopic{Topic: "t"})
	wantDone(t, p, "POST /topic/create?topic=u")
	wantDone(t, p, "POST /topic/tombstone?topic=t&node=a%0Ab"+strings.Repeat("z", 1000))
	p.do("GET /topics")
	p.do("GET /debug/pprof/cmdline")
	text := logged.String()
	for _, want := range []string{`msg="HTTP write /topic/create" topic=u index=2 changed=true remote=127.0.0.1:`, `node="a\nbzz`, `msg="admin request"`} {
		if !contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if contains(text, strings.Repeat("z", 200)) || contains(text, "/topics") {
		t.Errorf("too much in the log:\n%s", text)
	}
	for range 30 {
		p.do("POST /topic/create?topic=x", "Origin: http://evil.example")
	}
	if n := strings.Count(logged.String(), "HTTP request refused"); n == 0 || n > 20 {
		t.Errorf("%d lines on 30 bad requests", n)
	}
}

// lockedBuffer is a log that a test reads while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
