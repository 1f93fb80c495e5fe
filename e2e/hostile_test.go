package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lookupd/lookupd/supervisor"
)

// hostileFor is how long each hostile behaviour lasts. Every machine can bear
// the default; releases are tested with 60s.
var hostileFor = flag.Duration("hostile", 2*time.Second, "how long each hostile behaviour lasts; the load grows with it")

// hostileScale is 1 for the short form. Loads that a small machine would take
// for a fault of lookupd's are multiplied by it.
func hostileScale() int { return int(min(10, max(1, *hostileFor/(6*time.Second)))) }

// bounds of what good clients may notice. They are far above what is measured on
// an idle machine, since those who attack and those who measure share this one;
// the short form runs beside other tests, too.
type bounds struct {
	p99            time.Duration // of lookups, beside five times what it is without an attack
	latePercent    int           // of the nsqds' commands
	refusedPercent int           // of lookups, without a change of leader
	failedPercent  int           // of newcomers, likewise
	change         time.Duration // for which lookups are refused while the leader changes
}

func boundsNow() bounds {
	if hostileScale() == 1 {
		return bounds{1500 * time.Millisecond, 20, 2, 10, 20 * time.Second}
	}
	return bounds{500 * time.Millisecond, 5, 0, 1, 6 * time.Second}
}

// behaviour is one way to be hostile.
type behaviour struct {
	name string
	// attack goes on until ctx ends, and then ends all that it opened.
	attack func(ctx context.Context, a *attacker)
	// proof names counts of the attacker's, or refusals "listener,reason" of the
	// peers', that must be above 0: an attack that never happened proves nothing.
	proof []string
	// full says that the hostile take all connections there are, so that no new
	// nsqd can come.
	full bool
	// restartLeader makes the leader restart midway.
	restartLeader bool
}

// attacker is what a behaviour has to work with.
type attacker struct {
	peers []*supervisor.Peer
	work  sync.WaitGroup

	mu     sync.Mutex
	counts map[string]int
	open   []net.Conn
}

func (a *attacker) count(what string) { a.add(what, 1) }

func (a *attacker) add(what string, n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.counts[what] += n
}

// dial connects from a source address of its own; the connection ends with the
// behaviour if not before.
func (a *attacker) dial(ctx context.Context, source, address string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}, Timeout: answerTimeout}
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		a.count("dials failed")
		return nil, err
	}
	a.count("dialled")
	a.mu.Lock()
	defer a.mu.Unlock()
	a.open = append(a.open, c)
	return c, nil
}

// crowd runs do in n goroutines until ctx ends, each again and again but at most
// perSecond times in all.
func (a *attacker) crowd(ctx context.Context, n, perSecond int, do func(ctx context.Context, i int)) {
	pause := time.Second * time.Duration(n) / time.Duration(perSecond)
	for i := range n {
		a.work.Go(func() {
			ticker := time.NewTicker(pause)
			defer ticker.Stop()
			for {
				do(ctx, i)
				select {
				case <-ctx.Done():
					return
				case <-ticker.C:
				}
			}
		})
	}
}

// hold keeps a connection until the other side or the behaviour ends it.
func (a *attacker) hold(ctx context.Context, c net.Conn) {
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	buffer := make([]byte, 512)
	for {
		if _, err := c.Read(buffer); err != nil {
			if ctx.Err() == nil {
				a.count("closed by the peer")
			}
			return
		}
	}
}

// end closes what the behaviour left open and waits for its goroutines.
func (a *attacker) end() {
	a.mu.Lock()
	for _, c := range a.open {
		_ = c.Close() // most are closed already
	}
	a.open = nil
	a.mu.Unlock()
	a.work.Wait()
}

// load is what a peer's process takes.
type load struct{ goroutines, files, resident, leaderChanges float64 }

// loadOf asks a peer's metrics.
func loadOf(ctx context.Context, p *supervisor.Peer) (load, map[string]float64, error) {
	status, body, err := supervisor.Get(ctx, p.URL("/metrics"))
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("status %d", status)
	}
	if err != nil {
		return load{}, nil, err
	}
	all := map[string]float64{}
	lines := bufio.NewScanner(bytes.NewReader(body))
	for lines.Scan() {
		name, text, _ := strings.Cut(lines.Text(), " ")
		if value, err := strconv.ParseFloat(text, 64); err == nil {
			all[name] = value
		}
	}
	return load{all["go_goroutines"], all["process_open_fds"], all["process_resident_memory_bytes"], all["lookupd_raft_leader_changes_total"]}, all, lines.Err()
}

