package peer

import (
	"fmt"
	"net"
	"sync"

	"github.com/lookupd/lookupd/registry"
)

// conn is a connection after its handshake. Closing it forgets it.
type conn struct {
	net.Conn
	remote
	owner *conns
}

// Close closes the connection; more than once is fine.
func (c *conn) Close() error {
	c.owner.forget(c)
	return c.Conn.Close()
}

// conns holds every open connection of a Network by peer, because raft's
// transport closes neither those it pooled nor those it accepted.
type conns struct {
	mu     sync.Mutex
	closed bool
	pre    map[net.Conn]struct{} // before the handshake
	byNode map[registry.NodeID]map[*conn]struct{}
	epochs map[registry.NodeID]uint64 // highest seen, of our cluster's peers
}

func newConns() *conns {
	return &conns{
		pre:    map[net.Conn]struct{}{},
		byNode: map[registry.NodeID]map[*conn]struct{}{},
		epochs: map[registry.NodeID]uint64{},
	}
}

// begin notes a connection whose handshake begins, so that closeAll ends it.
// The caller calls end once the handshake is over.
func (cs *conns) begin(c net.Conn) bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.closed {
		return false
	}
	cs.pre[c] = struct{}{}
	return true
}

func (cs *conns) end(c net.Conn) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	delete(cs.pre, c)
}

// admit takes c in as a connection of r, refuses an epoch below one that was
// seen, and closes what an older life of the peer has left open.
func (cs *conns) admit(c net.Conn, r remote) (*conn, error) {
	admitted, left, err := cs.add(c, r)
	for _, old := range left {
		_ = old.Close() // its peer is gone
	}
	return admitted, err
}

func (cs *conns) add(c net.Conn, r remote) (admitted *conn, left []*conn, err error) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.closed {
		return nil, nil, ErrClosed
	}
	if seen := cs.epochs[r.node]; r.epoch < seen {
		return nil, nil, fmt.Errorf("%w: %s says %d after %d", ErrOldEpoch, r.node, r.epoch, seen)
	}
	if r.ours {
		// What a foreigner says must not lock a peer of ours out.
		cs.epochs[r.node] = r.epoch
		for old := range cs.byNode[r.node] {
			if old.epoch < r.epoch {
				left = append(left, old)
			}
		}
	}
	admitted = &conn{Conn: c, remote: r, owner: cs}
	if cs.byNode[r.node] == nil {
		cs.byNode[r.node] = map[*conn]struct{}{}
	}
	cs.byNode[r.node][admitted] = struct{}{}
	return admitted, left, nil
}

func (cs *conns) forget(c *conn) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	delete(cs.byNode[c.node], c)
	if len(cs.byNode[c.node]) == 0 {
		delete(cs.byNode, c.node)
	}
}

// closeNode closes what is open to and from a peer.
func (cs *conns) closeNode(node registry.NodeID) {
	cs.mu.Lock()
	open := make([]*conn, 0, len(cs.byNode[node]))
	for c := range cs.byNode[node] {
		open = append(open, c)
	}
	cs.mu.Unlock()
	for _, c := range open {
		_ = c.Close() // it is given up, whatever it says
	}
}

// closeAll closes every connection; none is admitted after it.
func (cs *conns) closeAll() {
	cs.mu.Lock()
	cs.closed = true
	var open []net.Conn
	for c := range cs.pre {
		open = append(open, c)
	}
	for _, of := range cs.byNode {
		for c := range of {
			open = append(open, c)
		}
	}
	cs.mu.Unlock()
	for _, c := range open {
		_ = c.Close() // as above
	}
}
