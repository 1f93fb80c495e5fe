package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lookupd/lookupd/supervisor"
)

func TestLeaderKilledWhileTopicsAppear(t *testing.T) {
	const before, after, newLeaderWithin = 20, 60, 3 * time.Second
	w := newWorld(t)
	c := w.cluster(3)
	n := w.nsqd("nsqd", c.TCPAddresses()...)
	victim := leader(t, c)
	var survivors []*supervisor.Peer
	for _, p := range c.Peers {
		if p != victim {
			survivors = append(survivors, p)
		}
	}
	for i := range before {
		n.publish(t, topicName(i), "x")
	}
	eventually(t, func(ctx context.Context) error { return allRegistered(ctx, survivors[0], n, before) })

	watch, err := supervisor.NewWatch(t.Context(), survivors)
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	published := make(chan error, 1)
	go func() { published <- publishTopics(t.Context(), n, watch, before, before+after) }()

	// Kill in the middle of the stream: when the first new topics are in.
	eventually(t, func(ctx context.Context) error { return allRegistered(ctx, survivors[0], n, before+after/4) })
	killed := time.Now()
	if err := victim.Kill(); err != nil {
		t.Fatal(err)
	}
	next := leader(t, c)
	if took := time.Since(killed); took > newLeaderWithin {
		t.Errorf("new leader %s serves after %v, want at most %v", next.Name(), took, newLeaderWithin)
	} else {
		t.Logf("new leader %s serves after %v", next.Name(), took)
	}
	if err := <-published; err != nil {
		t.Fatal(err)
	}
	for _, p := range survivors {
		eventually(t, func(ctx context.Context) error { return allRegistered(ctx, p, n, before+after) })
	}
	report := watch.Stop()
	t.Logf("lookups: %d right, %d refused", report.Right, report.Refused)
	if report.Wrong > 0 || report.Right == 0 {
		t.Errorf("%d lookups wrong: %v", report.Wrong, report.Examples)
	}
}

func topicName(i int) string { return fmt.Sprintf("topic%03d", i) }

// publishTopics makes nsqd create topics, one after another, and has the watch
// ask for each.
func publishTopics(ctx context.Context, n *nsqd, watch *supervisor.Watch, from, to int) error {
	for i := from; i < to; i++ {
		watch.Add(topicName(i))
		status, answer, err := try(ctx, http.MethodPost, n.url("/pub?topic="+topicName(i)), "", "x")
		if err != nil || status != http.StatusOK {
			return fmt.Errorf("publish %s: %d %s %w", topicName(i), status, answer, err)
		}
	}
	return nil
}

// allRegistered returns nil when the first count topics show the nsqd.
func allRegistered(ctx context.Context, p *supervisor.Peer, n *nsqd, count int) error {
	for i := range count {
		if err := hasProducer(ctx, p, topicName(i), n); err != nil {
			return err
		}
	}
	return nil
}

func TestAllKilledAndRestarted(t *testing.T) {
	w := newWorld(t)
	c := w.cluster(3)
	n := w.nsqd("nsqd", c.Peers[0].TCPAddress())
	n.publish(t, "orders", "x")
	eventually(t, func(ctx context.Context) error { return hasProducer(ctx, c.Peers[1], "orders", n) })
	mustPost(t, c.Peers[1].URL("/channel/create?topic=orders&channel=billing"))
	mustPost(t, c.Peers[2].URL("/topic/create?topic=empty"))
	paths := []string{"/topics", "/channels?topic=orders", "/lookup?topic=orders", "/lookup?topic=empty"}
	want := answers(t, c.Peers[0], paths)
	if !strings.Contains(want[paths[2]], "127.0.0.1") {
		t.Fatalf("no producer to begin with: %v", want)
	}
	ids := map[string]string{}
	for _, p := range c.Peers {
		ids[p.Name()] = nodeID(t, p)
	}

	for _, where := range []string{"same ports", "other ports"} {
		t.Run(where, func(t *testing.T) {
			if err := c.Kill(); err != nil {
				t.Fatal(err)
			}
			if where == "other ports" {
				// So nsqd cannot come back by itself; that the producer shows is the state alone.
				c.Move(ports(t, len(c.Peers)))
			}
			if err := c.Start(within(t, patience)); err != nil {
				t.Fatal(err)
			}
			// A ready peer has the state: no waiting for nsqd, no second try.
			for _, p := range c.Peers {
				if got := answers(t, p, paths); mustJSON(got) != mustJSON(want) {
					t.Errorf("%s:\n got %v\nwant %v", p.Name(), got, want)
				}
				if id := nodeID(t, p); id != ids[p.Name()] {
					t.Errorf("%s is %s now, was %s", p.Name(), id, ids[p.Name()])
				}
			}
		})
	}
}

