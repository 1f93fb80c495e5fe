package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lookupd/lookupd/supervisor"
)

const (
	fleetSize     = 1000
	fleetTopics   = 100  // of each nsqd
	topicsInAll   = 1000 // so that 100 nsqds share one
	fleetAtOnce   = 128  // connections that are being made
	perAddress    = 250  // a peer takes 512 from one address
	registerLimit = time.Minute
)

// fleet is many simulated nsqds, all of them behind one peer.
type fleet struct {
	address string
	conns   []*v1Conn    // one for each; nil before the first connect
	late    atomic.Int64 // REGISTERs that were not committed in time, to be done later
}

// connect opens a session for each nsqd and declares its topics, as nsqds do
// when they connect, but without waiting for each answer.
func (f *fleet) connect(ctx context.Context) error {
	f.close()
	f.conns = make([]*v1Conn, fleetSize)
	return f.each(ctx, func(i int) (err error) {
		f.conns[i], err = dialFrom(ctx, net.IPv4(127, 0, 0, byte(1+i/perAddress)), f.address)
		if err != nil {
			return err
		}
		if err := f.conns[i].identify(fleetHost(i), fakePort); err != nil {
			return err
		}
		var commands strings.Builder
		for j := range fleetTopics {
			fmt.Fprintf(&commands, "REGISTER %s\n", fleetTopic(i, j))
		}
		return f.declare(f.conns[i], commands.String())
	})
}

// declare sends REGISTERs, a line each, and then reads their answers.
func (f *fleet) declare(c *v1Conn, registers string) error {
	if err := c.send(registers); err != nil {
		return err
	}
	for i := range strings.Count(registers, "\n") {
		switch answer, err := c.frame(); {
		case err != nil || answer != "OK" && !strings.HasPrefix(answer, "E_UNAVAILABLE"):
			return fmt.Errorf("answer %d: %q %w", i, answer, err)
		case answer != "OK":
			f.late.Add(1)
		}
	}
	return nil
}

func fleetHost(i int) string     { return fmt.Sprintf("fleet%04d.example", i) }
func fleetTopic(i, j int) string { return fmt.Sprintf("fleet-topic%04d", (i+7*j)%topicsInAll) }

// ping sends one PING on each connection.
func (f *fleet) ping(ctx context.Context) error {
	return f.each(ctx, func(i int) error { return f.conns[i].ok("PING\n") })
}

// each does something for each nsqd, a bounded number at a time.
func (f *fleet) each(ctx context.Context, do func(i int) error) error {
	errs := make([]error, fleetSize)
	slots := make(chan struct{}, fleetAtOnce)
	var wait sync.WaitGroup
	for i := range fleetSize {
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			if errs[i] = ctx.Err(); errs[i] == nil {
				errs[i] = do(i)
			}
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}

func (f *fleet) close() {
	for _, c := range f.conns {
		if c != nil {
			_ = c.Close()
		}
	}
}

// dialFrom connects from an address of this machine's loopback.
func dialFrom(ctx context.Context, from net.IP, to string) (*v1Conn, error) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: from}, Timeout: answerTimeout}
	conn, err := dialer.DialContext(ctx, "tcp", to)
	if err != nil {
		return nil, err
	}
	return newV1Conn(conn), nil
}

// metric returns the value of a metric without labels.
func metric(t *testing.T, p *supervisor.Peer, name string) float64 {
	t.Helper()
	status, body, err := supervisor.Get(within(t, patience), p.URL("/metrics"))
	if err != nil || status != http.StatusOK {
		t.Fatalf("metrics of %s: %d %v", p.Name(), status, err)
	}
	for line := range strings.Lines(string(body)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+" "); ok {
			v, err := strconv.ParseFloat(value, 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
	}
	t.Fatalf("%s has no metric %s", p.Name(), name)
	return 0
}

// counters are what a cluster has committed and used so far.
type counters struct {
	entries  float64 // of the log
	commands float64 // in all peers' batches since they started
	cpu      map[string]time.Duration
}

func count(t *testing.T, peers []*supervisor.Peer) counters {
	t.Helper()
	c := counters{cpu: map[string]time.Duration{}}
	for _, p := range peers {
		c.entries = max(c.entries, metric(t, p, "lookupd_raft_commit_index"))
		c.commands += metric(t, p, "lookupd_batch_commands_sum")
		c.cpu[p.Name()] = cpuTime(t, p)
	}
	return c
}

// since returns the growth; a peer that was not counted before begins at 0.
func (c counters) since(before counters) counters {
	grown := counters{entries: c.entries - before.entries, commands: c.commands - before.commands, cpu: map[string]time.Duration{}}
	for name, used := range c.cpu {
		grown.cpu[name] = used - before.cpu[name]
	}
	return grown
}

func (c counters) String() string {
	return fmt.Sprintf("%.0f commands in %.0f log entries, CPU %v", c.commands, c.entries, c.cpu)
}

// cpuTime returns the processor time that a process has used, 0 where that is
// not known.
func cpuTime(t *testing.T, p *supervisor.Peer) time.Duration {
	t.Helper()
	if runtime.GOOS != "linux" {
		return 0
	}
	const ticksPerSecond = 100 // USER_HZ, for all that Go runs on
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), ") ") // the name is in brackets
	fields := strings.Fields(after)
	var ticks time.Duration
	for _, field := range fields[11:13] { // utime, stime
		n, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		ticks += time.Duration(n)
	}
	return ticks * time.Second / ticksPerSecond
}

