package httpapi_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/httpapi"
	"github.com/lookupd/lookupd/registry"
)

// TestQuickAnswersAreThoseOfNetHTTP asks the same twice, once with a header that
// leaves the connection to net/http.
func TestQuickAnswersAreThoseOfNetHTTP(t *testing.T) {
	p := serveOne(t)
	p.producer(1, nsqd("h1"), [2]string{"t", "c"})
	var names []registry.Command
	for i := range 1000 { // too long an answer for one write
		names = append(names, registry.CreateTopic{Topic: fmt.Sprint(strings.Repeat("long", 8), i)})
	}
	p.cluster.propose(p.id, names...)
	compare := func(target string) {
		t.Helper()
		quick, slow := p.do("GET "+target), p.do("GET "+target, "X-Other: 1")
		for _, a := range []answer{quick, slow} {
			if at, err := http.ParseTime(a.header.Get("Date")); err != nil || time.Since(at) > time.Minute {
				t.Errorf("%s: date %q, %v", target, a.header.Get("Date"), err)
			}
			a.header.Del("Date")
			a.header.Del("X-Lookupd-Stale-Ms")
		}
		if slow.header.Get("Content-Length") == "" { // net/http does not count so far
			quick.header.Del("Content-Length")
		}
		if quick.status != slow.status || quick.body != slow.body || quick.closed != slow.closed || !maps.EqualFunc(quick.header, slow.header, slices.Equal) {
			t.Errorf("%s is answered\n%.300v\nand by net/http\n%.300v", target, quick, slow)
		}
	}
	targets := []string{
		"/lookup?topic=t", "/lookup?topic=absent", "/lookup?topic=*", "/lookup?topic=%zz", "/lookup?topic=%74", "/%6cookup?topic=t", "/lookup",
		"/lookup?topic=t&consistency=x", "/lookup?topic=t&consistency=stale", "/topics", "/topics?a=b;c", "/channels?topic=t", "/nodes", "/nodes?",
	}
	for _, target := range targets {
		compare(target)
	}
	for _, trouble := range []error{cluster.ErrNoQuorum, cluster.ErrNotReady, cluster.ErrOverloaded, io.ErrUnexpectedEOF} {
		p.fail = trouble
		for _, target := range targets {
			compare(target)
		}
	}
}

// TestQuickPaths tells who has the connection after each request on it.
func TestQuickPaths(t *testing.T) {
	for request, quick := range map[string]bool{
		"GET /lookup?topic=t HTTP/1.1\r\nHost: a\r\n\r\n":                                                                     true,
		"GET /lookup?topic=t HTTP/1.1\r\nhost: [::1]:4161\r\nuser-agent: x y\r\nACCEPT: */*\r\nAccept-Encoding: gzip\r\n\r\n": true,
		"GET /lookup?topic=t HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer x\r\n\r\n":                                          false,
		"GET /lookup?topic=t HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab":                                              false,
		"GET /lookup?topic=t HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n":                              false,
		"GET /lookup?topic=t HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n":                                                false,
		"GET /lookup?topic=t HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n":                                                          false,
		"GET /lookup?topic=t HTTP/1.1\r\nHost: a/b\r\n\r\n":                                                                   false,
		"GET /lookup?topic=t HTTP/1.1\r\nHost : a\r\n\r\n":                                                                    false,
		"GET /lookup?topic=t HTTP/1.1\r\nHost: a\r\nAccept: a\r\n b\r\n\r\n":                                                  false,
		"GET /lookup?topic=t HTTP/1.1\nHost: a\n\n":                                                                           false,
		"GET /lookup?topic=t HTTP/1.1\r\nHost: a\r\nAccept: \x00\r\n\r\n":                                                     false,
		"GET /lookup?topic=t HTTP/1.1\r\n\r\n":                                                                                false,
		"GET /lookup?topic=t HTTP/1.0\r\nHost: a\r\n\r\n":                                                                     false,
		"GET http://a/lookup?topic=t HTTP/1.1\r\nHost: b\r\n\r\n":                                                             false,
		"GET /lookup?topic= t HTTP/1.1\r\nHost: a\r\n\r\n":                                                                    false,
		"HEAD /lookup?topic=t HTTP/1.1\r\nHost: a\r\n\r\n":                                                                    false,
		"GET /ping HTTP/1.1\r\nHost: a\r\n\r\n":                                                                               false,
		"GET /lookup/?topic=t HTTP/1.1\r\nHost: a\r\n\r\n":                                                                    false,
		"GET /lookup?topic=" + strings.Repeat("t", 5000) + " HTTP/1.1\r\nHost: a\r\n\r\n":                                     false,
		"GET /lookup?topic=t HTTP/1.1\r\nHost: a\r\nUser-Agent: " + strings.Repeat("x", 5000) + "\r\n\r\n":                    false,
	} {
		p := serveOne(t)
		conn := p.dial()
		if _, err := io.WriteString(conn, request); err != nil {
			t.Fatal(err)
		}
		method, _, _ := strings.Cut(request, " ")
		readAnswer(t, conn, method)
		if got := p.server.QuickConns() == 1; got != quick {
			t.Errorf("%.80q: quick is %v", request, got)
		}
		conn.Close()
	}
}

