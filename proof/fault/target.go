package fault

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lookupd/lookupd/supervisor"
	"github.com/lookupd/lookupd/supervisor/lab"
)

// Plan says what a target is to be made of.
type Plan struct {
	Lookupd string // the executable
	Dir     string // takes data directories and logs
	Peers   int    // called a, b, c and so on
	// Network puts each peer on a host of its own; nil: all are on loopback.
	Network *lab.Network
	// Secure gives the peers certificates and a gossip key.
	Secure bool
	// Lookupctl is the executable that operators use; see Target.
	Lookupctl string
	// Proxies puts proxies before the peers.
	Proxies bool
	// Clocks says that BuildWithClock built the executable.
	Clocks bool
	// TrailingLogs is how many entries Args or Env make the peers keep; see Target.
	TrailingLogs uint64
	Args, Env    []string // of each peer
	// Configure, if it is not nil, may change what a peer is started with.
	Configure func(*supervisor.PeerConfig)
	Rand      *rand.Rand
	Log       func(format string, args ...any)
}

// NewTarget makes a cluster and what faults need around it; it starts no peer.
// Close ends the proxies; the processes end with the group.
func NewTarget(g *supervisor.Group, plan Plan) (*Target, error) {
	t := &Target{
		Group: g, Cluster: &supervisor.Cluster{}, Network: plan.Network,
		Hosts: map[string]*lab.Host{}, Proxies: map[string]*Proxies{}, Clocks: map[string]Clock{},
		TrailingLogs: plan.TrailingLogs, Lookupctl: plan.Lookupctl, Dir: plan.Dir, Rand: plan.Rand, Log: plan.Log,
	}
	var err error
	if plan.Secure {
		t.Secrets, err = newSecrets(filepath.Join(plan.Dir, "secrets"))
	}
	var configs []supervisor.PeerConfig
	if err == nil {
		configs, err = t.configs(plan)
	}
	for i := 0; err == nil && i < len(configs); i++ {
		err = t.addPeer(plan, configs[i])
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make target: %w", err), t.Close())
	}
	return t, nil
}

