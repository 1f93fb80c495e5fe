package httpapi_test

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/httpapi"
	"github.com/lookupd/lookupd/registry"
)

var registryReads = []string{"/lookup?topic=t&", "/channels?topic=t&", "/topics?", "/nodes?", "/debug?"}

func quick(c *httpapi.Config) { c.Limits.AnswerWithin = 50 * time.Millisecond }

func TestReadsNameTheirStateAndItsAge(t *testing.T) {
	p := serveSeeded(t)
	for _, path := range registryReads {
		for query, stale := range map[string]string{
			"": "", "consistency=linearizable": "", "consistency=stale": "1501", "consistency=stale&consistency=x": "1501",
		} {
			a := p.do("GET " + path + query)
			if a.status != 200 || a.header.Get("X-Lookupd-Index") != "4" || a.header.Get("X-Lookupd-Leader") != "a" {
				t.Errorf("%s%s: %d %v", path, query, a.status, a.header)
			}
			if got := a.header.Get("X-Lookupd-Stale-Ms"); got != stale {
				t.Errorf("%s%s: X-Lookupd-Stale-Ms %q, want %q", path, query, got, stale)
			}
		}
		for _, bad := range []string{"consistency=", "consistency=Stale", "consistency=x&consistency=stale"} {
			if a := p.do("GET " + path + bad); a.status != 400 || a.body != message("INVALID_ARG_CONSISTENCY") {
				t.Errorf("%s%s: %d %s", path, bad, a.status, a.body)
			}
		}
	}
	if a := p.do("GET /lookup?topic=nope"); a.header.Get("X-Lookupd-Index") != "4" {
		t.Errorf("a 404 of /lookup does not say which state it shows: %v", a.header)
	}
}

// wantUnavailable checks a 503: its code, and that the client will dial anew.
func wantUnavailable(t *testing.T, what string, a answer, code string) {
	t.Helper()
	if a.status != 503 || a.body != message(code) {
		t.Errorf("%s: %d %s, want 503 %s", what, a.status, a.body, code)
	}
	if a.header.Get("Retry-After") != "1" || !a.closed || a.header.Get("X-NSQ-Content-Type") != nsqType {
		t.Errorf("%s: closed %v, %v", what, a.closed, a.header)
	}
}

func TestReadsWithoutAQuorum(t *testing.T) {
	p := serveSeeded(t, quick)
	p.loseQuorum(time.Minute)
	for _, path := range registryReads {
		for _, query := range []string{"", "consistency=linearizable"} {
			a := p.do("GET " + path + query)
			if path == "/channels?topic=t&" && query == "" {
				if a.status != 200 || a.body != `{"channels":["c","d"]}` || a.header.Get("X-Lookupd-Stale-Ms") != "1501" ||
					a.header.Get("X-Lookupd-Leader") != "none" || a.header.Get("X-Lookupd-Index") != "4" {
					t.Errorf("/channels did not fall back to a marked stale answer: %d %s %v", a.status, a.body, a.header)
				}
				continue
			}
			wantUnavailable(t, path+query, a, "NO_QUORUM")
			if a.header.Get("X-Lookupd-Leader") != "none" {
				t.Errorf("%s: %v", path, a.header)
			}
		}
		if a := p.do("GET " + path + "consistency=stale"); a.status != 200 || a.header.Get("X-Lookupd-Stale-Ms") != "1501" {
			t.Errorf("stale %s: %d %v", path, a.status, a.header)
		}
	}
	for _, request := range []string{"GET /ping", "GET /info", "GET /livez", "GET /readyz"} {
		if a := p.do(request); a.status != 200 {
			t.Errorf("%s without a quorum: %d", request, a.status)
		}
	}
}

func TestNoQuorumIsAnsweredWithinASecond(t *testing.T) {
	const machine = 5 * time.Second // what one that does much else may add
	within := httpapi.DefaultConfig().Limits.AnswerWithin
	if within >= time.Second {
		t.Errorf("the default is %v", within)
	}
	p := serveSeeded(t)
	p.loseQuorum(time.Minute)
	for _, request := range []string{"GET /lookup?topic=t", "POST /topic/create?topic=x"} {
		began := time.Now()
		wantUnavailable(t, request, p.do(request), "NO_QUORUM")
		if took := time.Since(began); took > within+machine {
			t.Errorf("%s took %v", request, took)
		}
	}
}

func TestOnNoQuorumStale(t *testing.T) {
	p := serveSeeded(t, quick, func(c *httpapi.Config) { c.OnNoQuorumStale = true })
	p.loseQuorum(time.Minute)
	for _, path := range registryReads {
		if a := p.do("GET " + path); a.status != 200 || a.header.Get("X-Lookupd-Stale-Ms") != "1501" {
			t.Errorf("%s: %d %v", path, a.status, a.header)
		}
		wantUnavailable(t, "a linearizable read that was asked for", p.do("GET "+path+"consistency=linearizable"), "NO_QUORUM")
	}
	wantUnavailable(t, "a write", p.do("POST /topic/create?topic=x"), "NO_QUORUM")
}

func TestNotReady(t *testing.T) {
	p := serveSeeded(t, quick, func(c *httpapi.Config) { c.OnNoQuorumStale = true })
	p.notReady.Store(true)
	for _, path := range registryReads {
		for _, query := range []string{"", "consistency=stale", "consistency=linearizable"} {
			wantUnavailable(t, path+query, p.do("GET "+path+query), "NOT_READY")
		}
	}
}

