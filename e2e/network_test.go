package e2e_test

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lookupd/lookupd/supervisor"
	"github.com/lookupd/lookupd/supervisor/lab"
)

// ownNetworkLimit bounds a test in a network of its own.
const ownNetworkLimit = 4 * time.Minute

// network is a lab.Network whose failures end the test.
type network struct {
	*lab.Network
	t *testing.T
}

// inOwnNetwork runs body in another process of this program, which has a network
// and mounts of its own, and waits for it.
func inOwnNetwork(t *testing.T, body func(t *testing.T, n *network)) {
	t.Helper()
	if lab.Inside() == t.Name() {
		n, err := lab.New()
		if err != nil {
			t.Fatal(err)
		}
		body(t, &network{n, t})
		return
	}
	if err := lab.Missing(); err != nil {
		skipNeeds(t, err.Error())
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	p := w.NewProcess(supervisor.Spec{
		Name: "own-network", Wrap: lab.Wrap(), Path: self,
		Args: []string{"-test.run", "^" + t.Name() + "$", "-test.v", "-test.timeout", ownNetworkLimit.String()},
		Env:  []string{lab.Env(t.Name())},
		Log:  filepath.Join(t.TempDir(), "own-network"),
	})
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.Exited():
	case <-time.After(ownNetworkLimit + patience):
		t.Error("does not end")
	}
	out, err := os.ReadFile(p.LogPath())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("in a network of its own:\n%s", out)
	if p.ExitCode() != 0 || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("failed, exit code %d", p.ExitCode())
	}
}

// host adds a host.
func (n *network) host(name string) *lab.Host {
	n.t.Helper()
	h, err := n.AddHost(name)
	if err != nil {
		n.t.Fatal(err)
	}
	return h
}

// link does something to a host's link, such as (*lab.Host).Unplug.
func link(t *testing.T, do func(*lab.Host, lab.Switch) error, h *lab.Host, s lab.Switch) {
	t.Helper()
	if err := do(h, s); err != nil {
		t.Fatal(err)
	}
}

// peersOn starts a cluster with one peer on each host.
func (w *world) peersOn(hosts []*lab.Host, args ...string) *supervisor.Cluster {
	w.t.Helper()
	same := supervisor.PeerPorts{TCP: 4160, HTTP: 4161, Peer: 4162, Gossip: 4163}
	var join []string
	for _, h := range hosts {
		join = append(join, net.JoinHostPort(h.Peer, strconv.Itoa(same.Gossip)))
	}
	c := &supervisor.Cluster{}
	for _, h := range hosts {
		c.Peers = append(c.Peers, w.NewPeer(supervisor.PeerConfig{
			Name: h.Name, Path: binaries.lookupd, Dir: w.dir, Ports: same, Host: h.Client, PeerHost: h.Peer, Wrap: h.Wrap(),
			Join: join, Expect: len(hosts), Args: append([]string{"-insecure"}, args...),
		}))
	}
	w.startCluster(c)
	return c
}

// nsqdOn starts an nsqd on a host.
func (w *world) nsqdOn(h *lab.Host, lookupds ...string) *nsqd {
	w.t.Helper()
	return w.startNSQD(supervisor.NSQDConfig{
		Name: "nsqd-" + h.Name, Ports: supervisor.NSQPorts{TCP: 4150, HTTP: 4151}, Host: h.Client, Wrap: h.Wrap(), Lookupds: lookupds,
	})
}