// refusals sums lookupd_refused_total over the peers, as "listener,reason".
func refusals(t testing.TB, peers []*supervisor.Peer) map[string]float64 {
	t.Helper()
	sums := map[string]float64{}
	for _, p := range peers {
		eventually(t, func(ctx context.Context) error {
			_, all, err := loadOf(ctx, p)
			if err != nil {
				return err
			}
			for name, value := range all {
				var listener, reason string
				if rest, ok := strings.CutPrefix(name, "lookupd_refused_total{listener="); ok {
					if _, err := fmt.Sscanf(strings.NewReplacer(",reason=", " ", "}", "").Replace(rest), "%q %q", &listener, &reason); err != nil {
						return err
					}
					sums[listener+","+reason] += value
				}
			}
			return nil
		})
	}
	return sums
}

// peaks watches the peers' loads until stop is called.
func peaks(peers []*supervisor.Peer) (stop func() load) {
	ctx, cancel := context.WithCancel(context.Background())
	var mu sync.Mutex
	var most load
	var wait sync.WaitGroup
	for _, p := range peers {
		wait.Go(func() {
			ticker := time.NewTicker(250 * time.Millisecond)
			defer ticker.Stop()
			for ctx.Err() == nil {
				if l, _, err := loadOf(ctx, p); err == nil {
					mu.Lock()
					most = load{max(most.goroutines, l.goroutines), max(most.files, l.files), max(most.resident, l.resident), 0}
					mu.Unlock()
				}
				select {
				case <-ctx.Done():
				case <-ticker.C:
				}
			}
		})
	}
	return func() load { cancel(); wait.Wait(); return most }
}

// proved waits until the attack has lasted for long enough, and until it has done
// what it is to do, which takes longer on a busy machine.
func proved(t *testing.T, a *attacker, proof []string, before map[string]float64, ends time.Time) {
	t.Helper()
	eventually(t, func(context.Context) error {
		if left := time.Until(ends); left > 0 {
			return fmt.Errorf("%v to go", left)
		}
		seen := a.seen(refusals(t, a.peers), before)
		for _, what := range proof {
			if seen[what] == 0 {
				return fmt.Errorf("%q is 0, the attack does not happen: %v", what, seen)
			}
		}
		return nil
	})
}

// seen returns the attacker's counts with what the peers refused since before.
func (a *attacker) seen(refused, before map[string]float64) map[string]int {
	a.mu.Lock()
	defer a.mu.Unlock()
	seen := maps.Clone(a.counts)
	for kind, n := range refused {
		if n > before[kind] {
			seen[kind] = int(n - before[kind])
		}
	}
	return seen
}

// mostResident bounds the memory of a peer under any attack.
const mostResident = 1 << 30

// hostilities runs a behaviour beside good producers and lookups, says what they
// noticed, and fails if it was too much.
func hostilities(t *testing.T, c *supervisor.Cluster, good *goodFleet, b behaviour) {
	t.Helper()
	probes := newProbes(t, good, c.Peers)
	defer probes.stop()
	comers := newComers(c.Peers)
	defer comers.stop()
	before := map[*supervisor.Peer]load{}
	for _, p := range c.Peers {
		l, _, err := loadOf(within(t, patience), p)
		if err != nil {
			t.Fatal(err)
		}
		before[p] = l
	}
	refusedBefore := refusals(t, c.Peers)
	eventually(t, func(context.Context) error { return probes.have(50 * len(c.Peers)) })
	calm, calmWrites, calmComers := probes.take(), good.take(), comers.take()

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ends := time.Now().Add(*hostileFor)
	a := &attacker{peers: c.Peers, counts: map[string]int{}}
	peak := peaks(c.Peers)
	a.work.Go(func() { b.attack(ctx, a) })
	if b.restartLeader {
		restartLeader(t, c, good, *hostileFor/3)
	}
	proved(t, a, b.proof, refusedBefore, ends)
	eventually(t, func(context.Context) error { return probes.have(20 * len(c.Peers)) })
	cancel()
	a.end()
	most := peak()
	began := time.Now()
	recovered(t, c.Peers, before)
	took := time.Since(began)
	eventually(t, func(context.Context) error { return probes.have(30 * len(c.Peers)) })
	hostile, writes, came := probes.take(), good.take(), comers.take()

	t.Logf("lookups without: %v", calm)
	t.Logf("lookups with:    %v", hostile)
	t.Logf("writes  without: %v", calmWrites)
	t.Logf("writes  with:    %v", writes)
	t.Logf("newcomers without: %v", calmComers)
	t.Logf("newcomers with:    %v", came)
	t.Logf("a peer had at most %.0f goroutines, %.0f files, %.0f MiB; well again after %v", most.goroutines, most.files, most.resident/(1<<20), took.Round(time.Millisecond))
	t.Logf("the hostile: %v", a.seen(refusals(t, c.Peers), refusedBefore))
	changed := b.restartLeader
	for _, p := range c.Peers {
		l, _, err := loadOf(within(t, patience), p)
		changed = changed || err != nil || l.leaderChanges != before[p].leaderChanges
	}
	judgeLookups(t, calm, hostile, changed)
	judgeWrites(t, writes, changed)
	if len(came.times) == 0 && !b.full {
		t.Error("no new nsqd could come")
	}
	if all := came.failed + len(came.times); came.failed*100 > boundsNow().failedPercent*all && !b.full && !changed {
		t.Errorf("%d of %d new nsqds could not come: %v", came.failed, all, came.examples)
	}
	if most.resident > mostResident {
		t.Errorf("a peer took %.0f MiB", most.resident/(1<<20))
	}
}

