package supervisor_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lookupd/lookupd/supervisor"
)

// newGroup returns a group that ends with the test, and checks that it can.
func newGroup(t *testing.T) *supervisor.Group {
	t.Helper()
	g := supervisor.NewGroup()
	t.Cleanup(func() {
		if err := g.KillAll(); err != nil {
			t.Error(err)
		}
	})
	return g
}

func shell(t *testing.T, g *supervisor.Group, script string) *supervisor.Process {
	t.Helper()
	return g.NewProcess(supervisor.Spec{
		Name: "sh", Path: "/bin/sh", Args: []string{"-c", script}, Log: filepath.Join(t.TempDir(), "sh.log"),
	})
}

func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func mustStart(t *testing.T, p *supervisor.Process) {
	t.Helper()
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
}

func TestStartKillStartAgain(t *testing.T) {
	p := shell(t, newGroup(t), "echo hello; exec sleep 60")
	mustStart(t, p)
	if err := p.Start(); !errors.Is(err, supervisor.ErrRunning) {
		t.Errorf("second start: %v, want ErrRunning", err)
	}
	waitLines(t, p, 1)
	first := p.PID()
	if err := p.Kill(); err != nil || p.Running() {
		t.Fatalf("kill: %v, running %v", err, p.Running())
	}
	if err := p.Kill(); err != nil {
		t.Errorf("kill of what does not run: %v", err)
	}
	mustStart(t, p)
	if p.PID() == first || !p.Running() {
		t.Errorf("not started again: pid %d, was %d", p.PID(), first)
	}
	waitLines(t, p, 2)
}

// waitLines waits until the log of all runs has n lines.
func waitLines(t *testing.T, p *supervisor.Process, n int) {
	t.Helper()
	err := supervisor.Poll(deadline(t), func(context.Context) error {
		if got := strings.Count(p.LogTail(), "\n"); got != n {
			return fmt.Errorf("%d lines in the log, want %d", got, n)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestStopIsPoliteThenNot(t *testing.T) {
	g := newGroup(t)
	polite := shell(t, g, `trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done`)
	deaf := shell(t, g, `trap '' TERM; echo ready; while :; do sleep 0.01; done`)
	for _, p := range []*supervisor.Process{polite, deaf} {
		mustStart(t, p)
		waitLines(t, p, 1)
	}
	if err := polite.Stop(5 * time.Second); err != nil || polite.ExitCode() != 7 {
		t.Errorf("stop: %v, exit code %d, want 7", err, polite.ExitCode())
	}
	if err := deaf.Stop(50 * time.Millisecond); err == nil || deaf.Running() {
		t.Errorf("stop of a deaf process: %v, running %v; want an error and its end", err, deaf.Running())
	}
}

func TestWaitReady(t *testing.T) {
	g := newGroup(t)
	never := func(context.Context) error { return errors.New("port is closed") }
	log := filepath.Join(t.TempDir(), "log")

	ended := g.NewProcess(supervisor.Spec{Name: "ended", Path: "/bin/sh", Args: []string{"-c", "echo because; exit 3"}, Log: log, Ready: never})
	mustStart(t, ended)
	<-ended.Exited()
	if err := ended.WaitReady(deadline(t)); !errors.Is(err, supervisor.ErrNotRunning) || !strings.Contains(err.Error(), "because") {
		t.Errorf("wait for an ended process: %v, want ErrNotRunning and its log", err)
	}

	ending := g.NewProcess(supervisor.Spec{Name: "ending", Path: "/bin/sh", Args: []string{"-c", "read line"}, Log: log, Ready: func(ctx context.Context) error {
		return errors.New("not yet")
	}})
	mustStart(t, ending) // ends at once or a little later, both while waited for
	if err := ending.WaitReady(deadline(t)); !errors.Is(err, supervisor.ErrExited) && !errors.Is(err, supervisor.ErrNotRunning) {
		t.Errorf("wait for an ending process: %v, want ErrExited", err)
	}

	slow := g.NewProcess(supervisor.Spec{Name: "slow", Path: "/bin/sleep", Args: []string{"60"}, Log: log, Ready: never})
	mustStart(t, slow)
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if err := slow.WaitReady(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "port is closed") {
		t.Errorf("wait beyond the deadline: %v, want it and the last reason", err)
	}
}

func TestCloseEndsAllChildren(t *testing.T) {
	g := supervisor.NewGroup()
	var pids []int
	for range 3 {
		p := shell(t, g, "exec sleep 60")
		mustStart(t, p)
		pids = append(pids, p.PID())
	}
	last := shell(t, g, "exec sleep 60")
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if err := g.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("process %d is still there: %v", pid, err)
		}
	}
	if err := last.Start(); !errors.Is(err, supervisor.ErrClosed) {
		t.Errorf("start after close: %v, want ErrClosed", err)
	}
}

func TestFreePortsAreFree(t *testing.T) {
	ports, err := supervisor.FreePorts(8)
	if err != nil {
		t.Fatal(err)
	}
	for i, port := range ports {
		if port != ports[0]+i {
			t.Fatalf("%v is no block", ports)
		}
		listener, err := net.Listen("tcp", supervisor.Address(port))
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
	}
	if supervisor.PortsFree(ports...) {
		t.Error("taken ports are said to be free")
	}
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	if supervisor.PortFree(socket.LocalAddr().(*net.UDPAddr).Port) {
		t.Error("a port taken by UDP is said to be free")
	}
}

// fakePeers returns peers at whose HTTP addresses handlers answer.
func fakePeers(t *testing.T, handlers ...http.HandlerFunc) []*supervisor.Peer {
	t.Helper()
	g := newGroup(t)
	var peers []*supervisor.Peer
	for _, handler := range handlers {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: handler}
		go func() { _ = server.Serve(listener) }()
		t.Cleanup(func() { _ = server.Close() })
		peers = append(peers, g.NewPeer(supervisor.PeerConfig{
			Name: string(rune('a' + len(peers))), Dir: t.TempDir(),
			Ports: supervisor.PeerPorts{HTTP: listener.Addr().(*net.TCPAddr).Port},
		}))
	}
	return peers
}

func TestWatchJudgesAnswers(t *testing.T) {
	const full = `{"channels":["c"],"producers":[{"broadcast_address":"h","tcp_port":1}]}`
	answer := func(status int, lookup string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/topics" {
				fmt.Fprint(w, `{"topics":["t"]}`)
				return
			}
			w.WriteHeader(status)
			fmt.Fprint(w, lookup)
		}
	}
	for _, test := range []struct {
		name                  string
		second                http.HandlerFunc
		wantWrong, wantRefuse bool
	}{
		{"the same", answer(200, full), false, false},
		{"more, so that the first is behind", answer(200, strings.Replace(full, `["c"]`, `["b","c"]`, 1)), true, false},
		{"no producer", answer(200, `{"channels":["c"],"producers":[]}`), true, false},
		{"no topic", answer(404, `{"message":"TOPIC_NOT_FOUND"}`), true, false},
		{"no JSON", answer(200, `<`), true, false},
		{"no quorum", answer(503, `{"message":"NO_QUORUM"}`), false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			asked := make(chan struct{}, 1000)
			counted := func(w http.ResponseWriter, r *http.Request) {
				test.second(w, r)
				asked <- struct{}{}
			}
			peers := fakePeers(t, answer(200, full), counted)
			watch, err := supervisor.NewWatch(deadline(t), peers[:1])
			if err != nil {
				t.Fatal(err)
			}
			if r := watch.Stop(); r.Wrong != 0 || r.Refused != 0 || r.Right == 0 {
				t.Fatalf("a steady peer: %+v", r)
			}
			// Learn from the first, judge the second.
			watch, err = supervisor.NewWatch(deadline(t), peers)
			if err != nil {
				t.Fatal(err)
			}
			for range 20 {
				<-asked
			}
			r := watch.Stop()
			if (r.Wrong > 0) != test.wantWrong || (r.Refused > 0) != test.wantRefuse {
				t.Errorf("%+v, want wrong %v, refused %v", r, test.wantWrong, test.wantRefuse)
			}
		})
	}
}

