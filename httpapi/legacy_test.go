package httpapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lookupd/lookupd/httpapi"
	"github.com/lookupd/lookupd/registry"
)

const (
	jsonType = "application/json; charset=utf-8"
	nsqType  = "nsq; version=1.0"
	n1       = `"remote_address":"10.0.0.1:5000","hostname":"n1.local","broadcast_address":"n1","tcp_port":4150,"http_port":4151,"version":"1.3.0","topology_zone":"","topology_region":""`
	n2       = `"remote_address":"10.0.0.1:5000","hostname":"n2.local","broadcast_address":"n2","tcp_port":4150,"http_port":4151,"version":"1.3.0","topology_zone":"z","topology_region":"r\u003c"`
)

// serveSeeded serves one peer with topics bare, empty (no channel), t (channels
// c and d, producers n1 and n2) and e#ephemeral.
func serveSeeded(t *testing.T, adjust ...func(*httpapi.Config)) *peer {
	t.Helper()
	p := serveOne(t, adjust...)
	zoned := nsqd("n2")
	zoned.TopologyZone, zoned.TopologyRegion = "z", "r<"
	p.cluster.propose(p.id, registry.CreateTopic{Topic: "bare"})
	p.producer(1, zoned, [2]string{"t", "d"}, [2]string{"t", "c"}, [2]string{"e#ephemeral", ""})
	p.producer(2, nsqd("n1"), [2]string{"t", "c"}, [2]string{"empty", ""})
	p.producer(3, nsqd("n0"))
	return p
}

func message(code string) string { return `{"message":"` + code + `"}` }

