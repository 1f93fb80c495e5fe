package cluster_test

import (
	"slices"
	"time"

	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
)

// rules is what the world knows beside the log, and holds the log against:
// who is connected where, what was declared there, and which peers were heard.
// The world's lock guards it.
type rules struct {
	turn    uint64 // counts declarations and proposals
	current map[holder]*simConn
	byID    map[registry.SessionID]*simConn
	opened  map[holder]time.Time // the latest OpenSession
	// caughtUp is what a peer surely knew when it first proposed a session.
	caughtUp map[registry.SessionID]uint64
	// must is what a peer must hold for a producer: it was committed, and since
	// then there was no reason for it to go.
	must map[holder]map[store.Name]bool
}

func newRules() rules {
	return rules{
		current: map[holder]*simConn{}, byID: map[registry.SessionID]*simConn{},
		opened: map[holder]time.Time{}, caughtUp: map[registry.SessionID]uint64{}, must: map[holder]map[store.Name]bool{},
	}
}

func (w *simWorld) peer(node registry.NodeID) *simPeer {
	return w.peers[slices.IndexFunc(w.peers, func(p *simPeer) bool { return p.node == node })]
}

// submittedLocked notes whose connection a session id stands for.
func (w *simWorld) submittedLocked(p *simProposal) {
	for _, c := range p.commands {
		if open, ok := c.(registry.OpenSession); ok {
			if w.byID[open.Session] == nil {
				w.byID[open.Session] = w.current[holderOf(open.Producer.ID(), open.Session.Node)]
				w.caughtUp[open.Session] = w.index
			}
		}
	}
}

// before is what the registry had before a command.
type before struct {
	session registry.SessionState
	open    bool
	held    map[store.Name]bool
}

func (w *simWorld) beforeLocked(command registry.Command) (b before) {
	switch m := command.(type) {
	case registry.Register:
		h := holderOf(m.Producer, m.Session.Node)
		b.held = map[store.Name]bool{}
		for _, name := range []store.Name{{Topic: m.Topic}, {Topic: m.Topic, Channel: m.Channel}} {
			b.held[name] = w.model.Names[name][h]
		}
	case registry.EndOrphan:
		b.session, b.open = w.model.Sessions[holderOf(m.Producer, m.Session.Node)]
	}
	return b
}

// observeLocked is told of each command that was not refused.
func (w *simWorld) observeLocked(command registry.Command, b before, by *simProposal) {
	switch m := command.(type) {
	case registry.OpenSession:
		w.opened[holderOf(m.Producer.ID(), m.Session.Node)] = time.Now()
	case registry.Register:
		w.registeredLocked(m, b, by)
	case registry.EndOrphan:
		h := holderOf(m.Producer, m.Session.Node)
		if _, open := w.model.Sessions[h]; b.open && !open {
			w.orphanEndedLocked(h, b.session.ID)
		}
	case registry.SuspendSession:
		c := w.byID[m.Session]
		if c.live() && time.Since(c.pinged) < simInactive && !c.gap {
			w.failLocked("%s is suspended %s after its PING", c, time.Since(c.pinged))
		}
	case registry.ResumeSession:
		if c := w.byID[m.Session]; c != nil {
			c.gap = false
		}
	case registry.DeleteTopic:
		w.deletedLocked(func(n store.Name) bool { return n.Topic == m.Topic })
	case registry.DeleteChannel:
		w.deletedLocked(func(n store.Name) bool { return n == store.Name(m) })
	}
}

// registeredLocked: what is held now was declared, and not deleted since.
func (w *simWorld) registeredLocked(m registry.Register, b before, by *simProposal) {
	h := holderOf(m.Producer, m.Session.Node)
	c := w.byID[m.Session]
	if !c.live() {
		return // it was sent before the connection ended, and goes
	}
	for name, had := range b.held {
		d := c.declared[name]
		if d == nil && !had && !w.excusedLocked(c, name, m.Session, by) {
			w.failLocked("%s did not declare %v, or others deleted it since", c, name)
		}
		if d == nil && !had && c.dropped[name] < by.turn {
			d = &declaration{pending: true}
			c.declared[name] = d
		}
		if d != nil && by.turn > d.turn {
			d.pending, d.deleted = false, false
			w.mustLocked(h, name)
		}
	}
}

// excusedLocked: the REGISTER was submitted before the name was withdrawn, or is
// one from memory, and the name was deleted only after the peer had caught up
// with the log, which it does before it opens a session again.
func (w *simWorld) excusedLocked(c *simConn, name store.Name, id registry.SessionID, by *simProposal) bool {
	if c.dropped[name] > by.turn {
		return true
	}
	d, deleted := c.deleted[name]
	switch {
	case !deleted:
		return false
	case w.caughtUp[id] < d.index:
		return true
	case d.index <= by.by.floor: // it knows by comparing alone, and the name is there again
		return true
	}
	// Of a session that is closed an ephemeral name stays declared.
	return d.closed && (registry.IsEphemeral(name.Topic) || registry.IsEphemeral(name.Channel))
}

