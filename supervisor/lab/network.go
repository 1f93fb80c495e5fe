package lab

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
)

// A Switch joins one link of each host.
type Switch string

// The two switches. Each is also the name of the hosts' links to it.
const (
	Peers   Switch = "peers"   // addresses 10.88.1.x
	Clients Switch = "clients" // addresses 10.88.2.x
)

// Address is the process's own, on the clients' switch.
const Address = "10.88.2.254"

// maxHosts is bound by the addresses.
const maxHosts = 250

// Network is the network of this process.
type Network struct {
	mu    sync.Mutex
	hosts []*Host
	rules []*Rule // those in force
	made  int     // rules ever made, for their names
}

// New sets up the network of a process that is inside: two switches, no host.
// A process calls it once.
func New() (*Network, error) {
	if Inside() == "" {
		return nil, ErrOutside
	}
	commands := [][]string{
		{"mount", "-t", "tmpfs", "none", "/run"}, // ip and iptables keep their files there
		{"ip", "link", "set", "dev", "lo", "up"},
	}
	for _, s := range []Switch{Peers, Clients} {
		commands = append(commands,
			[]string{"ip", "link", "add", "name", string(s), "type", "bridge", "forward_delay", "0"},
			[]string{"ip", "link", "set", "dev", string(s), "up"})
	}
	commands = append(commands, []string{"ip", "addr", "add", Address + "/24", "dev", string(Clients)})
	if err := runAll(commands); err != nil {
		return nil, fmt.Errorf("set up network: %w", err)
	}
	return &Network{}, nil
}

func runAll(commands [][]string) error {
	for _, words := range commands {
		if err := run(words[0], words[1:]...); err != nil {
			return err
		}
	}
	return nil
}

// Host is one namespace of the network. Its fields do not change.
type Host struct {
	Name         string // at most 7 letters: it is part of the links' names
	Peer, Client string // its addresses on the two switches

	network *Network
}

// AddHost adds a host with links to both switches.
func (n *Network) AddHost(name string) (*Host, error) {
	h, err := n.newHost(name)
	if err != nil {
		return nil, fmt.Errorf("add host %q: %w", name, err)
	}
	commands := [][]string{
		{"ip", "netns", "add", name},
		{"ip", "-n", name, "link", "set", "dev", "lo", "up"},
	}
	for s, address := range map[Switch]string{Peers: h.Peer, Clients: h.Client} {
		commands = append(commands,
			[]string{"ip", "link", "add", "name", h.port(s), "type", "veth", "peer", "name", string(s), "netns", name},
			[]string{"ip", "-n", name, "addr", "add", address + "/24", "dev", string(s)},
			[]string{"ip", "-n", name, "link", "set", "dev", string(s), "up"},
			[]string{"ip", "link", "set", "dev", h.port(s), "up"},
			[]string{"ip", "link", "set", "dev", h.port(s), "master", string(s)})
	}
	if err := runAll(commands); err != nil {
		return nil, fmt.Errorf("add host %q: %w", name, err)
	}
	return h, nil
}

func (n *Network) newHost(name string) (*Host, error) {
	const longest = 7
	n.mu.Lock()
	defer n.mu.Unlock()
	if name == "" || len(name) > longest {
		return nil, fmt.Errorf("a name has 1 to %d letters", longest)
	}
	if len(n.hosts) == maxHosts {
		return nil, fmt.Errorf("there are %d already", maxHosts)
	}
	if slices.ContainsFunc(n.hosts, func(h *Host) bool { return h.Name == name }) {
		return nil, errors.New("there is one of that name")
	}
	number := strconv.Itoa(len(n.hosts) + 1)
	h := &Host{Name: name, Peer: "10.88.1." + number, Client: "10.88.2." + number, network: n}
	n.hosts = append(n.hosts, h)
	return h, nil
}

// Hosts returns all hosts, in the order in which they were added.
func (n *Network) Hosts() []*Host {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.hosts)
}

// NamespacePath is the file that stands for the host's network.
func (h *Host) NamespacePath() string { return "/run/netns/" + h.Name }

// Wrap returns the command that runs another one on the host; the process id
// stays.
func (h *Host) Wrap() []string { return []string{"nsenter", "--net=" + h.NamespacePath()} }

// port is the switch's end of a link.
func (h *Host) port(s Switch) string { return h.Name + "-" + string(s) }

// Plug connects the host to a switch, as it is from the start.
func (h *Host) Plug(s Switch) error {
	return run("ip", "link", "set", "dev", h.port(s), "master", string(s))
}

// Unplug takes the host's cable out of a switch: what it sends goes nowhere, its
// own end stays up.
func (h *Host) Unplug(s Switch) error {
	return run("ip", "link", "set", "dev", h.port(s), "nomaster")
}

// LinkDown switches the host's own end of a link off, LinkUp on again.
func (h *Host) LinkDown(s Switch) error {
	return run("ip", "-n", h.Name, "link", "set", "dev", string(s), "down")
}

// LinkUp undoes LinkDown.
func (h *Host) LinkUp(s Switch) error {
	return run("ip", "-n", h.Name, "link", "set", "dev", string(s), "up")
}
