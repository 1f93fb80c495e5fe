package check

import (
	"github.com/lookupd/lookupd/proof/history"
	"github.com/lookupd/lookupd/registry"
)

// sweepsOfAName is how often a session may let go of one name that it never
// declared: once, and again where the first try met a change under way.
const sweepsOfAName = 3

// asked wants every command of the log to be one that a client asked for, and as
// often as it was asked for; every live session to be left alone; and what was
// answered E_UNAVAILABLE on one that stayed to have been done.
func (v *Verdict) asked(h *history.History, l *Log) {
	sessions := map[string]*history.Session{}
	for _, s := range h.Sessions {
		sessions[s.Hostname] = s
	}
	d := newDeclarations(h)
	writes := map[write]int{}
	for _, op := range h.Ops {
		if op.Session == 0 && !op.Kind.Reads() && op.Outcome != history.Failed {
			writes[write{op.Peer, commandOf(op)}]++
		}
	}
	opened := map[string]bool{}
	for _, c := range l.Commands {
		if open, ok := c.Command.(registry.OpenSession); ok {
			if s := sessions[open.Producer.Hostname]; s != nil && opened[s.Hostname] {
				d.renew(s.Number)
			}
			opened[open.Producer.Hostname] = true
		}
		if kind, id, name, ok := declaration(c.Command); ok {
			s := sessions[l.Hosts[id]]
			if s == nil || !d.take(s.Number, kind, name, c.Index) {
				v.violation("index %d: %v of %v by %s: nobody asked for it, or not so often", c.Index, kind, name, describeSession(s))
			}
			continue
		}
		switch m := c.Command.(type) {
		case registry.CreateTopic, registry.DeleteTopic, registry.CreateChannel, registry.DeleteChannel, registry.Tombstone:
			w := write{c.Origin.Name(), m}
			if writes[w]--; writes[w] < 0 {
				v.violation("index %d: %T %v from %s: nobody asked for it, or not so often", c.Index, m, m, c.Origin)
			}
		case registry.CloseSession:
			v.ended(sessions[l.Hosts[m.Session]], c)
		case registry.EndOrphan: // the leader cannot tell a lost peer from one that is cut off
			if !l.OrphansEnd {
				v.ended(sessions[l.Hosts[m.Session]], c)
			}
		}
	}
	d.pending(v, h, l)
}

type write struct {
	peer    string
	command registry.Command
}

func (v *Verdict) ended(s *history.Session, c Command) {
	if s != nil && s.Alive {
		v.violation("index %d: %T ends %s, whose connection was alive to the end of the round", c.Index, c.Command, describeSession(s))
	}
}

func describeSession(s *history.Session) string {
	if s == nil {
		return "an unknown session"
	}
	return s.Hostname + " of " + string(s.Producer) + " at " + s.Peer
}

// declarations counts what sessions asked for.
type declarations struct {
	asked map[declared]*asking
}

type declared struct {
	session int
	kind    history.Kind
	name    registry.Name
}

// asking is how often something was asked for, how often of that it was not found
// in the log yet, how often it was found and not asked for, and the first index
// that answered it.
type asking struct {
	all, times, swept int
	first             uint64
}

func newDeclarations(h *history.History) *declarations {
	d := &declarations{asked: map[declared]*asking{}}
	for _, op := range h.Ops {
		if op.Session == 0 {
			continue
		}
		d.note(op, registry.Name{Topic: op.Topic, Channel: op.Channel})
		// The REGISTER of a channel registers the topic, and where the channel is
		// withdrawn before it is sent, only that.
		if op.Kind == history.Register && op.Channel != "" {
			d.note(op, registry.Name{Topic: op.Topic})
		}
	}
	return d
}

func (d *declarations) note(op *history.Op, name registry.Name) {
	a := d.get(op.Session, op.Kind, name)
	a.times++
	a.all++
	if op.Outcome == history.OK && (a.first == 0 || op.Index < a.first) {
		a.first = op.Index
	}
}

// renew notes that a session, which had been ended while its peer was away, was
// opened again and declares anew what was declared on it.
func (d *declarations) renew(session int) {
	for key, a := range d.asked {
		if key.session == session {
			a.times = max(a.times, a.all)
		}
	}
}

func (d *declarations) get(session int, kind history.Kind, name registry.Name) *asking {
	key := declared{session, kind, name}
	if d.asked[key] == nil {
		d.asked[key] = &asking{}
	}
	return d.asked[key]
}

// take reports whether a command of the log was asked for. A session also lets
// go of what an earlier one left and it did not declare itself.
func (d *declarations) take(session int, kind history.Kind, name registry.Name, index uint64) bool {
	a := d.get(session, kind, name)
	if a.times > 0 {
		a.times--
		return true
	}
	if kind == history.Register {
		return false
	}
	a.swept++
	own := d.get(session, history.Register, name).first
	return a.swept <= sweepsOfAName && (own == 0 || own > index)
}

// pending looks for what was answered E_UNAVAILABLE and not asked otherwise
// later, on connections that stayed.
func (d *declarations) pending(v *Verdict, h *history.History, l *Log) {
	type place struct {
		session int
		name    registry.Name
	}
	last := map[place]*history.Op{}
	for _, op := range h.Ops { // by call
		if op.Session == 0 || !h.Sessions[op.Session-1].Alive {
			continue
		}
		if op.Kind == history.Unregister && op.Channel == "" { // withdraws the channels too
			for p := range last {
				if p.session == op.Session && p.name.Topic == op.Topic {
					delete(last, p)
				}
			}
		}
		last[place{op.Session, registry.Name{Topic: op.Topic, Channel: op.Channel}}] = op
	}
	floors := h.Floors()
	for p, op := range last {
		if !op.Unavailable {
			continue
		}
		done := false
		for _, c := range l.Commands {
			kind, id, name, ok := declaration(c.Command)
			done = done || ok && kind == op.Kind && name == p.name && l.Hosts[id] == h.Sessions[op.Session-1].Hostname && c.Index > floors[op]
		}
		if !done {
			v.violation("%s: was answered E_UNAVAILABLE, its connection stayed, and it was never done", describe(op))
		}
	}
}
