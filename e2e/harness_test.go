package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nsqio/nsq/nsqlookupd"

	"github.com/lookupd/lookupd/supervisor"
)

// patience bounds every wait of a test: far beyond what a loaded machine needs.
const patience = 60 * time.Second

// world holds the processes of one test.
type world struct {
	*supervisor.Group
	t   testing.TB
	dir string
}

// newWorld returns an empty world that ends with the test, which fails if a
// daemon panicked or raced. The logs of a failed test are printed.
func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{Group: supervisor.NewGroup(), t: t, dir: t.TempDir()}
	t.Cleanup(func() {
		if err := w.KillAll(); err != nil {
			t.Error(err)
		}
		w.checkLogs()
	})
	return w
}

func (w *world) checkLogs() {
	w.t.Helper()
	paths, err := filepath.Glob(filepath.Join(w.dir, "*.log"))
	if err != nil {
		w.t.Error(err)
	}
	logs := map[string]string{}
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			w.t.Error(err)
		}
		name := filepath.Base(path)
		logs[name] = string(content)
		for _, bad := range []string{"WARNING: DATA RACE", "\npanic: ", "fatal error: "} {
			if at := strings.Index(logs[name], bad); at >= 0 {
				const shown = 3000
				w.t.Errorf("%s: %.*s", name, shown, logs[name][at:])
			}
		}
	}
	if !w.t.Failed() {
		return
	}
	for name, content := range logs {
		const shown = 8000
		w.t.Logf("--- end of %s\n%s", name, content[max(0, len(content)-shown):])
	}
}

// within returns a context that ends after d, or with the test.
func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// eventually polls check until it passes.
func eventually(t testing.TB, check func(context.Context) error) {
	t.Helper()
	if err := supervisor.Poll(within(t, patience), check); err != nil {
		t.Fatal(err)
	}
}

