package httpapi_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lookupd/lookupd/httpapi"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
)

// heldViews is a peer whose views are used only when they are let go.
type heldViews struct {
	*fakeNode
	opened chan struct{}
	letGo  chan struct{}
}

func (n *heldViews) View(fn func(*store.View) error) error {
	return n.fsm.View(func(v *store.View) error {
		n.opened <- struct{}{}
		<-n.letGo
		return fn(v)
	})
}

func serveHeld(t *testing.T, adjust ...func(*httpapi.Config)) (*peer, *heldViews) {
	t.Helper()
	held := &heldViews{
		fakeNode: newFakeCluster(t, "a").peers[0],
		opened:   make(chan struct{}, 100), letGo: make(chan struct{}),
	}
	return serve(t, held.fakeNode, append(adjust, func(c *httpapi.Config) { c.Cluster = held })...), held
}

// rendered returns how many answers were "hit" or "miss".
func rendered(t *testing.T, metrics prometheus.Gatherer, which string) (n float64) {
	t.Helper()
	families, err := metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "lookupd_rendered_answers_total" && m.GetLabel()[0].GetValue() == which {
				n = m.GetCounter().GetValue()
			}
		}
	}
	return n
}

// What there is no room for must not take all else along.
func TestTooLargeAnAnswerIsNotKept(t *testing.T) {
	metrics := prometheus.NewRegistry()
	p := serveOne(t, func(c *httpapi.Config) { c.Counters, c.Limits.KeptAnswerBytes = httpapi.NewMetrics(metrics), 4000 })
	for i := range 100 {
		p.cluster.propose(p.id, registry.CreateTopic{Topic: fmt.Sprintf("%03d-%s", i, strings.Repeat("x", 50))})
	}
	p.cluster.propose(p.id, registry.CreateTopic{Topic: "t"})
	for i := range 3 {
		for _, request := range []string{"GET /lookup?topic=t", "GET /topics"} {
			if a := p.do(request); a.status != 200 {
				t.Errorf("%s: %d %s", request, a.status, a.body)
			}
		}
		if hits := rendered(t, metrics, "hit"); hits != float64(i) {
			t.Errorf("%v hits, want %d", hits, i)
		}
	}
}

// Readers that find nothing rendered share one rendering, but never one whose
// view is older than their barrier.
func TestReadersShareARendering(t *testing.T) {
	const readers = 8
	metrics := prometheus.NewRegistry()
	p, held := serveHeld(t, func(c *httpapi.Config) { c.Counters = httpapi.NewMetrics(metrics) })
	old, answers := make(chan answer, 1), make(chan answer, readers)
	go func() { old <- p.do("GET /topics") }()
	<-held.opened
	p.cluster.propose(p.id, registry.CreateTopic{Topic: "new"})
	for range readers {
		go func() { answers <- p.do("GET /topics") }()
	}
	eventually(t, func() error {
		if n := rendered(t, metrics, "miss"); n != readers+1 {
			return fmt.Errorf("%v readers have come", n)
		}
		return nil
	})
	close(held.letGo)
	if a := <-old; a.status != 200 || a.header.Get("X-Lookupd-Index") != "0" {
		t.Errorf("the first: %d %s %v", a.status, a.body, a.header)
	}
	for range readers {
		if a := <-answers; a.status != 200 || a.body != `{"topics":["new"]}` || a.header.Get("X-Lookupd-Index") != "1" {
			t.Errorf("%d %s %v", a.status, a.body, a.header)
		}
	}
	if n := len(held.opened); n > 2 { // one who came just now may have one of his own
		t.Errorf("%d more views for %d readers", n, readers)
	}
}

// An error is shared too, and the next reader begins anew.
func TestReadersShareAnError(t *testing.T) {
	p, held := serveHeld(t)
	close(held.letGo)
	for range 3 {
		if a := p.do("GET /lookup?topic=t"); a.status != 404 || a.body != message("TOPIC_NOT_FOUND") || a.header.Get("X-Lookupd-Index") != "0" {
			t.Errorf("%d %s %v", a.status, a.body, a.header)
		}
	}
	p.cluster.propose(p.id, registry.CreateTopic{Topic: "t"})
	if a := p.do("GET /lookup?topic=t"); a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// /debug is all of the registry, several times over.
func TestDebugIsLimited(t *testing.T) {
	p, held := serveHeld(t)
	answers := make(chan answer, 3)
	ask := func() { answers <- p.do("GET /debug") }
	for range 2 {
		go ask()
		<-held.opened
	}
	go ask()
	select {
	case a := <-answers:
		if a.status != 503 || a.body != message("OVERLOADED") || a.header.Get("Retry-After") == "" {
			t.Errorf("the third: %d %s", a.status, a.body)
		}
	case <-held.opened:
		t.Error("a third is served")
	}
	close(held.letGo)
	for range 2 {
		if a := <-answers; a.status != 200 {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	eventually(t, func() error { // a place is given back when all is written
		if a := p.do("GET /debug"); a.status != 200 {
			return fmt.Errorf("%d %s", a.status, a.body)
		}
		return nil
	})
}
