package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lookupd/lookupd/supervisor"
)

const (
	goodPerPeer = 8
	goodTopics  = 4
)

// goodFleet is the good nsqds, some at each peer. They PING and REGISTER, and
// connect again when they must.
type goodFleet struct {
	t      testing.TB
	cancel context.CancelFunc
	work   sync.WaitGroup
	nsqds  []*goodNSQD

	mu      sync.Mutex
	seen    writes
	fragile map[*supervisor.Peer]bool // whose connections may break now
}

type goodNSQD struct {
	peer        *supervisor.Peer
	host, topic string

	mu   sync.Mutex
	conn *v1Conn // nil while it is gone
}

// writes are what good nsqds noticed.
type writes struct {
	times    []time.Duration
	late     int // E_UNAVAILABLE
	dropped  int
	wrong    int
	examples []string
}

func (w writes) String() string {
	if len(w.times) == 0 {
		return "none"
	}
	return fmt.Sprintf("n=%d %v; %d late, %d dropped", len(w.times), quantilesOf(w.times), w.late, w.dropped)
}

// newGoodFleet connects the good nsqds, which stay until the test ends.
func newGoodFleet(t testing.TB, peers []*supervisor.Peer) *goodFleet {
	t.Helper()
	f := &goodFleet{t: t, fragile: map[*supervisor.Peer]bool{}}
	for i, p := range peers {
		for j := range goodPerPeer {
			n := &goodNSQD{peer: p, host: fmt.Sprintf("good-%d-%d", i, j), topic: fmt.Sprintf("good-%d", j%goodTopics)}
			eventually(t, func(context.Context) error { return n.connect() })
			f.nsqds = append(f.nsqds, n)
		}
	}
	var ctx context.Context
	ctx, f.cancel = context.WithCancel(context.Background())
	for _, n := range f.nsqds {
		f.work.Go(func() { f.live(ctx, n) })
	}
	t.Cleanup(func() { f.cancel(); f.work.Wait() })
	return f
}

func (n *goodNSQD) connect() error {
	c, err := dialV1(n.peer.TCPAddress())
	if err != nil {
		return err
	}
	if err = c.identify(n.host, fakePort); err == nil {
		// Like nsqd it keeps the connection if the change is not committed yet.
		var answer string
		if answer, err = c.call("REGISTER " + n.topic + "\n"); err == nil && answer != "OK" && !strings.HasPrefix(answer, "E_UNAVAILABLE") {
			err = fmt.Errorf("REGISTER: %q", answer)
		}
	}
	if err != nil {
		_ = c.Close() // as the error says
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.conn = c
	return nil
}

func (n *goodNSQD) connected() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.conn != nil
}

// live is an nsqd's life: it PINGs, and now and then registers what it has.
func (f *goodFleet) live(ctx context.Context, n *goodNSQD) {
	ticker := time.NewTicker(150 * time.Millisecond)
	defer ticker.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			if n.connected() {
				_ = n.conn.Close() // the test is over
			}
			return
		case <-ticker.C:
		}
		if !n.connected() {
			_ = n.connect() // until it succeeds
			continue
		}
		command := "PING\n"
		if i%3 == 0 {
			command = "REGISTER " + n.topic + "\n"
		}
		began := time.Now()
		answer, err := n.conn.call(command)
		f.note(n, answer, err, time.Since(began))
	}
}

func (f *goodFleet) note(n *goodNSQD, answer string, err error, took time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := &f.seen
	example := func() {
		if len(w.examples) < mostExamples {
			w.examples = append(w.examples, fmt.Sprintf("%s after %v: %q %v", n.host, took, answer, err))
		}
	}
	switch {
	case err != nil:
		_ = n.conn.Close() // it is broken
		n.mu.Lock()
		n.conn = nil
		n.mu.Unlock()
		if !f.fragile[n.peer] {
			w.dropped++
			example()
		}
		return
	case strings.HasPrefix(answer, "E_UNAVAILABLE"):
		w.late++
	case answer != "OK":
		w.wrong++
		example()
	}
	w.times = append(w.times, took)
}

// take returns what was noticed since the last call.
func (f *goodFleet) take() writes {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := f.seen
	f.seen = writes{}
	return w
}

// mayBreak lets the connections to p end, until mustHold.
func (f *goodFleet) mayBreak(p *supervisor.Peer) { f.setFragile(p, true) }

func (f *goodFleet) mustHold(p *supervisor.Peer) { f.setFragile(p, false) }

func (f *goodFleet) setFragile(p *supervisor.Peer, fragile bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fragile[p] = fragile
}

// mustReturn waits until all are connected.
func (f *goodFleet) mustReturn(t testing.TB) {
	t.Helper()
	eventually(t, func(context.Context) error {
		for _, n := range f.nsqds {
			if !n.connected() {
				return fmt.Errorf("%s is not back", n.host)
			}
		}
		return nil
	})
}

// want returns what a lookup of a topic must show.
func (f *goodFleet) want(topic string) []string {
	var words []string
	for _, n := range f.nsqds {
		if n.topic == topic {
			words = append(words, n.host)
		}
	}
	return words
}

// lookups are what consumers noticed.
type lookups struct {
	times                     []time.Duration // of those that were answered 200
	refused, wrong            int
	firstRefused, lastRefused time.Time
	examples, lacks           []string
}

