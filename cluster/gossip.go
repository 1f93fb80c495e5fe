package cluster

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/secrets"
	"github.com/lookupd/lookupd/store"
)

const (
	// rejoinEvery is how often peers that are not alive are dialled again:
	// memberlist forgets the dead, so pools that were apart stay apart
	// (hashicorp/memberlist #222).
	rejoinEvery = 10 * time.Second
	// joinEvery is the same while this peer sees nobody.
	joinEvery    = 500 * time.Millisecond
	gossipLeave  = time.Second
	gossipPort   = "4163"
	gossipFormat = 1
)

// member is what a peer tells of itself in gossip. It is a hint: it says where
// a peer may be found, never who votes.
type member struct {
	Format    int             `json:"v"`
	ClusterID string          `json:"c,omitempty"` // "" while fresh
	ID        registry.NodeID `json:"n"`
	Epoch     uint64          `json:"e"`
	Address   string          `json:"p"` // of the peer port
	Expect    int             `json:"x,omitempty"`
	NonVoter  bool            `json:"o,omitempty"`

	gossip string // address that the message came from, as host:port
}

// gossip finds peers and spreads their addresses.
//
// Lock order: memberlist calls the delegates with its own lock held, so they
// only touch what mu guards and never call memberlist.
type gossip struct {
	log  *slog.Logger
	most int           // members
	self func() member // what this peer tells now
	list *memberlist.Memberlist
	addr string // that this peer is known by; memberlist's own copy is not safe to read

	keys    *memberlist.Keyring                // nil without a key
	keyFile *secrets.Watch[secrets.GossipKeys] // followKeys'

	changed chan struct{} // one slot; set at each change of members

	mu      sync.Mutex
	members map[string]member // by memberlist name, alive ones
	refused map[string]bool   // names already complained about
}

type gossipConfig struct {
	Address   string // listen
	Advertise string // "" = the listener's
	KeyFile   string // "" = no key
	Self      func() member
	Members   int // most that are taken notice of
	LogLines  int // warnings a second
	Logger    *slog.Logger
}

// openGossip listens; it does not dial anybody yet.
func openGossip(cfg gossipConfig) (*gossip, error) {
	g := &gossip{
		log: cfg.Logger, most: cfg.Members, self: cfg.Self, changed: make(chan struct{}, 1),
		members: map[string]member{}, refused: map[string]bool{},
	}
	mc := memberlist.DefaultLANConfig()
	self := cfg.Self()
	// Each start is a new member: the old one, which others may still think
	// alive at the old address, is no conflict (hashicorp/memberlist #157).
	mc.Name = memberName(self.ID, self.Epoch)
	mc.Delegate, mc.Events, mc.Alive, mc.Merge = g, g, g, g
	mc.Logger = stdLogger(cfg.Logger, cfg.LogLines)
	mc.LogOutput = nil
	mc.TCPTimeout = time.Second // Close may have to wait for one dial
	host, port, err := splitHostPort(cfg.Address)
	if err != nil {
		return nil, err
	}
	mc.BindAddr, mc.BindPort = host, port
	if host == "" {
		mc.BindAddr = "0.0.0.0"
	}
	if cfg.Advertise != "" {
		ahost, aport, err := splitHostPort(cfg.Advertise)
		if err != nil {
			return nil, err
		}
		ip, err := net.ResolveIPAddr("ip", ahost)
		if err != nil {
			return nil, fmt.Errorf("gossip advertise address %s: %w", cfg.Advertise, err)
		}
		mc.AdvertiseAddr, mc.AdvertisePort = ip.String(), aport
	}
	if cfg.KeyFile != "" {
		if err := g.loadKeys(cfg.KeyFile); err != nil {
			return nil, fmt.Errorf("gossip key: %w", err)
		}
		mc.Keyring = g.keys
	}
	if g.list, err = memberlist.Create(mc); err != nil {
		return nil, fmt.Errorf("gossip on %s: %w", cfg.Address, err)
	}
	g.addr = g.list.LocalNode().Address()
	return g, nil
}

func splitHostPort(address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	if port, err = strconv.Atoi(text); err != nil || port < 0 || port > 65535 {
		return "", 0, fmt.Errorf("%s: %q is not a port", address, text)
	}
	return host, port, nil
}

func memberName(id registry.NodeID, epoch uint64) string { return fmt.Sprintf("%s.%d", id, epoch) }

// Addr is the address that this peer is known by in gossip.
func (g *gossip) Addr() string { return g.addr }

// alive returns the latest start of each living peer, this one included, by id.
func (g *gossip) alive() []member {
	latest := map[registry.NodeID]member{}
	g.mu.Lock()
	for _, m := range g.members {
		if m.Epoch >= latest[m.ID].Epoch {
			latest[m.ID] = m
		}
	}
	g.mu.Unlock()
	self := g.self()
	latest[self.ID] = self
	members := make([]member, 0, len(latest))
	for _, m := range latest {
		members = append(members, m)
	}
	slices.SortFunc(members, func(a, b member) int { return cmp.Compare(a.ID, b.ID) })
	return members
}

func (g *gossip) find(id registry.NodeID) (found member, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, m := range g.members {
		if m.ID == id && m.Epoch >= found.Epoch {
			found, ok = m, true
		}
	}
	return found, ok
}

