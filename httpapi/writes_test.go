package httpapi_test

import (
	"strings"
	"testing"
	"time"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/httpapi"
	"github.com/lookupd/lookupd/registry"
)

func TestWriteArguments(t *testing.T) {
	p := serveSeeded(t)
	long := strings.Repeat("x", 65)
	for _, test := range []struct {
		request, code string
		status        int
	}{
		{"POST /topic/create", "MISSING_ARG_TOPIC", 400},
		{"POST /topic/delete", "MISSING_ARG_TOPIC", 400},
		{"POST /topic/delete?topic=%zz", "INVALID_REQUEST", 400},
		{"POST /topic/tombstone", "MISSING_ARG_TOPIC", 400},
		{"POST /topic/tombstone?node=x:1", "MISSING_ARG_TOPIC", 400},
		{"POST /topic/tombstone?topic=t", "MISSING_ARG_NODE", 400},
		{"POST /topic/tombstone?topic=%zz", "INVALID_REQUEST", 400},
	} {
		if a := p.do(test.request); a.status != test.status || a.body != message(test.code) || a.header.Get("Content-Type") != jsonType {
			t.Errorf("%s: %d %s", test.request, a.status, a.body)
		}
	}
	for _, path := range []string{"/channel/create", "/channel/delete"} {
		for query, code := range map[string]string{
			"": "MISSING_ARG_TOPIC", "?channel=c": "MISSING_ARG_TOPIC", "?topic=&channel=": "INVALID_ARG_TOPIC",
			"?topic=*": "INVALID_ARG_TOPIC", "?topic=t": "MISSING_ARG_CHANNEL", "?topic=t&channel=": "INVALID_ARG_CHANNEL",
			"?topic=t&channel=*": "INVALID_ARG_CHANNEL", "?topic=t&channel=c%24": "INVALID_ARG_CHANNEL",
			"?topic=t&channel=" + long: "INVALID_ARG_CHANNEL", "?%zz": "INVALID_REQUEST",
		} {
			if a := p.do("POST " + path + query); a.status != 400 || a.body != message(code) {
				t.Errorf("%s%s: %d %s, want %s", path, query, a.status, a.body, code)
			}
		}
	}
}

// wantDone checks that a write succeeded as nsqlookupd's do: nothing but headers.
func wantDone(t *testing.T, p *peer, request string) answer {
	t.Helper()
	a := p.do(request)
	_, hasType := a.header["Content-Type"]
	if a.status != 200 || a.body != "" || hasType || a.header.Get("Content-Length") != "0" || a.header.Get("X-NSQ-Content-Type") != nsqType {
		t.Errorf("%s: %d %q %v", request, a.status, a.body, a.header)
	}
	return a
}

func TestWrites(t *testing.T) {
	p := serveOne(t)
	want := func(request, body string) {
		t.Helper()
		if a := p.do(request); a.body != body {
			t.Errorf("%s: %s, want %s", request, a.body, body)
		}
	}
	if a := wantDone(t, p, "POST /topic/create?topic=t&topic=%2A"); a.header.Get("X-Lookupd-Index") != "1" || a.header.Get("X-Lookupd-Leader") != "a" {
		t.Errorf("no index or leader: %v", a.header)
	}
	wantDone(t, p, "POST /topic/create?topic=t")
	wantDone(t, p, "POST /channel/create?topic=u&channel=c")
	wantDone(t, p, "POST /channel/create?topic=u&channel=c")
	wantDone(t, p, "POST /topic/create?topic=e%23ephemeral")
	want("GET /topics", `{"topics":["e#ephemeral","t","u"]}`)
	want("GET /channels?topic=u", `{"channels":["c"]}`)
	wantDone(t, p, "POST /channel/delete?topic=u&channel=c")
	want("POST /channel/delete?topic=u&channel=c", message("CHANNEL_NOT_FOUND"))
	wantDone(t, p, "POST /topic/delete?topic=t")
	wantDone(t, p, "POST /topic/delete?topic=t")
	wantDone(t, p, "POST /topic/delete?topic=")
	if a := wantDone(t, p, "POST /topic/delete?topic=u%00"); a.header.Get("X-Lookupd-Index") == "" {
		t.Error("a delete of what cannot exist does not say which state it saw")
	}
	want("GET /topics", `{"topics":["e#ephemeral","u"]}`)
}

