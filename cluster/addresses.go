package cluster

import (
	"context"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"

	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
)

// addressBook remembers on disk where each peer was last seen, so that peers
// find each other after a restart without gossip's help.
type addressBook struct {
	disk    *store.AddressBook
	log     *slog.Logger
	changed chan struct{} // one slot; set when an epoch is new

	mu    sync.Mutex
	known map[registry.NodeID]store.PeerAddress
}

func openAddressBook(dir *store.Dir, log *slog.Logger) *addressBook {
	disk := dir.AddressBook()
	known, err := disk.Load()
	if err != nil {
		log.Warn("the peers' last addresses are lost; -join and gossip find them again", "err", err)
	}
	return &addressBook{disk: disk, log: log, changed: make(chan struct{}, 1), known: known}
}

// learn notes where the living peers are and forgets who is neither alive nor
// one of the servers; it returns those that moved. One goroutine calls it.
func (b *addressBook) learn(members []member, servers map[registry.NodeID]bool) (moved []registry.NodeID) {
	b.mu.Lock()
	for _, m := range members {
		was, ok := b.known[m.ID]
		if ok && was.Peer != m.Address {
			moved = append(moved, m.ID)
		}
		// The epoch is not gossip's to raise: a peer whose handshake names one
		// below it is refused for ever.
		b.known[m.ID] = store.PeerAddress{Peer: m.Address, Gossip: m.gossip, Epoch: was.Epoch}
	}
	for id := range b.known {
		if servers[id] || slices.ContainsFunc(members, func(m member) bool { return m.ID == id }) {
			continue
		}
		if len(servers) > 0 { // a peer of the past
			delete(b.known, id)
		}
	}
	known := maps.Clone(b.known)
	b.mu.Unlock()
	if err := b.disk.Save(known); err != nil { // without the lock: resolve must not wait for the disk
		b.log.Warn("peer addresses not saved", "err", err)
	}
	return moved
}

// sawEpoch notes a later start of a peer, as its handshake told; who follows
// the addresses brings it to disk.
func (b *addressBook) sawEpoch(id registry.NodeID, epoch uint64) {
	b.mu.Lock()
	known := b.known[id]
	known.Epoch = max(known.Epoch, epoch)
	b.known[id] = known
	b.mu.Unlock()
	select {
	case b.changed <- struct{}{}:
	default:
	}
}

// epochs returns the latest start of each peer that was seen.
func (b *addressBook) epochs() map[registry.NodeID]uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	epochs := map[registry.NodeID]uint64{}
	for id, known := range b.known {
		epochs[id] = known.Epoch
	}
	return epochs
}

func (b *addressBook) find(id registry.NodeID) (store.PeerAddress, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	address, ok := b.known[id]
	return address, ok
}

func (b *addressBook) gossipAddresses() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var addresses []string
	for _, id := range slices.Sorted(maps.Keys(b.known)) {
		if a := b.known[id].Gossip; a != "" {
			addresses = append(addresses, a)
		}
	}
	return addresses
}

// resolve returns where a peer is to be dialled now: raft's addresses are node
// ids, so all peers may move at once.
func (n *Node) resolve(id registry.NodeID) (address string, ok bool) {
	if m, ok := n.gossip.find(id); ok {
		return m.Address, true
	}
	known, _ := n.addresses.find(id)
	return known.Peer, known.Peer != ""
}

// followAddresses notes each address that gossip brings and drops connections
// to where a peer no longer is.
func (n *Node) followAddresses(ctx context.Context) {
	for {
		var others []member
		for _, m := range n.gossip.alive() {
			if m.ID != n.id {
				others = append(others, m)
			}
		}
		for _, id := range n.addresses.learn(others, n.servers()) {
			n.log.Info("peer moved", "peer", id)
			n.net.CloseConnections(id)
		}
		select {
		case <-ctx.Done():
			return
		case <-n.gossip.changed:
		case <-n.addresses.changed:
		}
	}
}

// seeds returns every gossip address at which a peer may be: -join, resolved
// anew, and where peers were last seen.
func (n *Node) seeds(ctx context.Context) []string {
	addresses := n.addresses.gossipAddresses()
	for _, entry := range n.cfg.Join {
		found, err := resolveSeed(ctx, entry)
		if err != nil {
			n.log.Debug("join address", "entry", entry, "err", err)
		}
		addresses = append(addresses, found...)
	}
	return addresses
}

// resolveSeed returns every address of a -join entry as host:port.
func resolveSeed(ctx context.Context, entry string) ([]string, error) {
	host, port, err := net.SplitHostPort(entry)
	if err != nil {
		host, port = entry, gossipPort
	}
	if net.ParseIP(host) != nil {
		return []string{net.JoinHostPort(host, port)}, nil
	}
	ips, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		return nil, err
	}
	var addresses []string
	for _, ip := range ips {
		addresses = append(addresses, net.JoinHostPort(ip, port))
	}
	return addresses, nil
}