// answers gets paths that must all answer 200, with sorted lists.
func answers(t *testing.T, p *supervisor.Peer, paths []string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, path := range paths {
		status, body, err := supervisor.Get(within(t, patience), p.URL(path))
		if err != nil || status != http.StatusOK {
			t.Fatalf("GET %s of %s: %d %s %v", path, p.Name(), status, body, err)
		}
		var decoded any
		if err := json.Unmarshal(body, &decoded); err != nil {
			t.Fatal(err)
		}
		all[path] = mustJSON(decoded)
	}
	return all
}

// timedGet is rawHTTP that says how long it took.
func timedGet(p *supervisor.Peer, path string) (httpAnswer, time.Duration, error) {
	began := time.Now()
	answer, err := rawHTTP(p.HTTPAddress(), "GET "+path)
	return answer, time.Since(began), err
}

func TestNoQuorum(t *testing.T) {
	const answerWithin = 1500 * time.Millisecond // 1 s promised, the rest for a loaded machine
	watch := watchPauses(t)
	c := newWorld(t).cluster(3)
	last := c.Peers[0]
	conn := fakeNSQD(t, last.TCPAddress(), "n1.example")
	conn.mustCall(t, "REGISTER orders\n")
	for _, p := range c.Peers[1:] {
		if err := p.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, func(ctx context.Context) error {
		if name, err := last.Leader(ctx); err != nil || name != "" {
			return fmt.Errorf("leader %q %w", name, err)
		}
		return nil
	})
	for path, want := range map[string]int{
		"/lookup?topic=orders":                   503,
		"/topics":                                503,
		"/lookup?topic=orders&consistency=stale": 200,
		"/channels?topic=orders":                 200, // nsqd asks it and cannot ask for stale
	} {
		answer, took, err := timedGet(last, path)
		for attempt := 1; took > answerWithin && attempt < attempts && watch.excuse(fmt.Sprint("GET ", path, " took ", took)); attempt++ {
			answer, took, err = timedGet(last, path)
		}
		if err != nil || answer.status != want {
			t.Errorf("GET %s: %d %s %v, want %d", path, answer.status, answer.body, err, want)
			continue
		}
		if took > answerWithin {
			t.Errorf("GET %s answered after %v", path, took)
		}
		if want == 503 && (strings.TrimSpace(answer.body) != `{"message":"NO_QUORUM"}` || answer.header.Get("Retry-After") == "") {
			t.Errorf("GET %s: %s, headers %v", path, answer.body, answer.header)
		}
		if want == 200 && answer.header.Get("X-Lookupd-Stale-Ms") == "" {
			t.Errorf("GET %s is not marked as stale: %v", path, answer.header)
		}
	}
	// The connection stays and the change is done once there is a quorum again.
	if answer, err := conn.call("REGISTER late\n"); err != nil || !strings.HasPrefix(answer, "E_UNAVAILABLE") {
		t.Errorf("REGISTER without a quorum: %q %v, want E_UNAVAILABLE", answer, err)
	}
	conn.mustCall(t, "PING\n")
	if err := c.Peers[1].Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, func(ctx context.Context) error {
		got, err := lookupTopic(ctx, c.Peers[1], "late")
		if err == nil && len(got.Producers) != 1 {
			err = fmt.Errorf("producers of late: %+v", got.Producers)
		}
		return err
	})
	conn.mustCall(t, "REGISTER later\n")
}

func TestGracefulStop(t *testing.T) {
	const stopWithin = 5 * time.Second
	c := newWorld(t).cluster(3)
	conn := fakeNSQD(t, follower(t, c).TCPAddress(), "n1.example")
	conn.mustCall(t, "REGISTER orders\n")
	old := leader(t, c)
	began := time.Now()
	if err := old.Stop(stopWithin); err != nil {
		t.Fatal(err)
	}
	if code := old.ExitCode(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	next := leader(t, c)
	t.Logf("stopped and handed over to %s in %v", next.Name(), time.Since(began))
	conn.mustCall(t, "REGISTER more\n")
	got, err := topics(within(t, patience), next)
	if err != nil || !slices.Equal(got, []string{"more", "orders"}) {
		t.Errorf("topics %v %v", got, err)
	}
}