// TestQuickThenNot: requests on one connection, sent together and in odd parts,
// are answered in order, whoever answers.
func TestQuickThenNot(t *testing.T) {
	p := serveOne(t)
	for _, topic := range []string{"t0", "t1", "t2"} {
		p.cluster.propose(p.id, registry.CreateChannel{Topic: topic, Channel: "c-" + topic})
	}
	plain := func(topic string) string { return "GET /channels?topic=" + topic + " HTTP/1.1\r\nHost: a\r\n\r\n" }
	post := "POST /topic/create?topic=t3 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
	all := plain("t0") + plain("t1") + post + plain("t2") + post + plain("t0")
	want := []string{"c-t0", "c-t1", "", "c-t2", "", "c-t0"}
	for cut := 0; cut < len(all); cut += 7 {
		conn := p.dial()
		answers := bufio.NewReader(conn)
		for _, part := range []string{all[:cut], all[cut:]} {
			if _, err := io.WriteString(conn, part); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Duration(cut%3) * time.Millisecond) // together, or not
		}
		for i, channel := range want {
			response, err := http.ReadResponse(answers, nil)
			if err != nil {
				t.Fatalf("cut at %d, answer %d: %v", cut, i, err)
			}
			body, err := io.ReadAll(response.Body)
			if err != nil || response.StatusCode != http.StatusOK || !bytes.Contains(body, []byte(channel)) {
				t.Fatalf("cut at %d, answer %d: %d %q, %v", cut, i, response.StatusCode, body, err)
			}
		}
		conn.Close()
	}
}

// TestQuickConnectionsEnd by the same times as those of net/http: before the
// first byte, within a request, and between two.
func TestQuickConnectionsEnd(t *testing.T) {
	const short, long = 50 * time.Millisecond, time.Hour
	for name, c := range map[string]struct {
		send         string
		header, idle time.Duration
	}{
		"silent from the start": {"", short, long},
		"half a request":        {"GET /topics HTTP/1.1\r\nHo", short, long},
		"silent after a while":  {"GET /topics HTTP/1.1\r\nHost: a\r\n\r\n", time.Minute, short},
		"half of the next one":  {"GET /topics HTTP/1.1\r\nHost: a\r\n\r\nGET /to", short, long},
	} {
		t.Run(name, func(t *testing.T) {
			p := serveOne(t, func(cfg *httpapi.Config) {
				cfg.Limits.HeaderTimeout, cfg.Limits.IdleTimeout = c.header, c.idle
			})
			conn := p.dial()
			defer conn.Close()
			if _, err := io.WriteString(conn, c.send); err != nil {
				t.Fatal(err)
			}
			waitClosed(t, conn, 5*time.Second)
			eventually(t, func() error {
				if n := p.server.QuickConns(); n != 0 {
					return fmt.Errorf("%d connections are left", n)
				}
				return nil
			})
		})
	}
}

// FuzzQuickHead: what is taken for a plain request is the same to net/http,
// without a body and to the last byte.
func FuzzQuickHead(f *testing.F) {
	for _, request := range []string{
		"GET /lookup?topic=t HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /nodes HTTP/1.1\r\nhost: [::1%25eth0]:80\r\nAccept: */*\r\nUser-Agent: go\r\nAccept-Encoding: gzip\r\n\r\nGET /",
		"GET /topics HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\na",
		"GET /topics HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
		"GET  /topics HTTP/1.1\r\nHost: a\r\n\r\n", "GET /a b HTTP/1.1\r\nHost:a\r\n\r\n", "GET /%zz HTTP/1.1 HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET * HTTP/1.1\r\nHost: -\r\n\r\n", "GET /#x?y HTTP/1.1\r\nHost: ]\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\n\r\n",
	} {
		f.Add([]byte(request))
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		target, host, length, ok := httpapi.QuickHead(sent)
		if !ok {
			return
		}
		if length > len(sent) {
			t.Fatalf("%d of %d bytes", length, len(sent))
		}
		rest := bytes.NewReader(sent[:length])
		whole := bufio.NewReader(rest)
		r, err := http.ReadRequest(whole)
		if err != nil {
			if _, bad := url.ParseRequestURI(target); bad == nil { // else take leaves it to net/http
				t.Errorf("%q is no request to net/http: %v", sent[:length], err)
			}
			return
		}
		if r.Method != http.MethodGet || r.RequestURI != target || r.Host != host || r.ContentLength != 0 || r.Close || r.TransferEncoding != nil {
			t.Errorf("%q is %q of %q here and to net/http %+v", sent[:length], target, host, r)
		}
		if whole.Buffered() > 0 || rest.Len() > 0 {
			t.Errorf("%q: net/http reads less", sent[:length])
		}
	})
}