func TestPeerFlags(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(dir, "lookupd")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho \"$@\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	g := newGroup(t)
	c := g.NewCluster(supervisor.ClusterConfig{Path: script, Dir: dir, Ports: []supervisor.PeerPorts{{1, 2, 3, 4}, {5, 6, 7, 8}}})
	b := c.Peer("b")
	for _, want := range []string{
		"-node-name b -data-path " + dir + "/b -tcp-address 127.0.0.1:5 -http-address 127.0.0.1:6 -peer-address 127.0.0.1:7 " +
			"-gossip-address 127.0.0.1:8 -broadcast-address 127.0.0.1 -bootstrap-expect 2 -join 127.0.0.1:4,127.0.0.1:8\n",
		"-tcp-address 127.0.0.1:15 -http-address 127.0.0.1:16",
	} {
		if err := b.Start(); err != nil {
			t.Fatal(err)
		}
		<-b.Exited()
		if got := b.LogTail(); !strings.Contains(got, want) {
			t.Errorf("flags %q, want %q", got, want)
		}
		c.Move([]supervisor.PeerPorts{{11, 12, 13, 14}, {15, 16, 17, 18}})
	}
}

func TestPeerElsewhere(t *testing.T) {
	dir := t.TempDir()
	config := supervisor.PeerConfig{
		Name: "a", Path: "lookupd", Dir: dir, Ports: supervisor.PeerPorts{TCP: 1, HTTP: 2, Peer: 3, Gossip: 4},
		Host: "10.0.0.1", PeerHost: "10.0.1.1", Wrap: []string{"/bin/echo", "wrapped", "-n"},
	}
	p := newGroup(t).NewPeer(config)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	<-p.Exited()
	got := p.LogTail()
	for _, want := range []string{
		"wrapped -n lookupd -node-name a ",
		" -tcp-address 10.0.0.1:1 -http-address 10.0.0.1:2 -peer-address 10.0.1.1:3 -gossip-address 10.0.1.1:4 -broadcast-address 10.0.0.1 ",
		" -peer-advertise-address 10.0.1.1:3 -gossip-advertise-address 10.0.1.1:4",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if p.TCPAddress() != "10.0.0.1:1" || p.GossipAddress() != "10.0.1.1:4" || p.URL("/x") != "http://10.0.0.1:2/x" {
		t.Errorf("%s %s %s", p.TCPAddress(), p.GossipAddress(), p.URL("/x"))
	}
}