func TestDeleteWhileProducersOffer(t *testing.T) {
	p := serveSeeded(t)
	wantDone(t, p, "POST /channel/delete?topic=t&channel=c")
	if a := p.do("GET /lookup?topic=t"); a.body != `{"channels":["d"],"producers":[{`+n1+`},{`+n2+`}]}` {
		t.Errorf("after the channel went: %s", a.body)
	}
	wantDone(t, p, "POST /topic/delete?topic=t")
	if a := p.do("GET /lookup?topic=t"); a.status != 404 {
		t.Errorf("after the topic went: %d %s", a.status, a.body)
	}
}

func TestTombstoneNodes(t *testing.T) {
	p := serveOne(t)
	v6 := nsqd("fe80::1")
	p.producer(1, nsqd("n1"), [2]string{"t", ""})
	p.producer(2, v6, [2]string{"t", ""}, [2]string{"u", ""})
	shown := func(topic string) int {
		return strings.Count(p.do("GET /lookup?topic="+topic).body, "remote_address")
	}
	for _, node := range []string{"n1:4150", "n1", "", "n1:4151:", "x:4151", "%00", strings.Repeat("y", 300), "[n1]:4151"} {
		t.Run("H7 node "+node, func(t *testing.T) {
			wantDone(t, p, "POST /topic/tombstone?topic=t&node="+node)
			if got := shown("t"); got != 2 {
				t.Errorf("%d producers are shown", got)
			}
		})
	}
	wantDone(t, p, "POST /topic/tombstone?topic=nope&node=n1:4151")
	wantDone(t, p, "POST /topic/tombstone?topic=a%00b&node=n1:4151")
	for i, request := range []string{"?topic=t&node=n1:4151", "?topic=t&node=fe80::1:4151"} {
		wantDone(t, p, "POST /topic/tombstone"+request)
		wantDone(t, p, "POST /topic/tombstone"+request)
		if got := shown("t"); got != 1-i {
			t.Errorf("%s: %d shown", request, got)
		}
	}
	wantDone(t, p, "POST /topic/tombstone?topic=u&node=%5Bfe80::1%5D:4151")
	if got := shown("u"); got != 0 {
		t.Errorf("[v6]:port did not match: %d shown", got)
	}
}

func TestStateLimits(t *testing.T) {
	p := serveOne(t, func(c *httpapi.Config) {
		c.Limits.Topics, c.Limits.ChannelsPerTopic, c.Limits.Channels = 2, 2, 3
	})
	wantDone(t, p, "POST /channel/create?topic=a&channel=1")
	wantDone(t, p, "POST /channel/create?topic=a&channel=2")
	wantDone(t, p, "POST /channel/create?topic=b&channel=1")
	for _, request := range []string{
		"POST /topic/create?topic=c", "POST /channel/create?topic=a&channel=3", "POST /channel/create?topic=b&channel=2",
	} {
		if a := p.do(request); a.status != 507 || a.body != message("LIMIT_REACHED") {
			t.Errorf("%s: %d %s", request, a.status, a.body)
		}
	}
	wantDone(t, p, "POST /topic/create?topic=a")
	wantDone(t, p, "POST /channel/create?topic=a&channel=2")
}