// Close closes the proxies.
func (t *Target) Close() error {
	var errs []error
	for _, p := range t.Proxies {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}

// TCPAddress is where nsqds are to reach a peer: its proxy, if there is one.
func (t *Target) TCPAddress(p *supervisor.Peer) string {
	if proxies := t.Proxies[p.Name()]; proxies != nil {
		return proxies.TCP.Address()
	}
	return p.TCPAddress()
}

// HTTPAddress is where HTTP clients are to reach a peer: its proxy, if there is
// one.
func (t *Target) HTTPAddress(p *supervisor.Peer) string {
	if proxies := t.Proxies[p.Name()]; proxies != nil {
		return proxies.HTTP.Address()
	}
	return p.HTTPAddress()
}

// configs describes the peers: where they listen and how they find each other.
func (t *Target) configs(plan Plan) ([]supervisor.PeerConfig, error) {
	ports := slices.Repeat([]supervisor.PeerPorts{{TCP: 4160, HTTP: 4161, Peer: 4162, Gossip: 4163}}, plan.Peers)
	var err error
	if plan.Network == nil {
		if ports, err = supervisor.FreePeerPorts(plan.Peers); err != nil {
			return nil, err
		}
	}
	var configs []supervisor.PeerConfig
	var join []string
	for i := range plan.Peers {
		c := supervisor.PeerConfig{
			Name: string(rune('a' + i)), Path: plan.Lookupd, Dir: plan.Dir, Ports: ports[i], Host: supervisor.Loopback, Expect: plan.Peers,
			Args: slices.Clone(plan.Args), Env: slices.Clone(plan.Env),
		}
		if plan.Network != nil {
			h, err := plan.Network.AddHost(c.Name)
			if err != nil {
				return nil, err
			}
			t.Hosts[c.Name] = h
			c.Host, c.PeerHost, c.Wrap = h.Client, h.Peer, h.Wrap()
			// Operators come from where this process is.
			c.Args = append(c.Args, "-admin-cidr", "127.0.0.0/8,"+lab.Address+"/32")
			if t.Secrets == nil {
				c.Args = append(c.Args, "-insecure")
			}
		} else {
			c.PeerHost = c.Host
		}
		join = append(join, net.JoinHostPort(c.PeerHost, strconv.Itoa(c.Ports.Gossip)))
		configs = append(configs, c)
	}
	for i := range configs {
		configs[i].Join = join
	}
	return configs, nil
}

func (t *Target) addPeer(plan Plan, c supervisor.PeerConfig) error {
	if plan.Clocks {
		if err := os.MkdirAll(plan.Dir, 0o700); err != nil {
			return err
		}
		clock := NewClock(filepath.Join(plan.Dir, c.Name+".clock"))
		t.Clocks[c.Name] = clock
		c.Env = append(c.Env, clock.Env())
	}
	if plan.Proxies {
		proxies, err := newProxies(t.Hosts[c.Name], c)
		if err != nil {
			return err
		}
		t.Proxies[c.Name] = proxies
		c.Args = append(c.Args, "-peer-advertise-address", proxies.Peer.Address(),
			"-gossip-advertise-address", net.JoinHostPort(c.PeerHost, strconv.Itoa(c.Ports.Gossip)))
	}
	if t.Secrets != nil {
		args, err := t.Secrets.addPeer(c.Name)
		if err != nil {
			return err
		}
		c.Args = append(c.Args, args...)
	}
	if plan.Configure != nil {
		plan.Configure(&c)
	}
	t.Cluster.Peers = append(t.Cluster.Peers, t.Group.NewPeer(c))
	return nil
}

// newProxies makes those of one peer: for clients where this process is, for
// peers on the peer's own host, so that rules of the network still hold.
func newProxies(h *lab.Host, c supervisor.PeerConfig) (*Proxies, error) {
	own := supervisor.Loopback
	if h != nil {
		own = lab.Address
	}
	proxies := &Proxies{}
	for _, p := range []struct {
		proxy             **Proxy
		host              *lab.Host // nil: where this process is
		listen, serveHost string
		servePort         int
	}{
		{&proxies.TCP, nil, own, c.Host, c.Ports.TCP},
		{&proxies.HTTP, nil, own, c.Host, c.Ports.HTTP},
		{&proxies.Peer, h, c.PeerHost, c.PeerHost, c.Ports.Peer},
	} {
		server := net.JoinHostPort(p.serveHost, strconv.Itoa(p.servePort))
		var listener net.Listener
		err := onHost(p.host, func() (err error) {
			listener, err = net.Listen("tcp4", net.JoinHostPort(p.listen, "0"))
			return err
		})
		if err != nil {
			return nil, errors.Join(err, proxies.Close())
		}
		*p.proxy = NewProxy(listener, func() (conn net.Conn, err error) {
			err = onHost(p.host, func() error {
				conn, err = net.DialTimeout("tcp4", server, dialTimeout)
				return err
			})
			return conn, err
		})
	}
	return proxies, nil
}

// dialTimeout bounds a proxy's dial to its server, on the same machine.
const dialTimeout = 5 * time.Second

// onHost runs f on a thread in the network of a host; what f opens stays there.
// f must not start a goroutine that opens something.
func onHost(h *lab.Host, f func() error) error {
	if h == nil {
		return f()
	}
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		back, err := enter(h)
		if err != nil {
			result <- err
			return // and with it the locked thread, wherever it is
		}
		err = f()
		if backErr := back(); backErr != nil {
			result <- errors.Join(err, backErr)
			return
		}
		runtime.UnlockOSThread()
		result <- err
	}()
	return <-result
}

// enter moves the present thread into a host's network; back moves it out again.
func enter(h *lab.Host) (back func() error, err error) {
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	there, err := os.Open(h.NamespacePath())
	if err != nil {
		own.Close()
		return nil, err
	}
	defer there.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		own.Close()
		return nil, fmt.Errorf("enter the network of %s: %w", h.Name, err)
	}
	return func() error {
		defer own.Close()
		return unix.Setns(int(own.Fd()), unix.CLONE_NEWNET)
	}, nil
}