func (l lookups) String() string {
	if len(l.times) == 0 {
		return fmt.Sprintf("none, %d refused", l.refused)
	}
	return fmt.Sprintf("n=%d %v; %d refused, %d wrong", len(l.times), quantilesOf(l.times), l.refused, l.wrong)
}

// probes are good consumers, one at each peer, each lookup on a connection of
// its own.
type probes struct {
	cancel context.CancelFunc
	work   sync.WaitGroup
	client *http.Client

	mu   sync.Mutex
	seen lookups
	done int // since the last wait
}

func newProbes(t testing.TB, good *goodFleet, peers []*supervisor.Peer) *probes {
	t.Helper()
	p := &probes{client: &http.Client{Timeout: answerTimeout, Transport: &http.Transport{DisableKeepAlives: true}}}
	var ctx context.Context
	ctx, p.cancel = context.WithCancel(context.Background())
	for _, peer := range peers {
		p.work.Go(func() {
			ticker := time.NewTicker(20 * time.Millisecond)
			defer ticker.Stop()
			for i := 0; ctx.Err() == nil; i++ {
				topic := fmt.Sprintf("good-%d", i%goodTopics)
				p.ask(ctx, peer, topic, good.want(topic))
				select {
				case <-ctx.Done():
				case <-ticker.C:
				}
			}
		})
	}
	return p
}

func (p *probes) stop() {
	p.cancel()
	p.work.Wait()
}

// have returns nil once n more lookups were made since it last returned nil.
func (p *probes) have(n int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done < n {
		return fmt.Errorf("%w: %d of %d", errFew, p.done, n)
	}
	p.done = 0
	return nil
}

func (p *probes) take() lookups {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.seen
	p.seen = lookups{}
	return l
}

func (p *probes) ask(ctx context.Context, peer *supervisor.Peer, topic string, want []string) {
	began := time.Now()
	shown, err := p.lookup(ctx, peer.URL("/lookup?topic="+topic))
	took := time.Since(began)
	if ctx.Err() != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done++
	l := &p.seen
	example := func(what any) {
		if len(l.examples) < mostExamples {
			l.examples = append(l.examples, fmt.Sprintf("%s, %s after %v: %v", peer.Name(), topic, took.Round(time.Millisecond), what))
		}
	}
	if err != nil {
		if l.refused == 0 {
			l.firstRefused = began
		}
		l.refused++
		l.lastRefused = began
		example(err)
		return
	}
	l.times = append(l.times, took)
	for _, host := range want {
		if !shown[host] {
			l.wrong++
			if len(l.lacks) < mostExamples {
				l.lacks = append(l.lacks, fmt.Sprintf("%s at %s, %s after %v: lacks %s, shows %d", peer.Name(), began.Format("05.000"), topic, took.Round(time.Millisecond), host, len(shown)))
			}
			return
		}
	}
}

// lookup returns the hosts of the producers that an answer shows.
func (p *probes) lookup(ctx context.Context, url string) (map[string]bool, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := p.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK && response.StatusCode != http.StatusNotFound {
		return nil, fmt.Errorf("status %d: %.100s", response.StatusCode, body)
	}
	var answer struct {
		Producers []struct {
			Host string `json:"broadcast_address"`
		} `json:"producers"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, err
	}
	shown := map[string]bool{}
	for _, producer := range answer.Producers {
		shown[producer.Host] = true
	}
	return shown, nil
}

// comers are nsqds that connect, identify themselves, and leave again.
type comers struct {
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu   sync.Mutex
	seen arrivals
}

// arrivals are what newcomers noticed. They fail if they have no answer to
// IDENTIFY within the second that nsqd would wait, or three on a busy machine.
type arrivals struct {
	times    []time.Duration
	failed   int
	examples []string
}

const comeWithin = 3 * time.Second

func (a arrivals) String() string {
	if len(a.times) == 0 {
		return fmt.Sprintf("none, %d failed", a.failed)
	}
	return fmt.Sprintf("n=%d %v; %d failed", len(a.times), quantilesOf(a.times), a.failed)
}

func newComers(peers []*supervisor.Peer) *comers {
	c := &comers{}
	var ctx context.Context
	ctx, c.cancel = context.WithCancel(context.Background())
	for i, p := range peers {
		c.work.Go(func() {
			ticker := time.NewTicker(100 * time.Millisecond)
			defer ticker.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-ticker.C:
				}
				began := time.Now()
				err := come(p, fmt.Sprint("newcomer-", i))
				c.note(p, err, time.Since(began))
			}
		})
	}
	return c
}

func come(p *supervisor.Peer, host string) error {
	conn, err := dialV1(p.TCPAddress())
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.identify(host, fakePort)
}

func (c *comers) note(p *supervisor.Peer, err error, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil && took <= comeWithin {
		c.seen.times = append(c.seen.times, took)
		return
	}
	c.seen.failed++
	if len(c.seen.examples) < mostExamples {
		c.seen.examples = append(c.seen.examples, fmt.Sprintf("%s after %v: %v", p.Name(), took.Round(time.Millisecond), err))
	}
}

func (c *comers) take() arrivals {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.seen
	c.seen = arrivals{}
	return a
}

func (c *comers) stop() {
	c.cancel()
	c.work.Wait()
}