func TestDiskLow(t *testing.T) {
	c := newFakeCluster(t, "a")
	c.peers[0].fail = cluster.ErrDiskLow
	p := serve(t, c.peers[0])
	if a := p.do("POST /topic/create?topic=a"); a.status != 503 || a.body != message("DISK_LOW") {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// TestChannelDeleteOnEveryPeer: nsqadmin sends each delete to all addresses.
func TestChannelDeleteOnEveryPeer(t *testing.T) {
	c := newFakeCluster(t, "a", "b", "c")
	var peers []*peer
	for _, n := range c.peers {
		peers = append(peers, serve(t, n))
	}
	for round := range 2 {
		wantDone(t, peers[round], "POST /channel/create?topic=t&channel=c")
		for i := range peers {
			wantDone(t, peers[(round+i)%3], "POST /channel/delete?topic=t&channel=c")
		}
		for i, p := range peers {
			if a := p.do("POST /channel/delete?topic=t&channel=c"); a.status != 404 || a.body != message("CHANNEL_NOT_FOUND") {
				t.Errorf("a repeat on peer %d: %d %s", i, a.status, a.body)
			}
		}
	}
}

func TestChannelDeletedElsewhereIsForgotten(t *testing.T) {
	const request = "POST /channel/delete?topic=t&channel=c"
	c := newFakeCluster(t, "a", "b")
	a, b := c.peers[0], serve(t, c.peers[1])
	notFound := func(what string) {
		t.Helper()
		if got := b.do(request); got.status != 404 {
			t.Errorf("%s: %d %s", what, got.status, got.body)
		}
	}
	deleteOn := func(n *fakeNode) {
		t.Helper()
		c.propose(a.id, registry.CreateChannel{Topic: "t", Channel: "c"})
		if results, _ := c.propose(n.id, registry.DeleteChannel{Topic: "t", Channel: "c"}); results[0] != registry.ResultChanged {
			t.Fatalf("delete: %v", results)
		}
	}
	notFound("never deleted")

	deleteOn(a)
	wantDone(t, b, request)
	notFound("a second time")

	deleteOn(a)
	b.do("POST /channel/delete?topic=x&channel=y") // makes b read the feed now
	b.clock.advance(59 * time.Second)
	wantDone(t, b, request)

	deleteOn(a)
	b.do("POST /channel/delete?topic=x&channel=y")
	b.clock.advance(60 * time.Second)
	notFound("after a minute")

	deleteOn(a)
	deleteOn(b.fakeNode)
	notFound("deleted here last")

	deleteOn(a)
	c.propose(a.id, registry.CreateChannel{Topic: "t", Channel: "c"})
	wantDone(t, b, request) // this one is real
	notFound("deleted here, after another's delete")
}

// TestChannelDeleteWaitsForItsOwnState: the leader knows of the other peer's
// delete before this peer does.
func TestChannelDeleteWaitsForItsOwnState(t *testing.T) {
	c := newFakeCluster(t, "a", "b")
	b := serve(t, c.peers[1])
	c.propose(c.peers[0].id, registry.CreateChannel{Topic: "t", Channel: "c"})
	c.setPaused(c.peers[1], true)
	c.propose(c.peers[0].id, registry.DeleteChannel{Topic: "t", Channel: "c"})
	got := make(chan answer, 1)
	go func() { got <- b.do("POST /channel/delete?topic=t&channel=c") }()
	eventually(t, func() error { return c.logIsAtLeast(3) })
	c.setPaused(c.peers[1], false)
	if a := <-got; a.status != 200 || a.header.Get("X-Lookupd-Index") != "3" {
		t.Errorf("%d %s %v", a.status, a.body, a.header)
	}
}

// A peer that starts applies its log anew: what was deleted long ago was not
// deleted just now.
func TestDeletionFromBeforeTheStartIsForgotten(t *testing.T) {
	const request = "POST /channel/delete?topic=t&channel=c"
	c := newFakeCluster(t, "a", "b")
	a, b := c.peers[0], serve(t, c.peers[1])
	remove := func() (index uint64) {
		c.propose(a.id, registry.CreateChannel{Topic: "t", Channel: "c"})
		_, index = c.propose(a.id, registry.DeleteChannel{Topic: "t", Channel: "c"})
		return index
	}
	b.notReady.Store(true)
	remove()
	if got := b.do(request); got.status != 404 {
		t.Errorf("while it is not ready: %d %s", got.status, got.body)
	}
	b.readyAt.Store(remove())
	b.notReady.Store(false)
	if got := b.do(request); got.status != 404 {
		t.Errorf("from before it was ready: %d %s", got.status, got.body)
	}
	remove()
	wantDone(t, b, request)
}

func TestConsistencyIsNoParameterOfWrites(t *testing.T) {
	wantDone(t, serveOne(t), "POST /topic/create?topic=t&consistency=whatever")
}

// TestDeletionBeforeTheDiskWasLost: a peer that came back under a new id has deleted
// what its older id deleted, so a repeat finds nothing.
func TestDeletionBeforeTheDiskWasLost(t *testing.T) {
	p := serveOne(t)
	p.cluster.propose(p.id, registry.CreateChannel{Topic: "t", Channel: "c"})
	p.cluster.propose("a-0000beef", registry.DeleteChannel{Topic: "t", Channel: "c"})
	if a := p.do("POST /channel/delete?topic=t&channel=c"); a.status != 404 {
		t.Errorf("%d %s", a.status, a.body)
	}
}
