package store

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/lookupd/lookupd/registry"
)

// OpenSession stores info, latest wins, and makes id the one session that the
// producer has on id.Node. An older one there is replaced, a newer one refuses
// id; what the peer holds for the producer stays held.
func (c *Change) OpenSession(id registry.SessionID, info registry.ProducerInfo) registry.Result {
	p := info.ID()
	if !validProducerID(p) || id.Node == "" {
		c.fail(fmt.Errorf("%w: session %q of producer %q", ErrBadCommand, id, p))
		return registry.ResultUnchanged
	}
	peer := c.assignNumber(id.Node)
	sessions, _, found := c.sessions(p)
	if !found {
		c.meta.producers++
	}
	opened := session{peer: peer, epoch: id.Epoch, seq: id.Seq}
	i := slices.IndexFunc(sessions, func(s session) bool { return s.peer == peer })
	switch {
	case i < 0:
		c.meta.sessions++
		sessions = append(sessions, opened)
		slices.SortFunc(sessions, func(a, b session) int { return cmp.Compare(a.peer, b.peer) })
	case sessions[i].id(id.Node) == id:
		return result(c.putProducer(p, sessions, info)) // only the info can be new
	case sessions[i].id(id.Node).Newer(id):
		return registry.ResultSessionNotOpen
	default:
		c.emit(registry.Event{Kind: registry.SessionClosed, Producer: p, Session: sessions[i].id(id.Node)})
		sessions[i] = opened
	}
	c.putProducer(p, sessions, info)
	c.emit(registry.Event{Kind: registry.SessionOpened, Producer: p, Session: id})
	return registry.ResultChanged
}

// CloseSession ends id, unless a newer session of the producer is open on that
// peer: the peer holds nothing more for the producer, and the producer goes
// with its last session. It also ends an older session, which id had replaced.
func (c *Change) CloseSession(id registry.SessionID, p registry.ProducerID) registry.Result {
	peer := c.number(id.Node)
	sessions, info, _ := c.sessions(p)
	i := slices.IndexFunc(sessions, func(s session) bool { return s.peer == peer })
	if i < 0 || sessions[i].id(id.Node).Newer(id) {
		return registry.ResultUnchanged
	}
	for _, name := range c.held(peer, p, offersPrefix(p)) {
		c.release(peer, sessions, p, name)
		c.dropIfAbandoned(name)
	}
	closed := sessions[i].id(id.Node)
	sessions = slices.Delete(sessions, i, i+1)
	c.meta.sessions--
	if len(sessions) > 0 {
		c.putProducer(p, sessions, c.info(p, info))
	} else {
		c.remove(producersTable, producerKey(p), c.get(producersTable, producerKey(p)))
		c.meta.producers--
	}
	c.emit(registry.Event{Kind: registry.SessionClosed, Producer: p, Session: closed})
	return registry.ResultChanged
}

// SuspendSession marks id as silent: it shows its producer no longer.
func (c *Change) SuspendSession(id registry.SessionID, p registry.ProducerID) registry.Result {
	return c.suspend(id, p, true)
}

// ResumeSession ends SuspendSession.
func (c *Change) ResumeSession(id registry.SessionID, p registry.ProducerID) registry.Result {
	return c.suspend(id, p, false)
}

func (c *Change) suspend(id registry.SessionID, p registry.ProducerID, suspended bool) registry.Result {
	sessions, info, _ := c.sessions(p)
	i := c.find(sessions, id)
	switch {
	case i < 0:
		return registry.ResultSessionNotOpen
	case sessions[i].suspended == suspended:
		return registry.ResultUnchanged
	}
	sessions[i].suspended = suspended
	c.putProducer(p, sessions, c.info(p, info))
	kind := registry.SessionResumed
	if suspended {
		kind = registry.SessionSuspended
	}
	c.emit(registry.Event{Kind: kind, Producer: p, Session: id})
	return registry.ResultChanged
}

// find returns where id is among the sessions, -1 if it is not open.
func (c *Change) find(sessions []session, id registry.SessionID) int {
	peer := c.number(id.Node)
	return slices.IndexFunc(sessions, func(s session) bool {
		return s.peer == peer && s.epoch == id.Epoch && s.seq == id.Seq
	})
}

// putProducer writes the producer's row and reports whether it is another one now.
func (c *Change) putProducer(p registry.ProducerID, sessions []session, info registry.ProducerInfo) bool {
	key := producerKey(p)
	old := c.get(producersTable, key)
	row := encodeProducer(sessions, info)
	if string(old) == string(row) {
		return false
	}
	c.put(producersTable, key, old, row)
	return true
}