// ports returns free ports for n peers.
func ports(t testing.TB, n int) []supervisor.PeerPorts {
	t.Helper()
	p, err := supervisor.FreePeerPorts(n)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// cluster starts n peers and waits until all serve.
func (w *world) cluster(n int, args ...string) *supervisor.Cluster {
	w.t.Helper()
	c := w.NewCluster(supervisor.ClusterConfig{Path: binaries.lookupd, Dir: w.dir, Ports: ports(w.t, n), Args: args})
	w.startCluster(c)
	return c
}

// startCluster starts all peers and waits until all serve.
func (w *world) startCluster(c *supervisor.Cluster) {
	w.t.Helper()
	if err := c.Start(within(w.t, patience)); err != nil {
		w.t.Fatal(err)
	}
	leader(w.t, c)
}

// leader waits for the leader.
func leader(t testing.TB, c *supervisor.Cluster) *supervisor.Peer {
	t.Helper()
	l, err := c.WaitLeader(within(t, patience))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// follower returns a running peer that does not lead.
func follower(t testing.TB, c *supervisor.Cluster) *supervisor.Peer {
	t.Helper()
	l := leader(t, c)
	for _, p := range c.Running() {
		if p != l {
			return p
		}
	}
	t.Fatal("no follower runs")
	return nil
}

// start runs a process and waits until it is ready.
func (w *world) start(p interface {
	Start() error
	WaitReady(context.Context) error
},
) {
	w.t.Helper()
	if err := p.Start(); err != nil {
		w.t.Fatal(err)
	}
	if err := p.WaitReady(within(w.t, patience)); err != nil {
		w.t.Fatal(err)
	}
}

// nsqd is a running nsqd.
type nsqd struct {
	*supervisor.Process
	host  string
	ports supervisor.NSQPorts
}

// nsqd starts an nsqd that is given these V1 addresses.
func (w *world) nsqd(name string, lookupds ...string) *nsqd {
	w.t.Helper()
	p, err := supervisor.FreePorts(2)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.startNSQD(supervisor.NSQDConfig{Name: name, Ports: supervisor.NSQPorts{TCP: p[0], HTTP: p[1]}, Host: supervisor.Loopback, Lookupds: lookupds})
}

// startNSQD adds the program and the directory to config and starts it.
func (w *world) startNSQD(config supervisor.NSQDConfig) *nsqd {
	w.t.Helper()
	config.Path, config.Dir = binaries.nsqd, w.dir
	process, err := w.NewNSQD(config)
	if err != nil {
		w.t.Fatal(err)
	}
	n := &nsqd{Process: process, host: config.Host, ports: config.Ports}
	w.start(n)
	return n
}

// id is the producer's id.
func (n *nsqd) id() string { return producerID(n.host, n.ports.TCP) }

func (n *nsqd) url(path string) string {
	return "http://" + net.JoinHostPort(n.host, strconv.Itoa(n.ports.HTTP)) + path
}

// publish sends a message, which creates the topic.
func (n *nsqd) publish(t *testing.T, topic, body string) {
	t.Helper()
	status, answer := post(t, n.url("/pub?topic="+url.QueryEscape(topic)), "", body)
	if status != http.StatusOK {
		t.Fatalf("publish to %s: %d %s", topic, status, answer)
	}
}

// nsqadmin starts an nsqadmin and returns its base URL.
func (w *world) nsqadmin(lookupds ...string) string {
	w.t.Helper()
	return w.startNSQAdmin(supervisor.NSQAdminConfig{Lookupds: lookupds})
}

// startNSQAdmin adds the program, a port and the directory to config, starts it and
// returns its base URL.
func (w *world) startNSQAdmin(config supervisor.NSQAdminConfig) string {
	w.t.Helper()
	p, err := supervisor.FreePorts(1)
	if err != nil {
		w.t.Fatal(err)
	}
	config.Name, config.Path, config.Dir, config.Port = "nsqadmin", binaries.nsqadmin, w.dir, p[0]
	w.start(w.NewNSQAdmin(config))
	return "http://" + supervisor.Address(p[0])
}

// oracle starts nsqlookupd 1.3.0 in this process and returns its V1 and HTTP
// addresses.
func oracle(t testing.TB) (tcp, http string) {
	t.Helper()
	options := nsqlookupd.NewOptions()
	options.TCPAddress, options.HTTPAddress = "127.0.0.1:0", "127.0.0.1:0"
	options.BroadcastAddress = supervisor.Loopback
	options.Logger = silent{}
	options.TombstoneLifetime, options.InactiveProducerTimeout = time.Hour, time.Hour // no test waits for them here
	daemon, err := nsqlookupd.New(options)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- daemon.Main() }()
	t.Cleanup(func() {
		daemon.Exit()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return daemon.RealTCPAddr().String(), daemon.RealHTTPAddr().String()
}

// silent drops NSQ's log lines.
type silent struct{}

func (silent) Output(int, string) error { return nil }

// do sends one request and returns status and body; not to be answered fails
// the test.
func do(t *testing.T, method, url, contentType, body string) (int, string) {
	t.Helper()
	status, answer, err := try(within(t, 30*time.Second), method, url, contentType, body)
	if err != nil {
		t.Fatal(err)
	}
	return status, answer
}

func post(t *testing.T, url, contentType, body string) (int, string) {
	t.Helper()
	return do(t, http.MethodPost, url, contentType, body)
}

// mustPost is post that wants 200.
func mustPost(t *testing.T, url string) {
	t.Helper()
	if status, answer := post(t, url, "", ""); status != http.StatusOK {
		t.Fatalf("POST %s: %d %s", url, status, answer)
	}
}

// try sends one request on a connection of its own.
func try(ctx context.Context, method, url, contentType, body string) (int, string, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, bytes.NewBufferString(body))
	if err != nil {
		return 0, "", err
	}
	request.Close = true
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	return response.StatusCode, string(answer), err
}

// without returns the peers but for these.
func without(peers []*supervisor.Peer, these ...*supervisor.Peer) []*supervisor.Peer {
	return slices.DeleteFunc(slices.Clone(peers), func(p *supervisor.Peer) bool { return slices.Contains(these, p) })
}

// stays polls check until the time has come; it must pass all the while.
func stays(t testing.TB, until time.Time, check func(context.Context) error) {
	t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for now := time.Now(); now.Before(until); now = <-ticker.C {
		if err := check(within(t, patience)); err != nil {
			t.Fatalf("%v too early: %v", time.Until(until), err)
		}
	}
}

// quantiles renders p50, p99 and the longest of some times.
type quantiles struct{ p50, p99, max time.Duration }

func quantilesOf(times []time.Duration) quantiles {
	sorted := slices.Sorted(slices.Values(times))
	at := func(percent int) time.Duration { return sorted[(len(sorted)*percent+99)/100-1] }
	return quantiles{at(50), at(99), at(100)}
}

func (q quantiles) String() string {
	round := func(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }
	return fmt.Sprintf("p50 %v, p99 %v, max %v", round(q.p50), round(q.p99), round(q.max))
}

// sameState waits until all running peers have the same index and hash.
func sameState(t testing.TB, c *supervisor.Cluster) clusterStatus {
	t.Helper()
	var first clusterStatus
	eventually(t, func(ctx context.Context) error {
		var seen []string
		for i, p := range c.Running() {
			s, err := status(ctx, p)
			if err != nil {
				return err
			}
			if i == 0 {
				first = s
			}
			seen = append(seen, fmt.Sprintf("%s: %s at %d", p.Name(), s.StateHash, s.Index))
			if s.Index != first.Index || s.StateHash != first.StateHash || s.StateHash == "" {
				return fmt.Errorf("peers differ: %s", strings.Join(seen, ", "))
			}
		}
		return nil
	})
	return first
}

// mustJSON renders v for messages.
func mustJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(text)
}