// announce spreads what self returns now.
func (g *gossip) announce() {
	if err := g.list.UpdateNode(time.Second); err != nil {
		g.log.Debug("gossip update", "err", err)
	}
}

// rejoin dials the seeds and every known address that is not alive, for ever.
func (g *gossip) rejoin(ctx context.Context, seeds func(context.Context) []string) {
	for {
		var absent []string
		alive := map[string]bool{g.Addr(): true}
		for _, m := range g.alive() {
			alive[m.gossip] = true
		}
		for _, address := range seeds(ctx) {
			if !alive[address] {
				alive[address] = true
				absent = append(absent, address)
			}
		}
		for _, address := range absent { // one at a time: Join knows no context
			if ctx.Err() != nil {
				return
			}
			if _, err := g.list.Join([]string{address}); err != nil {
				g.log.Debug("gossip join", "address", address, "err", err)
			}
		}
		wait := rejoinEvery + rand.N(rejoinEvery)
		if len(g.alive()) == 1 {
			wait = joinEvery
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func (g *gossip) close() error {
	if err := g.list.Leave(gossipLeave); err != nil {
		g.log.Debug("gossip leave", "err", err)
	}
	return g.list.Shutdown()
}

func (g *gossip) signal() {
	select {
	case g.changed <- struct{}{}:
	default:
	}
}

// parse returns what a node tells, or why it is not one of us.
func (g *gossip) parse(node *memberlist.Node) (member, error) {
	var m member
	if err := json.Unmarshal(node.Meta, &m); err != nil {
		return m, fmt.Errorf("metadata is not lookupd's: %w", err)
	}
	if node.Name != memberName(m.ID, m.Epoch) {
		return m, fmt.Errorf("metadata of %.64q under another name", m.ID)
	}
	if !store.ValidNodeID(m.ID) {
		return m, fmt.Errorf("%.64q is not a node id", m.ID)
	}
	if host, _, err := splitHostPort(m.Address); err != nil || host == "" {
		return m, fmt.Errorf("%.64q is not an address", m.Address)
	}
	if ours := g.self().ClusterID; ours != "" && m.ClusterID != "" && m.ClusterID != ours {
		return m, fmt.Errorf("belongs to cluster %.64s, this peer to %s", m.ClusterID, ours)
	}
	m.gossip = node.Address()
	return m, nil
}

// NotifyAlive refuses every message about a node of another cluster.
func (g *gossip) NotifyAlive(node *memberlist.Node) error {
	_, err := g.parse(node)
	g.mu.Lock()
	defer g.mu.Unlock()
	if err == nil && len(g.members) >= g.most && g.members[node.Name].ID == "" {
		err = fmt.Errorf("more than %d members", g.most)
	}
	if err != nil && !g.refused[node.Name] && len(g.refused) < g.most {
		g.refused[node.Name] = true
		g.log.Warn("gossip member refused", "member", fmt.Sprintf("%.128q", node.Name), "address", node.Address(), "err", err)
	}
	return err
}

// NotifyMerge refuses to join a pool that holds another cluster.
func (g *gossip) NotifyMerge(nodes []*memberlist.Node) error {
	for _, node := range nodes {
		if _, err := g.parse(node); err != nil {
			return fmt.Errorf("%s: %w", node.Address(), err)
		}
	}
	return nil
}

// NotifyJoin and NotifyUpdate take note of a living peer.
func (g *gossip) NotifyJoin(node *memberlist.Node) {
	m, err := g.parse(node)
	if err != nil {
		return
	}
	g.mu.Lock()
	_, known := g.members[node.Name]
	g.members[node.Name] = m
	g.mu.Unlock()
	if !known && m.ID != g.self().ID {
		g.log.Info("peer seen", "peer", m.ID, "epoch", m.Epoch, "address", m.Address)
	}
	g.signal()
}

// NotifyUpdate is NotifyJoin.
func (g *gossip) NotifyUpdate(node *memberlist.Node) { g.NotifyJoin(node) }

// NotifyLeave forgets a peer that left or died.
func (g *gossip) NotifyLeave(node *memberlist.Node) {
	g.mu.Lock()
	m := g.members[node.Name]
	delete(g.members, node.Name)
	g.mu.Unlock()
	if m.ID != "" && m.ID != g.self().ID {
		g.log.Info("peer no longer seen", "peer", m.ID, "epoch", m.Epoch, "address", m.Address)
	}
	g.signal()
}

// NodeMeta is what this peer tells.
func (g *gossip) NodeMeta(limit int) []byte {
	meta, err := json.Marshal(g.self())
	if err != nil || len(meta) > limit {
		g.log.Error("gossip metadata does not fit", "bytes", len(meta), "limit", limit, "err", err)
		return nil
	}
	return meta
}

// The rest of memberlist.Delegate is not used.

// NotifyMsg drops user messages: there are none.
func (g *gossip) NotifyMsg([]byte) {}

// GetBroadcasts sends none.
func (g *gossip) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState sends none.
func (g *gossip) LocalState(bool) []byte { return nil }

// MergeRemoteState takes none.
func (g *gossip) MergeRemoteState([]byte, bool) {}

var (
	_ memberlist.Delegate      = (*gossip)(nil)
	_ memberlist.EventDelegate = (*gossip)(nil)
	_ memberlist.AliveDelegate = (*gossip)(nil)
	_ memberlist.MergeDelegate = (*gossip)(nil)
)