// judgeLookups fails the test if lookups were wrong, slow, or refused without a change
// of leader.
func judgeLookups(t *testing.T, calm, hostile lookups, changed bool) {
	t.Helper()
	if hostile.wrong+calm.wrong > 0 {
		t.Errorf("%d lookups lacked a producer: %v", hostile.wrong+calm.wrong, append(calm.lacks, hostile.lacks...))
	}
	bounds := boundsNow()
	switch {
	case hostile.refused*100 > bounds.refusedPercent*len(hostile.times) && !changed:
		t.Errorf("%d lookups refused without a change of leader: %v", hostile.refused, hostile.examples)
	case hostile.lastRefused.Sub(hostile.firstRefused) > bounds.change:
		t.Errorf("lookups refused for %v: %v", hostile.lastRefused.Sub(hostile.firstRefused), hostile.examples)
	}
	if len(hostile.times) == 0 || len(calm.times) == 0 {
		t.Fatal("no lookups were answered")
	}
	if p99, bound := quantilesOf(hostile.times).p99, bounds.p99+5*quantilesOf(calm.times).p99; p99 > bound && !changed {
		t.Errorf("the 99th percentile of lookups is %v, the bound %v", p99, bound)
	}
}

func judgeWrites(t *testing.T, w writes, changed bool) {
	t.Helper()
	if w.dropped > 0 {
		t.Errorf("%d good connections were dropped: %v", w.dropped, w.examples)
	}
	if w.wrong > 0 {
		t.Errorf("%d good commands were refused: %v", w.wrong, w.examples)
	}
	if len(w.times) == 0 {
		t.Fatal("no commands were answered")
	}
	if w.late*100 > boundsNow().latePercent*len(w.times) && !changed { // the promise: below 800 ms, else E_UNAVAILABLE
		t.Errorf("%d of %d good commands were answered E_UNAVAILABLE", w.late, len(w.times))
	}
}

// restartLeader stops the leader after a while, as an operator would.
func restartLeader(t *testing.T, c *supervisor.Cluster, good *goodFleet, after time.Duration) {
	t.Helper()
	time.Sleep(after) // the attack is to be under way
	old := leader(t, c)
	good.mayBreak(old)
	defer good.mustHold(old)
	began := time.Now()
	if err := old.Restart(patience); err != nil {
		t.Fatal(err)
	}
	if err := old.WaitReady(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	good.mustReturn(t)
	t.Logf("%s, which led, was restarted and ready after %v", old.Name(), time.Since(began).Round(time.Millisecond))
}

// recovered waits until the peers hold no more than before the attack, roughly.
func recovered(t *testing.T, peers []*supervisor.Peer, before map[*supervisor.Peer]load) {
	t.Helper()
	const slack = 40 // raft, gossip and HTTP open and close some
	for _, p := range peers {
		eventually(t, func(ctx context.Context) error {
			l, _, err := loadOf(ctx, p)
			if err != nil {
				return err
			}
			if l.goroutines > before[p].goroutines+slack || l.files > before[p].files+slack {
				return fmt.Errorf("%s has %.0f goroutines and %.0f files, had %.0f and %.0f", p.Name(), l.goroutines, l.files, before[p].goroutines, before[p].files)
			}
			return nil
		})
	}
}

var errFew = errors.New("too few lookups yet")

// mostExamples bounds what is said about each kind of complaint.
const mostExamples = 5
