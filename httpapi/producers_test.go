package httpapi_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/httpapi"
	"github.com/lookupd/lookupd/registry"
)

type producersPage struct {
	Producers []struct {
		ID       string
		Sessions []struct {
			ID, Peer, State string
			EndsInSeconds   *float64 `json:"ends_in_seconds"`
			LastPing        *float64 `json:"last_ping_seconds"`
			Pending         int
		}
	}
	Next string
}

func (p *peer) producersPage(query string) (page producersPage, ids []string) {
	p.t.Helper()
	a := p.do("GET /v1/producers" + query)
	if a.status != 200 || a.header.Get("X-Lookupd-Index") == "" {
		p.t.Fatalf("%d %s %v", a.status, a.body, a.header)
	}
	if err := json.Unmarshal([]byte(a.body), &page); err != nil {
		p.t.Fatal(err)
	}
	for _, producer := range page.Producers {
		ids = append(ids, producer.ID)
	}
	return page, ids
}

func TestProducersTellTheirSessions(t *testing.T) {
	c := newFakeCluster(t, "a", "b")
	p := serve(t, c.peers[0], func(c *httpapi.Config) { c.Sessions = pings{nsqd("n1").ID(): time.Now()} })
	other := c.peers[1]
	p.orphans = []cluster.OrphanGroup{{Peer: other.id, EndsIn: 288 * time.Second}, {Peer: p.id, Epoch: 1}}
	p.producer(1, nsqd("n1"), [2]string{"t", ""})
	other.producer(1, nsqd("n1"), [2]string{"t", ""})
	p.producer(2, nsqd("n2"))
	p.cluster.propose(p.id, registry.SuspendSession{Session: registry.SessionID{Node: p.id, Epoch: 1, Seq: 2}, Producer: nsqd("n2").ID()})

	page, ids := p.producersPage("")
	if !slices.Equal(ids, []string{"n1:4150", "n2:4150"}) {
		t.Fatal(ids)
	}
	here, orphan, silent := page.Producers[0].Sessions[0], page.Producers[0].Sessions[1], page.Producers[1].Sessions[0]
	if here.Peer != "a" || here.State != "open" || here.LastPing == nil || *here.LastPing != 1.5 || here.Pending != 2 || here.EndsInSeconds != nil {
		t.Errorf("%+v", here)
	}
	if orphan.Peer != "b" || orphan.State != "orphan" || orphan.EndsInSeconds == nil || *orphan.EndsInSeconds != 288 || orphan.LastPing != nil {
		t.Errorf("%+v", orphan)
	}
	if silent.State != "suspended" {
		t.Errorf("%+v", silent)
	}
	for state, want := range map[string][]string{"open": {"n1:4150"}, "orphan": {"n1:4150"}, "suspended": {"n2:4150"}} {
		if _, ids := p.producersPage("?state=" + state); !slices.Equal(ids, want) {
			t.Errorf("%s: %v", state, ids)
		}
	}
}

func TestProducersPages(t *testing.T) {
	p := serveOne(t)
	var want []string
	for i := range 25 {
		p.producer(uint64(i), nsqd(fmt.Sprintf("n%02d", i)))
		want = append(want, fmt.Sprintf("n%02d:4150", i))
	}
	p.producer(100, nsqd("other"))
	var got []string
	for query := "?prefix=n&limit=10"; ; {
		page, ids := p.producersPage(query)
		got = append(got, ids...)
		if page.Next == "" {
			break
		}
		query = "?prefix=n&limit=10&after=" + page.Next
	}
	if !slices.Equal(got, want) {
		t.Error(got)
	}
	if page, ids := p.producersPage("?prefix=nobody"); len(ids) != 0 || page.Producers == nil {
		t.Error(ids)
	}
	for query, code := range map[string]string{
		"?limit=0": "INVALID_ARG_LIMIT", "?limit=1001": "INVALID_ARG_LIMIT", "?limit=x": "INVALID_ARG_LIMIT",
		"?state=odd": "INVALID_ARG_STATE", "?consistency=odd": "INVALID_ARG_CONSISTENCY", "?a;b": "INVALID_REQUEST",
	} {
		var body struct{ Code, Hint string }
		if a := p.do("GET /v1/producers" + query); a.status != 400 || json.Unmarshal([]byte(a.body), &body) != nil || body.Code != code || body.Hint == "" {
			t.Errorf("%s: %d %s", query, a.status, a.body)
		}
	}
}
