package httpapi_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/httpapi"
)

func TestLivez(t *testing.T) {
	p := serveOne(t)
	p.loseQuorum(time.Hour)
	p.notReady.Store(true)
	p.server.SetStopping()
	if a := p.do("GET /livez"); a.status != 200 || a.body != "ok\n" {
		t.Errorf("%d %q", a.status, a.body)
	}
	if a := p.do("HEAD /livez"); a.status != 200 || a.body != "" {
		t.Errorf("HEAD: %d %q", a.status, a.body)
	}
}

func TestReadyz(t *testing.T) {
	for _, test := range []struct {
		name    string
		set     func(*peer)
		request string
		status  int
		body    string
	}{
		{"well", func(*peer) {}, "GET /readyz", 200, "[+]state ok\n[+]caught up ok\n[+]quorum ok\n"},
		{"well, strict", func(*peer) {}, "GET /readyz?quorum", 200, "[+]state ok\n[+]caught up ok\n[+]quorum ok\n"},
		{"HEAD", func(*peer) {}, "HEAD /readyz", 200, ""},
		{"no quorum", func(p *peer) { p.loseQuorum(41 * time.Second) }, "GET /readyz", 200, "[+]state ok\n[+]caught up ok\n[!]no quorum for 41s\n"},
		{"no quorum, strict", func(p *peer) { p.loseQuorum(41 * time.Second) }, "GET /readyz?quorum", 503, "[+]state ok\n[+]caught up ok\n[-]no quorum for 41s\n"},
		{
			"starting", func(p *peer) { p.notReady.Store(true) }, "GET /readyz", 503,
			"[+]state ok\n[-]caught up failed: no read barrier completed since the start\n[+]quorum ok\n",
		},
		{"stopping", func(p *peer) { p.server.SetStopping() }, "HEAD /readyz", 503, ""},
		{"stopping, body", func(p *peer) { p.server.SetStopping() }, "GET /readyz", 503, "[+]state ok\n[+]caught up ok\n[-]stopping\n[+]quorum ok\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := serveOne(t, quick)
			test.set(p)
			a := p.do(test.request)
			if a.status != test.status || a.body != test.body || a.header.Get("Content-Type") != "text/plain; charset=utf-8" {
				t.Errorf("%d %q %v", a.status, a.body, a.header)
			}
		})
	}
}

// TestStrictReadyzAsksForAQuorum: a peer that still believes in its leader.
func TestStrictReadyzAsksForAQuorum(t *testing.T) {
	n := newFakeCluster(t, "a").peers[0]
	n.slow = make(chan struct{})
	p := serve(t, n, quick)
	if a := p.do("GET /readyz"); a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := p.do("GET /readyz?quorum"); a.status != 503 {
		t.Errorf("?quorum: %d %s", a.status, a.body)
	}
}

func TestStatus(t *testing.T) {
	p := serveSeeded(t)
	a := p.do("GET /v1/status")
	if a.status != 200 || a.header.Get("Content-Type") != jsonType || a.header.Get("X-Lookupd-Index") != "4" || a.header.Get("X-Lookupd-Leader") != "a" {
		t.Fatalf("%d %v", a.status, a.header)
	}
	var status cluster.Status
	if err := json.Unmarshal([]byte(a.body), &status); err != nil || status.Index != 4 || status.Sentence != "Healthy." {
		t.Errorf("%v in %s", err, a.body)
	}
}

type v1Error struct{ Code, Message, Hint, Leader string }

func TestOwnRoutesErrors(t *testing.T) {
	n := newFakeCluster(t, "a").peers[0]
	n.fail = errors.New("disk on fire")
	p := serve(t, n)
	for _, test := range []struct {
		request, code, allow string
		status               int
	}{
		{"GET /v1/nope", "NOT_FOUND", "", 404},
		{"POST /v1/status", "METHOD_NOT_ALLOWED", "GET, HEAD", 405},
		{"DELETE /livez", "METHOD_NOT_ALLOWED", "GET, HEAD", 405},
		{"GET /v1/status", "INTERNAL_ERROR", "", 500},
	} {
		a := p.do(test.request)
		var e v1Error
		if err := json.Unmarshal([]byte(a.body), &e); err != nil {
			t.Errorf("%s: %v in %s", test.request, err, a.body)
		}
		if a.status != test.status || e.Code != test.code || e.Leader != "a" || e.Message == "" || e.Hint == "" || a.header.Get("Allow") != test.allow {
			t.Errorf("%s: %d %+v %v", test.request, a.status, e, a.header)
		}
	}
}

func TestMetrics(t *testing.T) {
	if a := serveOne(t).do("GET /metrics"); a.status != 404 {
		t.Errorf("without a handler: %d", a.status)
	}
	reg := prometheus.NewRegistry()
	p := serveOne(t, func(c *httpapi.Config) {
		c.Metrics = promhttp.HandlerFor(reg, promhttp.HandlerOpts{})
		c.Counters = httpapi.NewMetrics(reg)
	})
	p.do("GET /topics?consistency=stale")
	p.do("GET /weird/" + "path")
	p.do("GET /topics", "Content-Length: 100000")
	a := p.do("GET /metrics")
	if a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	for _, line := range []string{
		`lookupd_http_request_duration_seconds_count{code="200",route="/topics"} 1`,
		`lookupd_http_request_duration_seconds_count{code="404",route="other"} 1`,
		`lookupd_http_request_duration_seconds_count{code="413",route="/topics"} 1`,
		`lookupd_stale_reads_total{reason="asked"} 1`,
		`lookupd_refused_total{listener="http",reason="body_too_big"} 1`,
		`lookupd_connections{listener="http"} `,
	} {
		if !contains(a.body, line) {
			t.Errorf("no line %s in\n%s", line, a.body)
		}
	}
}
