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
	disk *store.AddressBook
	log  *slog.Logger

	mu    sync.Mutex
	known map[registry.NodeID]store.PeerAddress
}

func openAddressBook(dir *store.Dir, log *slog.Logger) *addressBook {
	disk := dir.AddressBook()
	known, err := disk.Load()
	if err != nil {
		log.Warn("the peers' last addresses are lost; -join and gossip find them again", "err", err)
	}
	return &addressBook{disk: disk, log: log, known: known}
}

// learn notes where the living peers are; it returns those that moved.
func (b *addressBook) learn(members []member) (moved []registry.NodeID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	changed := false
	for _, m := range members {
		now := store.PeerAddress{Peer: m.Address, Gossip: m.gossip}
		if was, ok := b.known[m.ID]; was != now {
			if ok && was.Peer != now.Peer {
				moved = append(moved, m.ID)
			}
			b.known[m.ID], changed = now, true
		}
	}
	if changed {
		if err := b.disk.Save(b.known); err != nil {
			b.log.Warn("peer addresses not saved", "err", err)
		}
	}
	return moved
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
	known, ok := n.addresses.find(id)
	return known.Peer, ok
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
		for _, id := range n.addresses.learn(others) {
			n.log.Info("peer moved", "peer", id)
			n.net.CloseConnections(id)
		}
		select {
		case <-ctx.Done():
			return
		case <-n.gossip.changed:
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