func TestErrorsOfTheClusterHaveTheirCodes(t *testing.T) {
	for _, test := range []struct {
		err    error
		status int
		code   string
	}{
		{fmt.Errorf("x: %w", cluster.ErrOverloaded), 503, "OVERLOADED"},
		{cluster.ErrStopped, 503, "STOPPING"},
		{fmt.Errorf("%w: no leader", cluster.ErrNoQuorum), 503, "NO_QUORUM"},
		{errors.New("disk on fire"), 500, "INTERNAL_ERROR"},
	} {
		n := newFakeCluster(t, "a").peers[0]
		n.fail = test.err
		p := serve(t, n)
		for _, request := range []string{"GET /topics", "POST /topic/create?topic=t", "POST /topic/delete?topic=%00"} {
			if a := p.do(request); a.status != test.status || a.body != message(test.code) {
				t.Errorf("%s after %v: %d %s", request, test.err, a.status, a.body)
			}
		}
	}
}

func TestLinearizableReadsAreLimited(t *testing.T) {
	n := newFakeCluster(t, "a").peers[0]
	n.slow = make(chan struct{})
	// All must have come before the first one's time is over.
	p := serve(t, n, func(c *httpapi.Config) { c.Limits.LinearizableReads, c.Limits.AnswerWithin = 1, time.Second })
	answers := make(chan answer)
	const readers = 8
	for range readers {
		go func() { answers <- p.do("GET /topics") }()
	}
	codes := make(map[string]int)
	for range readers {
		codes[(<-answers).body]++
	}
	// The place is taken by one after another until each is out of time.
	if codes[message("OVERLOADED")] == 0 || codes[message("OVERLOADED")]+codes[message("NO_QUORUM")] != readers {
		t.Errorf("answers: %v", codes)
	}
	close(n.slow)
	eventually(t, func() error {
		if a := p.do("GET /topics"); a.status != http.StatusOK {
			return errors.New("the place was not given back: " + a.body)
		}
		return nil
	})
}

func TestLinearizableReadShowsWhatWasWrittenThroughAnotherPeer(t *testing.T) {
	c := newFakeCluster(t, "a", "b")
	b := serve(t, c.peers[1])
	c.setPaused(c.peers[1], true)
	c.propose(c.peers[0].id, registry.CreateTopic{Topic: "new"})
	if a := b.do("GET /topics?consistency=stale"); a.body != `{"topics":[]}` {
		t.Errorf("stale: %s", a.body)
	}
	got := make(chan answer, 1)
	go func() { got <- b.do("GET /topics") }()
	c.setPaused(c.peers[1], false)
	if a := <-got; a.body != `{"topics":["new"]}` {
		t.Errorf("linearizable: %d %s", a.status, a.body)
	}
}

// TestKeptAnswersShowTheirIndex: entry 1, 4, 7... adds a channel, 2, 5, 8... a topic, 3, 6, 9... a
// producer, so each answer tells whether it is of the index that it names. That must be at least
// the last one that was acknowledged before the request was sent.
func TestKeptAnswersShowTheirIndex(t *testing.T) {
	const entries = 300
	holds := map[string]func(index uint64) uint64{ // how many names an answer has at index
		"/lookup?topic=t":                   func(i uint64) uint64 { return (i + 2) / 3 },
		"/lookup?topic=t&consistency=stale": func(i uint64) uint64 { return (i + 2) / 3 },
		"/topics":                           func(i uint64) uint64 { return (i + 1) / 3 },
		"/nodes":                            func(i uint64) uint64 { return i / 3 },
	}
	for name, room := range map[string]int{"all kept": 32 << 20, "room for few": 4000, "no room": 0} {
		t.Run(name, func(t *testing.T) {
			p := serveOne(t, func(c *httpapi.Config) { c.Limits.KeptAnswerBytes = room })
			p.cluster.propose(p.id, registry.CreateChannel{Topic: "t", Channel: "name-1"})
			var acknowledged atomic.Uint64
			acknowledged.Store(1)
			var readers sync.WaitGroup
			for path, want := range holds {
				readers.Go(func() {
					for last := uint64(0); last < entries; {
						before := acknowledged.Load()
						a := p.do("GET " + path)
						index, err := strconv.ParseUint(a.header.Get("X-Lookupd-Index"), 10, 64)
						if err != nil || a.status != 200 || index < max(before, last) {
							t.Errorf("%s: %d %v, after index %d and %d acknowledged", path, a.status, a.header, last, before)
							return
						}
						last = index
						if got := uint64(strings.Count(a.body, "name-")); got != want(index) {
							t.Errorf("%s at index %d has %d names, want %d", path, index, got, want(index))
							return
						}
					}
				})
			}
			for i := uint64(2); i <= entries; i++ {
				name := fmt.Sprint("name-", i)
				var change registry.Command
				switch i % 3 {
				case 1:
					change = registry.CreateChannel{Topic: "t", Channel: name}
				case 2:
					change = registry.CreateTopic{Topic: name}
				case 0:
					info := nsqd("host")
					info.BroadcastAddress = name
					change = registry.OpenSession{Session: registry.SessionID{Node: p.id, Epoch: 1, Seq: i}, Producer: info}
				}
				_, index := p.cluster.propose(p.id, change)
				acknowledged.Store(index)
			}
			readers.Wait()
		})
	}
}