func (w *simWorld) mustLocked(h holder, name store.Name) {
	if w.must[h] == nil {
		w.must[h] = map[store.Name]bool{}
	}
	w.must[h][name] = true
}

// deletedLocked: nobody declares the names any more, but by a REGISTER on its way.
func (w *simWorld) deletedLocked(has func(store.Name) bool) {
	for _, names := range w.must {
		for name := range names {
			if has(name) {
				delete(names, name)
			}
		}
	}
	for h, c := range w.current {
		_, open := w.model.Sessions[h]
		for name, d := range c.declared {
			switch {
			case !has(name):
			case d.pending:
				d.deleted = true
			default:
				c.deleteLocked(name, w.index, !open)
			}
		}
	}
}

// orphanEndedLocked: a leader may end a session when it has missed the peer for
// the whole time, or the session is of an earlier start and its nsqd had time
// enough to come back.
func (w *simWorld) orphanEndedLocked(h holder, id registry.SessionID) {
	p, c := w.peer(h.Node), w.current[h]
	delete(w.must, h)
	told := w.reign.told[p]
	if told.lost() {
		return
	}
	switch back := told.back(id.Epoch); {
	case back < simGrace:
		w.failLocked("the session %s is ended, its peer was lost at %s, heard at %s, for %s in all since its return, and the leader leads since %s",
			id, w.at(p.lost), w.at(p.heard), back, w.at(w.reign.since))
	case c.live() && c.began.Sub(p.started) < 30*time.Second:
		w.failLocked("the session %s is ended, but %s is there since %s and its peer again since %s", id, c, w.at(c.began), w.at(p.heard))
	}
}

func (w *simWorld) at(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.Sub(w.began).String()
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// checkMustLocked: what is alive does not vanish.
func (w *simWorld) checkMustLocked() {
	for h, names := range w.must {
		for name := range names {
			if !w.model.Names[name][h] {
				w.failLocked("%s does not hold %v for %s any more", h.Node, name, h.Producer)
			}
		}
	}
}

// wellLocked is for how long nothing is in p's way.
func (w *simWorld) wellLocked(p *simPeer) time.Duration {
	if !p.inContact() || w.reign == nil || w.slow {
		return 0
	}
	return time.Since(latest(latest(p.heard, p.started), latest(w.reign.since, w.wellAt)))
}

// check holds the registry against what should be there by now.
func (w *simWorld) check() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.peers {
		for _, n := range w.nsqds {
			w.checkHolderLocked(p, holderOf(n.info.ID(), p.node))
		}
	}
}

func (w *simWorld) checkHolderLocked(p *simPeer, h holder) {
	s, open := w.model.Sessions[h]
	held := w.model.Held(h)
	c := w.current[h]
	well := w.wellLocked(p)
	if !open && len(held) > 0 {
		w.failLocked("%v holds %v without a session", h, held)
	}
	switch {
	case !p.inContact():
		if open && w.reign != nil && time.Since(latest(p.lost, latest(w.reign.since, w.wellAt))) > simInactive+simLate {
			w.failLocked("%s is lost since %s, the leader leads since %s, and %s is open", p.node, w.at(p.lost), w.at(w.reign.since), s.ID)
		}
	case well < simSettle || c != nil && time.Since(c.acted) < simSettle:
	case c.live():
		w.checkLiveLocked(p, h, c)
	case open && s.ID.Epoch == p.epoch:
		w.failLocked("%s has ended at %s, and %s is open", c, w.at(c.acted), s.ID)
	case open && well > simGrace+6*simLate: // one look in twenty hears nothing
		w.failLocked("%s is back since %s, the leader leads since %s, and %s is open", p.node, w.at(p.heard), w.at(w.reign.since), s.ID)
	}
}

// checkLiveLocked: the registry has what a connection declared, and, once it has
// been swept, nothing else.
func (w *simWorld) checkLiveLocked(p *simPeer, h holder, c *simConn) {
	s, open := w.model.Sessions[h]
	silence := time.Since(c.pinged)
	switch {
	case !open || s.ID.Epoch != p.epoch:
		w.failLocked("%s has no session (%v)", c, s)
		return
	case silence < simInactive && s.Suspended, silence > simInactive+simSettle && !s.Suspended:
		w.failLocked("%s pinged %s ago, suspended: %v", c, silence, s.Suspended)
	}
	for name, d := range c.declared {
		if d.pending || !w.model.Names[name][h] {
			w.failLocked("%s declared %v, and it is not there (%+v)", c, name, *d)
		}
	}
	if c.swept.IsZero() || time.Since(c.swept) < simSettle {
		return
	}
	if time.Since(c.swept) > w.wellLocked(p) {
		c.swept = time.Time{} // something may have been in its way
		return
	}
	for _, name := range w.model.Held(h) {
		if c.declared[name] == nil {
			w.failLocked("%s did not declare %v, and it is there", c, name)
		}
	}
}