func TestFleetReconnects(t *testing.T) {
	skipShort(t, "registers 100,000 names")
	w := newWorld(t)
	c := w.cluster(3)
	lost := follower(t, c)
	f := &fleet{address: lost.TCPAddress()}
	t.Cleanup(f.close)
	complete := func(t *testing.T) {
		t.Helper()
		eventually(t, func(ctx context.Context) error { return fleetIsComplete(ctx, c.Peers) })
	}

	began := time.Now()
	before := count(t, c.Peers)
	if err := f.connect(within(t, registerLimit)); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d nsqds declared %d topics each in %v: %v", fleetSize, fleetTopics, time.Since(began).Round(time.Millisecond), count(t, c.Peers).since(before))
	complete(t)
	eventually(t, func(context.Context) error {
		if n := metric(t, lost, "lookupd_declared_pending"); n > 0 {
			return fmt.Errorf("%.0f changes are not committed", n)
		}
		return nil
	})

	if err := lost.Kill(); err != nil {
		t.Fatal(err)
	}
	before = count(t, without(c.Peers, lost))
	w.start(lost)
	complete(t) // as it was, without any nsqd
	ready := count(t, c.Peers).since(before)
	began = time.Now()
	if err := f.connect(within(t, registerLimit)); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	complete(t)
	got := count(t, c.Peers).since(before)
	t.Logf("the peer's start, all else idle: %v", ready)
	t.Logf("%d nsqds came back in %v; with the start: %v", fleetSize, took.Round(time.Millisecond), got)
	t.Logf("%d REGISTERs answered late", f.late.Load())
	if got.commands != fleetSize || got.entries > fleetSize {
		t.Errorf("%v; want %d OpenSessions and nothing else", got, fleetSize)
	}

	t.Run("nothing written while nothing changes", func(t *testing.T) {
		const idle = 12 * time.Second // with PINGs when a sweep is due, and after
		watch := watchPauses(t)
		for attempt := 1; ; attempt++ {
			before, began := count(t, c.Peers), time.Now()
			for i := range 4 {
				if err := f.ping(within(t, patience)); err != nil {
					t.Fatal(err)
				}
				stays(t, began.Add(idle*time.Duration(i+1)/4), func(context.Context) error { return nil }) // time is all that passes
			}
			got := count(t, c.Peers).since(before)
			t.Logf("%d sessions, 4 PINGs each in %v: %v", fleetSize, time.Since(began).Round(time.Millisecond), got)
			if got.commands == 0 && got.entries == 0 {
				break
			}
			if attempt == attempts || !watch.excuse(got.String()) {
				t.Errorf("%v; want nothing written", got)
				break
			}
		}
		complete(t)
	})
}

// fleetIsComplete returns nil if each peer shows all nsqds, and all of those of
// one topic, with one session each.
func fleetIsComplete(ctx context.Context, peers []*supervisor.Peer) error {
	var want []string
	const topic = 3
	for i := range fleetSize {
		for j := range fleetTopics {
			if fleetTopic(i, j) == fleetTopic(topic, 0) {
				want = append(want, fakeID(fleetHost(i)))
			}
		}
	}
	for _, p := range peers {
		if err := shows(ctx, p, fleetTopic(topic, 0), want...); err != nil {
			return err
		}
		var s struct {
			Counts struct{ Topics, Producers, Sessions int } `json:"counts"`
		}
		if err := p.GetJSON(ctx, "/v1/status", &s); err != nil {
			return err
		}
		if s.Counts.Topics != topicsInAll || s.Counts.Producers != fleetSize || s.Counts.Sessions != fleetSize {
			return fmt.Errorf("%s counts %+v", p.Name(), s.Counts)
		}
	}
	return nil
}
