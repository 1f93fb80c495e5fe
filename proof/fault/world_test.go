package fault_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lookupd/lookupd/proof/fault"
	"github.com/lookupd/lookupd/proof/history"
	"github.com/lookupd/lookupd/supervisor"
	"github.com/lookupd/lookupd/supervisor/lab"
)

// patience bounds every wait of a test.
const patience = 60 * time.Second

// binariesEnv names, to a process inside a network, the directory of the
// executables that the process outside has built.
const binariesEnv = "FAULT_TEST_BINARIES"

// binaries is the directory of lookupd and lookupctl, which are built before any
// test runs and never written after.
var binaries string

var extraTags = flag.String("lookupd-tags", "", "further build tags of lookupd, such as those of planted bugs")

func TestMain(m *testing.M) {
	flag.Parse()
	if binaries = os.Getenv(binariesEnv); binaries != "" {
		os.Exit(m.Run())
	}
	dir, err := os.MkdirTemp("", "fault-test-")
	if err == nil {
		binaries = dir
		err = fault.BuildWithClock(context.Background(), "../..", filepath.Join(dir, "lookupd"),
			append([]string{"hashicorpmetrics", "witness"}, strings.Fields(*extraTags)...)...)
	}
	if err == nil {
		err = fault.BuildLookupctl(context.Background(), "../..", filepath.Join(dir, "lookupctl"))
	}
	code := 1
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		code = m.Run()
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

// notRun ends a test that this machine cannot run, and says so.
func notRun(t *testing.T, why string) {
	t.Helper()
	line := fmt.Sprintf("NOT RUN %s: needs %s", t.Name(), why)
	if os.Getenv("LOOKUPD_FAULTS") == "require" {
		t.Fatal(line)
	}
	fmt.Println(line)
	t.Skip(line)
}

// inside runs body in a process with a network of its own.
func inside(t *testing.T, body func(t *testing.T, n *lab.Network)) {
	t.Helper()
	if lab.Inside() == t.Name() {
		n, err := lab.New()
		if err != nil {
			t.Fatal(err)
		}
		body(t, n)
		return
	}
	if err := lab.Missing(); err != nil {
		notRun(t, err.Error())
	}
	words := append(lab.Wrap(), os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v")
	cmd := exec.CommandContext(t.Context(), words[0], words[1:]...)
	cmd.Env = append(os.Environ(), lab.Env(t.Name()), binariesEnv+"="+binaries)
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("inside: %v", err)
	}
}

// world is a cluster with traffic.
type world struct {
	*fault.Target
	traffic sync.RWMutex // a request holds it for reading: to write is to wait for peace
}

const snapshots = "100,50,1s" // threshold, trailing logs, interval

// newWorld starts a cluster with all that faults need, and traffic.
func newWorld(t *testing.T, peers int, n *lab.Network) *world {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	group := supervisor.NewGroup()
	target, err := fault.NewTarget(group, fault.Plan{
		Lookupd: filepath.Join(binaries, "lookupd"), Lookupctl: filepath.Join(binaries, "lookupctl"), Dir: t.TempDir(),
		Peers: peers, Network: n, Secure: true, Proxies: true, Clocks: true, TrailingLogs: 50,
		Env:  []string{"LOOKUPD_SNAPSHOTS=" + snapshots},
		Rand: rand.New(rand.NewPCG(seed, 0)), Log: t.Logf,
	})
	if err != nil {
		t.Fatal(err)
	}
	target.Recorder = history.NewRecorder()
	w := &world{Target: target}
	stop, cancel := context.WithCancel(context.Background())
	var writers sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		writers.Wait()
		if err := errors.Join(group.KillAll(), target.Close()); err != nil {
			t.Error(err)
		}
		for _, p := range target.Cluster.Peers {
			if t.Failed() {
				t.Logf("--- end of the log of %s\n%s", p.Name(), p.LogTail())
			}
		}
	})
	ctx, cancelStart := context.WithTimeout(t.Context(), patience)
	defer cancelStart()
	if err := w.Cluster.Start(ctx); err != nil {
		t.Fatal(err)
	}
	for _, p := range w.Cluster.Peers {
		for range 2 {
			writers.Go(func() { w.write(stop, p) })
		}
	}
	w.checkWhole(t)
	return w
}

// write makes and deletes topics until ctx ends; what becomes of that is no
// matter.
func (w *world) write(ctx context.Context, p *supervisor.Peer) {
	client := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for i := 0; ctx.Err() == nil; i++ {
		w.traffic.RLock()
		verb := []string{"create", "delete"}[i%2]
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, fmt.Sprintf("http://%s/topic/%s?topic=of-%s", w.HTTPAddress(p), verb, p.Name()), nil)
		if err != nil {
			panic(err)
		}
		response, err := client.Do(request)
		if err == nil {
			_, _ = io.Copy(io.Discard, response.Body)
			response.Body.Close()
		}
		w.traffic.RUnlock()
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Millisecond): // the rate of the traffic
		}
	}
}

// checkWhole fails unless all peers run, are ready and come to the same state,
// and no rule of the network is left.
func (w *world) checkWhole(t *testing.T) {
	t.Helper()
	w.traffic.Lock()
	defer w.traffic.Unlock()
	type state struct {
		Index uint64 `json:"index"`
		Hash  string `json:"state_hash"`
		State string `json:"state"`
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := supervisor.Poll(ctx, func(ctx context.Context) error {
		var first state
		for i, p := range w.Cluster.Peers {
			var s state
			if err := p.GetJSON(ctx, "/v1/status", &s); err != nil {
				return err
			}
			if i == 0 {
				first = s
			}
			if s != first || s.State != "healthy" {
				return fmt.Errorf("%s is %+v, the first peer %+v", p.Name(), s, first)
			}
		}
		return nil
	})
	if err != nil {
		t.Errorf("after the fault: %v", err)
	}
	for _, h := range w.Hosts {
		for _, list := range [][]string{{"iptables", "-S", "INPUT"}, {"tc", "qdisc", "show", "dev", "peers"}} {
			words := append(h.Wrap(), list...)
			out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
			if err != nil || strings.Contains(string(out), "-A ") || strings.Contains(string(out), "tbf") {
				t.Errorf("left at %s: %s %v", h.Name, out, err)
			}
		}
	}
}
