package httpapi_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/fsm"
	"github.com/lookupd/lookupd/httpapi"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
)

func (p *peer) names() (topics, channels []string) {
	p.t.Helper()
	err := p.View(func(v *store.View) error {
		topics = v.Topics()
		for _, topic := range topics {
			for _, channel := range v.Channels(topic) {
				channels = append(channels, topic+"/"+channel)
			}
		}
		return nil
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return topics, channels
}

func TestSnapshotIsTheState(t *testing.T) {
	p := serveSeeded(t)
	topics, _ := p.names()
	a := p.do("GET /v1/snapshot")
	if a.status != 200 || a.header.Get("Content-Type") != "application/octet-stream" || a.header.Get("X-Lookupd-Index") != "4" {
		t.Fatalf("%d %v", a.status, a.header)
	}
	err := fsm.ReadSnapshot(strings.NewReader(a.body), t.TempDir(), func(info fsm.SnapshotInfo, v *store.View) error {
		if info.Index != 4 || info.ClusterID != "test" || !slices.Equal(v.Topics(), topics) {
			return fmt.Errorf("%+v %v", info, v.Topics())
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if a := p.do("HEAD /v1/snapshot"); a.status != 200 || a.body != "" {
		t.Errorf("HEAD: %d, %d bytes", a.status, len(a.body))
	}
	if a := serveFar(t).do("GET /v1/snapshot"); a.status != 403 {
		t.Errorf("from elsewhere: %d", a.status)
	}
}

func TestSnapshotWithoutAQuorum(t *testing.T) {
	p := serveOne(t, quick)
	p.loseQuorum(time.Minute)
	if a := p.do("GET /v1/snapshot"); a.status != 503 || !contains(a.body, `"code":"NO_QUORUM"`) {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := p.do("GET /v1/snapshot?consistency=stale"); a.status != 200 || a.header.Get("X-Lookupd-Stale-Ms") != "1501" {
		t.Errorf("stale: %d %s", a.status, a.body)
	}
	p.notReady.Store(true)
	if a := p.do("GET /v1/snapshot?consistency=stale"); a.status != 503 || !contains(a.body, `"code":"NOT_READY"`) {
		t.Errorf("not ready: %d %s", a.status, a.body)
	}
}

// post sends a body.
func (p *peer) post(target, body string) answer {
	p.t.Helper()
	return p.raw(fmt.Sprintf("POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", target, len(body), body), "POST")
}

func TestImport(t *testing.T) {
	p := serveOne(t)
	p.cluster.propose(p.id, registry.CreateChannel{Topic: "old", Channel: "c"}, registry.CreateChannel{Topic: "kept", Channel: "gone"})
	a := p.post("/v1/import", `{"create":[{"topic":"new","channels":["a","b#ephemeral"]},{"topic":"kept"}],"delete":[{"topic":"old"},{"topic":"kept","channels":["gone","never"]}]}`)
	if a.status != 200 || a.header.Get("X-Lookupd-Index") != "2" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	golden(t, "import", a.body)
	topics, channels := p.names()
	if fmt.Sprint(topics, channels) != "[kept new] [new/a new/b#ephemeral]" {
		t.Errorf("%v %v", topics, channels)
	}
}

// importOf names topics with a channel each: two commands for one.
func importOf(topics int) string {
	var list []string
	for i := range topics {
		list = append(list, fmt.Sprintf(`{"topic":"t%03d","channels":["c"]}`, i))
	}
	return `{"create":[` + strings.Join(list, ",") + `]}`
}

func TestImportHoldsOneProposal(t *testing.T) {
	p := serveOne(t)
	if a := p.post("/v1/import", importOf(cluster.MaxProposalCommands/2)); a.status != 200 || !contains(a.body, `"changed":256`) {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestImportIsRefusedWhole(t *testing.T) {
	p := serveOne(t, func(c *httpapi.Config) { c.Limits.Topics = 2 })
	for name, test := range map[string]struct {
		body, code string
		status     int
	}{
		"no JSON":           {"create", "INVALID_BODY", 400},
		"empty":             {"", "INVALID_BODY", 400},
		"nothing":           {"{}", "INVALID_BODY", 400},
		"unknown field":     {`{"create":[{"topic":"t"}],"destroy":[]}`, "INVALID_BODY", 400},
		"two documents":     {`{"create":[{"topic":"t"}]}{}`, "INVALID_BODY", 400},
		"B5 bad topic":      {`{"create":[{"topic":"t"},{"topic":"a b"}]}`, "INVALID_ARG_TOPIC", 400},
		"B5 bad channel":    {`{"create":[{"topic":"t","channels":["*"]}]}`, "INVALID_ARG_CHANNEL", 400},
		"B5 bad name to go": {`{"create":[{"topic":"t"}],"delete":[{"topic":"*"}]}`, "INVALID_ARG_TOPIC", 400},
		"more than 64 KiB":  {`{"create":[{"topic":"t","channels":["` + strings.Repeat("x", 70_000) + `"]}]}`, "BODY_TOO_BIG", 413},
		"too many changes":  {importOf(cluster.MaxProposalCommands/2 + 1), "TOO_MANY_CHANGES", 413},
	} {
		t.Run(name, func(t *testing.T) {
			a := p.post("/v1/import", test.body)
			if a.status != test.status || !contains(a.body, `"code":"`+test.code+`"`) {
				t.Errorf("%d %s", a.status, a.body)
			}
			if topics, _ := p.names(); len(topics) > 0 {
				t.Fatalf("something was done: %v", topics)
			}
		})
	}
	if a := p.post("/v1/import", `{"create":[{"topic":"t"},{"topic":"u"}]}`); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if a := p.post("/v1/import", `{"create":[{"topic":"v"}]}`); a.status != 507 {
		t.Errorf("above the limit: %d %s", a.status, a.body)
	}
	if a := serveFar(t).post("/v1/import", `{"create":[{"topic":"t"}]}`); a.status != 403 {
		t.Errorf("from elsewhere: %d %s", a.status, a.body)
	}
}