func TestLegacyReads(t *testing.T) {
	p := serveSeeded(t)
	for _, test := range []struct {
		request string
		status  int
		body    string
	}{
		{"GET /info", 200, `{"version":"9.8.7"}`},
		{"GET /topics", 200, `{"topics":["bare","e#ephemeral","empty","t"]}`},
		{"GET /topics?topic=%zz;", 200, `{"topics":["bare","e#ephemeral","empty","t"]}`},
		{"GET /info?%zz", 200, `{"version":"9.8.7"}`},
		{"GET /lookup?topic=t", 200, `{"channels":["c","d"],"producers":[{` + n1 + `},{` + n2 + `}]}`},
		{"GET /lookup?topic=t&channel=c&format=json", 200, `{"channels":["c","d"],"producers":[{` + n1 + `},{` + n2 + `}]}`},
		{"GET /lookup?topic=empty", 200, `{"channels":[],"producers":[{` + n1 + `}]}`},
		{"GET /lookup?topic=bare", 200, `{"channels":[],"producers":[]}`},
		{"GET /lookup?topic=e%23ephemeral", 200, `{"channels":[],"producers":[{` + n2 + `}]}`},
		{"GET /channels?topic=t", 200, `{"channels":["c","d"]}`},
		{"GET /channels?topic=bare", 200, `{"channels":[]}`},
		{"GET /channels?topic=nope", 200, `{"channels":[]}`},
		{"GET /channels?topic=", 200, `{"channels":[]}`},
		{"GET /channels?topic=a%00b", 200, `{"channels":[]}`},
		{"GET /channels", 400, message("MISSING_ARG_TOPIC")},
		{"GET /nodes?%zz", 200, `{"producers":[` +
			`{` + strings.ReplaceAll(n1, "n1", "n0") + `,"tombstones":[],"topics":[]},` +
			`{` + n1 + `,"tombstones":[false,false],"topics":["empty","t"]},` +
			`{` + n2 + `,"tombstones":[false,false],"topics":["e#ephemeral","t"]}]}`},
		{"GET /debug/pprof/nope", 404, message("NOT_FOUND")},
	} {
		t.Run(test.request, func(t *testing.T) {
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
}

func TestPing(t *testing.T) {
	a := serveOne(t).do("GET /ping?%zz")
	want := answer{status: 200, body: "OK", header: http.Header{
		"Content-Type": {"text/plain; charset=utf-8"}, "Content-Length": {"2"}, "Date": a.header["Date"],
	}}
	if diff := cmp.Diff(want, a, cmp.AllowUnexported(answer{})); diff != "" {
		t.Error(diff)
	}
}

func TestLegacyHeadersAreSentAsNsqlookupdWritesThem(t *testing.T) {
	p := serveSeeded(t)
	conn := p.dial()
	defer conn.Close()
	fmt.Fprintf(conn, "GET /topics HTTP/1.0\r\n\r\n")
	raw := readAll(t, conn)
	for _, line := range []string{"\r\nX-NSQ-Content-Type: nsq; version=1.0\r\n", "\r\nX-Lookupd-Index: 4\r\n", "\r\nX-Lookupd-Leader: a\r\n"} {
		if !strings.Contains(raw, line) {
			t.Errorf("no %q in:\n%s", line, raw)
		}
	}
}

func TestRoutesMethodsAndRedirects(t *testing.T) {
	p := serveSeeded(t)
	const get, post = "GET, OPTIONS", "OPTIONS, POST"
	type row struct {
		request  string
		status   int
		allow    string
		location string
		body     string
	}
	rows := []row{
		{"GET /topics/", 301, "", "/topics", "<a href=\"/topics\">Moved Permanently</a>.\n\n"},
		{"GET /Topics", 301, "", "/topics", "<a href=\"/topics\">Moved Permanently</a>.\n\n"},
		{"GET /LOOKUP?topic=t", 301, "", "/lookup?topic=t", "<a href=\"/lookup?topic=t\">Moved Permanently</a>.\n\n"},
		{"GET //lookup?topic=t", 301, "", "/lookup?topic=t", "<a href=\"/lookup?topic=t\">Moved Permanently</a>.\n\n"},
		{"GET /debug/pprof/", 301, "", "/debug/pprof", "<a href=\"/debug/pprof\">Moved Permanently</a>.\n\n"},
		{"POST /topic/create/?topic=x", 307, "", "/topic/create?topic=x", ""},
		{"POST /Topic/Create?topic=x", 307, "", "/topic/create?topic=x", ""},
		{"POST /topics/", 404, "", "", message("NOT_FOUND")},
		{"GET /topic/create/", 404, "", "", message("NOT_FOUND")},
		{"HEAD /topics/", 404, "", "", ""},
		{"HEAD /lookup?topic=t", 405, get, "", ""},
		{"HEAD /ping", 405, get, "", ""},
		{"PATCH /lookup", 405, get, "", message("METHOD_NOT_ALLOWED")},
		{"DELETE /topic/delete?topic=t", 405, post, "", message("METHOD_NOT_ALLOWED")},
		{"POST /debug/pprof/heap", 405, get, "", message("METHOD_NOT_ALLOWED")},
		{"PUT /debug/pprof/symbol", 405, "GET, OPTIONS, POST", "", message("METHOD_NOT_ALLOWED")},
		{"OPTIONS /nope", 404, "", "", message("NOT_FOUND")},
	}
	for _, path := range []string{"/ping", "/info", "/lookup", "/topics", "/channels", "/nodes", "/debug"} {
		rows = append(rows,
			row{"POST " + path, 405, get, "", message("METHOD_NOT_ALLOWED")},
			row{"OPTIONS " + path, 200, get, "", ""})
	}
	for _, path := range []string{"/topic/create", "/topic/delete", "/topic/tombstone", "/channel/create", "/channel/delete"} {
		rows = append(rows,
			row{"GET " + path + "?topic=t", 405, post, "", message("METHOD_NOT_ALLOWED")},
			row{"OPTIONS " + path, 200, post, "", ""})
	}
	for _, test := range rows {
		t.Run("H8 "+test.request, func(t *testing.T) {
			a := p.do(test.request)
			got := row{test.request, a.status, a.header.Get("Allow"), a.header.Get("Location"), a.body}
			if got != test {
				t.Errorf("got  %+v\nwant %+v", got, test)
			}
			wantNSQ := test.status >= 400
			if has := a.header.Get("X-NSQ-Content-Type") != ""; has != wantNSQ {
				t.Errorf("X-NSQ-Content-Type there: %v, want %v", has, wantNSQ)
			}
		})
	}
}

func TestNodesListsAreOfEqualLengthAndNeverNull(t *testing.T) {
	p := serveSeeded(t)
	p.cluster.propose(p.id, registry.Tombstone{Topic: "t", Node: "n1:4151"})
	a := p.do("GET /nodes")
	if strings.Contains(a.body, "null") {
		t.Errorf("a null in %s", a.body)
	}
	var got struct {
		Producers []struct {
			BroadcastAddress string   `json:"broadcast_address"`
			Topics           []string `json:"topics"`
			Tombstones       []bool   `json:"tombstones"`
		} `json:"producers"`
	}
	if err := json.Unmarshal([]byte(a.body), &got); err != nil {
		t.Fatal(err)
	}
	tombstoned := map[string]bool{}
	for _, producer := range got.Producers {
		if producer.Topics == nil || producer.Tombstones == nil || len(producer.Topics) != len(producer.Tombstones) {
			t.Errorf("topics %q, tombstones %v", producer.Topics, producer.Tombstones)
			continue
		}
		for i, topic := range producer.Topics {
			tombstoned[producer.BroadcastAddress+" "+topic] = producer.Tombstones[i]
		}
	}
	want := map[string]bool{"n1 empty": false, "n1 t": true, "n2 e#ephemeral": false, "n2 t": false}
	if diff := cmp.Diff(want, tombstoned); diff != "" {
		t.Error(diff)
	}
	if lookup := p.do("GET /lookup?topic=t"); lookup.body != `{"channels":["c","d"],"producers":[{`+n2+`}]}` {
		t.Errorf("/lookup still shows the tombstoned producer: %s", lookup.body)
	}
}

func TestListsAreNeverNullWhenNothingIsThere(t *testing.T) {
	p := serveOne(t)
	for request, body := range map[string]string{
		"GET /topics":           `{"topics":[]}`,
		"GET /nodes":            `{"producers":[]}`,
		"GET /channels?topic=t": `{"channels":[]}`,
		"GET /debug":            `{}`,
	} {
		if a := p.do(request); a.status != 200 || a.body != body {
			t.Errorf("%s: %d %s", request, a.status, a.body)
		}
	}
}

func TestDebug(t *testing.T) {
	heard := time.Unix(0, 1234567890123456789)
	p := serveOne(t, func(c *httpapi.Config) { c.Sessions = pings{nsqd("n1").ID(): heard} })
	p.cluster.propose(p.id, registry.CreateChannel{Topic: "bare", Channel: "c"})
	p.producer(1, nsqd("n1"), [2]string{"t", "c"})
	p.producer(2, nsqd("n2"))
	p.cluster.propose(p.id, registry.Tombstone{Topic: "t", Node: "n1:4151"})
	entry := func(host string, update, tombstoned, at string) string {
		return `{"broadcast_address":"` + host + `","hostname":"` + host + `.local","http_port":4151,"id":"10.0.0.1:5000",` +
			`"last_update":` + update + `,"tcp_port":4150,"tombstoned":` + tombstoned + `,"tombstoned_at":` + at + `,"version":"1.3.0"}`
	}
	const never = "-6795364578871345152"
	want := `{"channel:t:c":[` + entry("n1", "1234567890123456789", "false", never) + `],` +
		`"client::":[` + entry("n1", "1234567890123456789", "false", never) + `,` + entry("n2", "0", "false", never) + `],` +
		`"topic:t:":[` + entry("n1", "1234567890123456789", "true", "0") + `]}`
	if a := p.do("GET /debug?%zz"); a.body != want {
		t.Errorf("got  %s\nwant %s", a.body, want)
	}
}
