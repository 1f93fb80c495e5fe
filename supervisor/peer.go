package supervisor

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// PeerConfig describes one lookupd.
type PeerConfig struct {
	Name  string
	Path  string // of the lookupd executable
	Dir   string // takes the data directory and the log
	Log   string // file that takes the output, "" for one in Dir
	Ports PeerPorts
	// Host is where nsqds and HTTP clients reach the peer, "" for Loopback;
	// PeerHost is where other peers do, "" for Host.
	Host, PeerHost string
	Wrap           []string // as in Spec
	// Join holds gossip addresses; with neither Join nor Expect the peer is alone.
	Join   []string
	Expect int
	Args   []string // further flags
	Env    []string
}

// Peer is a lookupd process. Its methods may be called from any goroutine, but
// Move and SetJoin only while nobody starts it.
type Peer struct {
	*Process
	config PeerConfig
}

// NewPeer adds a lookupd to the group, without starting it.
func (g *Group) NewPeer(config PeerConfig) *Peer {
	config.Host = cmp.Or(config.Host, Loopback)
	config.PeerHost = cmp.Or(config.PeerHost, config.Host)
	p := &Peer{config: config}
	p.Process = g.NewProcess(Spec{
		Name:  config.Name,
		Path:  config.Path,
		Wrap:  config.Wrap,
		Env:   config.Env,
		Log:   cmp.Or(config.Log, filepath.Join(config.Dir, config.Name+".log")),
		Ready: p.Ready,
	})
	return p
}

// Start runs the peer with its present ports.
func (p *Peer) Start() error {
	p.SetArgs(p.args())
	return p.Process.Start()
}

func (p *Peer) args() []string {
	c := p.config
	args := []string{
		"-node-name", c.Name,
		"-data-path", p.DataPath(),
		"-tcp-address", p.TCPAddress(),
		"-http-address", p.HTTPAddress(),
		"-peer-address", p.PeerAddress(),
		"-gossip-address", p.GossipAddress(),
		"-broadcast-address", c.Host,
	}
	if c.PeerHost != c.Host {
		args = append(args, "-peer-advertise-address", p.PeerAddress(), "-gossip-advertise-address", p.GossipAddress())
	}
	if c.Expect > 0 {
		args = append(args, "-bootstrap-expect", strconv.Itoa(c.Expect))
	}
	if len(c.Join) > 0 {
		args = append(args, "-join", strings.Join(c.Join, ","))
	}
	return append(args, c.Args...)
}

// Move gives the peer other ports for its next start.
func (p *Peer) Move(ports PeerPorts, join []string) {
	p.config.Ports, p.config.Join = ports, join
}

// Ports returns the peer's ports.
func (p *Peer) Ports() PeerPorts { return p.config.Ports }

// DataPath returns the data directory.
func (p *Peer) DataPath() string { return filepath.Join(p.config.Dir, p.config.Name) }

// TCPAddress is where nsqds connect.
func (p *Peer) TCPAddress() string { return hostPort(p.config.Host, p.config.Ports.TCP) }

// HTTPAddress is where consumers and nsqadmin ask.
func (p *Peer) HTTPAddress() string { return hostPort(p.config.Host, p.config.Ports.HTTP) }

// PeerAddress is where other peers' raft and calls reach this one.
func (p *Peer) PeerAddress() string { return hostPort(p.config.PeerHost, p.config.Ports.Peer) }

// GossipAddress is where other peers' gossip reaches this one.
func (p *Peer) GossipAddress() string { return hostPort(p.config.PeerHost, p.config.Ports.Gossip) }

// URL returns the URL of a path, which may have a query, at this peer.
func (p *Peer) URL(path string) string { return "http://" + p.HTTPAddress() + path }

// GetJSON decodes the answer to GET path, which must be 200.
func (p *Peer) GetJSON(ctx context.Context, path string, into any) error {
	status, body, err := Get(ctx, p.URL(path))
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("GET %s of %s: status %d: %.200s", path, p.Name(), status, body)
	}
	return json.Unmarshal(body, into)
}

// Ready returns nil if the peer says that it is ready.
func (p *Peer) Ready(ctx context.Context) error { return WantOK(ctx, p.URL("/readyz")) }

// Leader returns the name of the leader that this peer knows, "" if none.
func (p *Peer) Leader(ctx context.Context) (string, error) {
	var status struct {
		Leader string `json:"leader"`
	}
	err := p.GetJSON(ctx, "/v1/status", &status)
	return status.Leader, err
}

// Restart stops the peer as an operator would and starts it again.
func (p *Peer) Restart(timeout time.Duration) error {
	if err := p.Stop(timeout); err != nil {
		return err
	}
	return p.Start()
}
