package e2e_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lookupd/lookupd/supervisor"
)

// ownNetworkEnv names, to a process that runs in a network of its own, the test
// that it is to run there.
const ownNetworkEnv = "LOOKUPD_E2E_OWN_NETWORK"

// ownNetworkLimit bounds a test in a network of its own.
const ownNetworkLimit = 4 * time.Minute

// network is a network of this process alone: hosts, each a namespace with one
// link to a switch for peers and one to a switch for clients. The test is on
// the clients' switch. All of it ends with the process.
type network struct {
	t     *testing.T
	hosts int
}

// inOwnNetwork runs body in another process of this program, which has a network
// and mounts of its own, and waits for it.
func inOwnNetwork(t *testing.T, body func(t *testing.T, n *network)) {
	t.Helper()
	if os.Getenv(ownNetworkEnv) == t.Name() {
		n := &network{t: t}
		n.setUp()
		body(t, n)
		return
	}
	needsNamespaces(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	p := w.NewProcess(supervisor.Spec{
		Name: "own-network", Wrap: []string{"unshare", "--net", "--mount"}, Path: self,
		Args: []string{"-test.run", "^" + t.Name() + "$", "-test.v", "-test.timeout", ownNetworkLimit.String()},
		Env:  []string{ownNetworkEnv + "=" + t.Name()},
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

// needsNamespaces skips the test if this machine does not let it make networks.
func needsNamespaces(t *testing.T) {
	t.Helper()
	for _, program := range []string{"unshare", "nsenter", "ip", "mount"} {
		if _, err := exec.LookPath(program); err != nil {
			skipNeeds(t, program)
		}
	}
	const try = "ip link add name sw0 type bridge && ip link add name v0 type veth peer name v1 && mount -t tmpfs none /run"
	if out, err := exec.CommandContext(within(t, patience), "unshare", "--net", "--mount", "sh", "-c", try).CombinedOutput(); err != nil {
		skipNeeds(t, fmt.Sprintf("root, and network namespaces with bridges and veth (%v: %.200s)", err, bytes.TrimSpace(out)))
	}
}

// Addresses: 10.88.<switch>.<host>.
const (
	peersSwitch, clientsSwitch = "peers", "clients"
	testAddress                = "10.88.2.254"
)

func (n *network) setUp() {
	n.t.Helper()
	n.run("mount", "-t", "tmpfs", "none", "/run") // ip keeps its names there
	n.run("ip", "link", "set", "dev", "lo", "up")
	for _, name := range []string{peersSwitch, clientsSwitch} {
		n.run("ip", "link", "add", "name", name, "type", "bridge", "forward_delay", "0")
		n.run("ip", "link", "set", "dev", name, "up")
	}
	n.run("ip", "addr", "add", testAddress+"/24", "dev", clientsSwitch)
}

func (n *network) run(name string, args ...string) {
	n.t.Helper()
	if out, err := exec.CommandContext(within(n.t, patience), name, args...).CombinedOutput(); err != nil {
		n.t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// host is one namespace.
type host struct {
	network     *network
	name        string
	client, own string   // its addresses on the clients' and on the peers' switch
	wrap        []string // runs a command there
}

// host adds a host with links to both switches.
func (n *network) host(name string) *host {
	n.t.Helper()
	n.hosts++
	number := strconv.Itoa(n.hosts)
	h := &host{
		network: n, name: name, own: "10.88.1." + number, client: "10.88.2." + number,
		wrap: []string{"nsenter", "--net=/run/netns/" + name},
	}
	n.run("ip", "netns", "add", name)
	n.run("ip", "-n", name, "link", "set", "dev", "lo", "up")
	for to, address := range map[string]string{peersSwitch: h.own, clientsSwitch: h.client} {
		n.run("ip", "link", "add", "name", h.port(to), "type", "veth", "peer", "name", to, "netns", name)
		n.run("ip", "-n", name, "addr", "add", address+"/24", "dev", to)
		n.run("ip", "-n", name, "link", "set", "dev", to, "up")
		n.run("ip", "link", "set", "dev", h.port(to), "up")
		h.plug(to)
	}
	return h
}

// port is the switch's end of a link.
func (h *host) port(to string) string { return h.name + "-" + to }

// plug connects the host to a switch.
func (h *host) plug(to string) {
	h.network.t.Helper()
	h.network.run("ip", "link", "set", "dev", h.port(to), "master", to)
}

// unplug takes the host's cable out of a switch: what it sends goes nowhere, its
// own end stays up.
func (h *host) unplug(from string) {
	h.network.t.Helper()
	h.network.run("ip", "link", "set", "dev", h.port(from), "nomaster")
}

// linkDown switches the host's own end of a link off.
func (h *host) linkDown(to string) {
	h.network.t.Helper()
	h.network.run("ip", "-n", h.name, "link", "set", "dev", to, "down")
}

// peersOn starts a cluster with one peer on each host.
func (w *world) peersOn(hosts []*host, args ...string) *supervisor.Cluster {
	w.t.Helper()
	same := supervisor.PeerPorts{TCP: 4160, HTTP: 4161, Peer: 4162, Gossip: 4163}
	var join []string
	for _, h := range hosts {
		join = append(join, net.JoinHostPort(h.own, strconv.Itoa(same.Gossip)))
	}
	c := &supervisor.Cluster{}
	for _, h := range hosts {
		c.Peers = append(c.Peers, w.NewPeer(supervisor.PeerConfig{
			Name: h.name, Path: binaries.lookupd, Dir: w.dir, Ports: same, Host: h.client, PeerHost: h.own, Wrap: h.wrap,
			Join: join, Expect: len(hosts), Args: append([]string{"-insecure"}, args...),
		}))
	}
	w.startCluster(c)
	return c
}

// nsqdOn starts an nsqd on a host.
func (w *world) nsqdOn(h *host, lookupds ...string) *nsqd {
	w.t.Helper()
	return w.startNSQD(supervisor.NSQDConfig{
		Name: "nsqd-" + h.name, Ports: supervisor.NSQPorts{TCP: 4150, HTTP: 4151}, Host: h.client, Wrap: h.wrap, Lookupds: lookupds,
	})
}
