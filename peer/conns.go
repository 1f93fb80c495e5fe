package peer

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lookupd/lookupd/registry"
)

// conn is a connection after its handshake. Closing it forgets it.
type conn struct {
	net.Conn
	remote
	inbound bool
	born    time.Time
	owner   *conns
	once    sync.Once
	done    chan struct{} // closed by Close

	retired atomic.Bool // dialled by us and not to be used for anything new
	// due is when it was retired; guarded by conns.mu.
	due time.Time
}

// Close closes the connection; more than once is fine.
func (c *conn) Close() error {
	c.once.Do(func() {
		c.owner.forget(c)
		close(c.done)
	})
	return c.Conn.Close()
}

// life is the latest start of a peer that was seen.
type life struct {
	epoch uint64
	run   string // "" while only the epoch is known
}

// conns holds every open connection of a Network by peer, because raft's
// transport closes neither those it pooled nor those it accepted.
type conns struct {
	sawEpoch func(registry.NodeID, uint64) // called without mu; may be nil
	limits   Limits

	mu     sync.Mutex
	closed bool
	pre    map[net.Conn]struct{} // before the handshake
	byNode map[registry.NodeID]map[*conn]struct{}
	lives  map[registry.NodeID]life // of our cluster's peers and of this one
}

func newConns(cfg Config, run string) *conns {
	cs := &conns{
		sawEpoch: cfg.SawEpoch,
		limits:   cfg.Limits,
		pre:      map[net.Conn]struct{}{},
		byNode:   map[registry.NodeID]map[*conn]struct{}{},
		lives:    map[registry.NodeID]life{},
	}
	for node, epoch := range cfg.Epochs {
		cs.lives[node] = life{epoch: epoch}
	}
	cs.lives[cfg.Node] = life{epoch: cfg.Epoch, run: run}
	return cs
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

// admit takes c in as a connection of r. It refuses an epoch below one that was
// seen, a second process with the same one and what is above the limits, and
// closes what an older life of the peer has left open.
func (cs *conns) admit(c net.Conn, r remote, inbound bool) (*conn, error) {
	admitted, left, higher, err := cs.add(c, r, inbound)
	for _, old := range left {
		_ = old.Close() // its peer is gone
	}
	if higher && cs.sawEpoch != nil {
		cs.sawEpoch(r.node, r.epoch)
	}
	return admitted, err
}

func (cs *conns) add(c net.Conn, r remote, inbound bool) (admitted *conn, left []*conn, higher bool, err error) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	seen := cs.lives[r.node]
	switch {
	case cs.closed:
		return nil, nil, false, ErrClosed
	case r.epoch < seen.epoch:
		return nil, nil, false, fmt.Errorf("%w: %s says %d after %d", ErrOldEpoch, r.node, r.epoch, seen.epoch)
	case r.epoch == seen.epoch && seen.run != "" && r.run != seen.run:
		return nil, nil, false, fmt.Errorf("%w: %s, epoch %d", ErrDuplicateID, r.node, r.epoch)
	}
	if r.ours {
		// What a foreigner says must not lock a peer of ours out.
		for old := range cs.byNode[r.node] {
			if old.epoch < r.epoch {
				left = append(left, old)
			}
		}
		higher = r.epoch > seen.epoch
		cs.lives[r.node] = life{epoch: r.epoch, run: r.run}
	}
	if inbound {
		if err := cs.roomLocked(r); err != nil {
			return nil, left, higher, err
		}
	}
	admitted = &conn{Conn: c, remote: r, inbound: inbound, born: time.Now(), owner: cs, done: make(chan struct{})}
	if cs.byNode[r.node] == nil {
		cs.byNode[r.node] = map[*conn]struct{}{}
	}
	cs.byNode[r.node][admitted] = struct{}{}
	return admitted, left, higher, nil
}

// roomLocked says whether one more connection of r may come in. Those that its
// life makes obsolete do not count, and those of fresh peers take no place of a
// peer of ours.
func (cs *conns) roomLocked(r remote) error {
	var all, fresh, same int
	for node, of := range cs.byNode {
		for c := range of {
			if !c.inbound || r.ours && node == r.node && c.epoch < r.epoch {
				continue
			}
			all++
			if !c.ours {
				fresh++
			}
			if node == r.node && c.ours == r.ours {
				same++
			}
		}
	}
	switch {
	case same >= cs.limits.ConnectionsPerPeer:
		return fmt.Errorf("%w: %d from %s", ErrBusy, same, r.node)
	case all >= cs.limits.Connections:
		return fmt.Errorf("%w: %d in all", ErrBusy, all)
	case !r.ours && fresh >= cs.limits.Connections/2:
		return fmt.Errorf("%w: %d from fresh peers", ErrBusy, fresh)
	}
	return nil
}

// inbound returns how many connections that came in are open.
func (cs *conns) inbound() (n int) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for _, of := range cs.byNode {
		for c := range of {
			if c.inbound {
				n++
			}
		}
	}
	return n
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
