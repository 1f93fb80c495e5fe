package session

import (
	"slices"

	"github.com/lookupd/lookupd/registry"
)

// pending is what waits to be proposed for one topic, as few commands as have
// the effect of all changes asked for: UNREGISTER of the topic, then REGISTER of
// the topic, then one command for each channel. The order between channels, and
// between topics, does not matter.
type pending struct {
	topic    string
	clear    bool
	register bool
	rest     bool // only what a split has left: nothing was asked for since
	channels []pendingChannel
}

type pendingChannel struct {
	name     string
	register bool
}

// size is the number of commands.
func (p *pending) size() int {
	n := len(p.channels)
	if p.clear {
		n++
	}
	if p.register {
		n++
	}
	return n
}

func (p *pending) add(channel string, register bool) {
	p.rest = false
	switch {
	case channel == "" && register:
		p.register = true
	case channel == "":
		p.clear, p.register, p.channels = true, false, nil
	default:
		i := p.index(channel)
		if i < 0 {
			p.channels = append(p.channels, pendingChannel{channel, register})
			return
		}
		if p.channels[i].register && !register {
			p.register = true // REGISTER of the channel has registered the topic, which stays
		}
		p.channels[i].register = register
	}
}

func (p *pending) index(channel string) int {
	return slices.IndexFunc(p.channels, func(c pendingChannel) bool { return c.name == channel })
}

// touches reports whether p decides what becomes of a name.
func (p *pending) touches(channel string) bool {
	if p.clear {
		return true
	}
	if channel == "" { // a channel's REGISTER registers the topic too
		return p.register || slices.ContainsFunc(p.channels, func(c pendingChannel) bool { return c.register })
	}
	return p.index(channel) >= 0
}

// merge appends the changes of newer.
func (p *pending) merge(newer *pending) {
	if newer.rest { // of p: nothing is in both
		p.register = p.register || newer.register
		p.channels = append(p.channels, newer.channels...)
		return
	}
	if newer.clear {
		p.add("", false)
	}
	if newer.register {
		p.add("", true)
	}
	for _, c := range newer.channels {
		p.add(c.name, c.register)
	}
}

// split removes and returns the first n commands.
func (p *pending) split(n int) *pending {
	first := &pending{topic: p.topic, clear: p.clear, register: p.register}
	p.clear, p.register, p.rest = false, false, true
	n -= first.size()
	first.channels, p.channels = p.channels[:n:n], p.channels[n:]
	return first
}

// splitEnds removes and returns at most n UNREGISTERs, nil if there are none.
func (p *pending) splitEnds(n int) *pending {
	if n == 0 {
		return nil
	}
	ends := &pending{topic: p.topic, clear: p.clear}
	p.clear = false
	kept := p.channels[:0]
	for _, c := range p.channels {
		if c.register || ends.size() == n {
			kept = append(kept, c)
		} else {
			ends.channels = append(ends.channels, c)
		}
	}
	p.channels = kept
	if ends.size() == 0 {
		return nil
	}
	p.rest = true
	return ends
}

func (p *pending) commands(to []registry.Command, id registry.SessionID, producer registry.ProducerID) []registry.Command {
	if p.clear {
		to = append(to, registry.Unregister{Session: id, Producer: producer, Topic: p.topic})
	}
	if p.register {
		to = append(to, registry.Register{Session: id, Producer: producer, Topic: p.topic})
	}
	for _, c := range p.channels {
		if c.register {
			to = append(to, registry.Register{Session: id, Producer: producer, Topic: p.topic, Channel: c.name})
		} else {
			to = append(to, registry.Unregister{Session: id, Producer: producer, Topic: p.topic, Channel: c.name})
		}
	}
	return to
}

// outbox holds a session's changes that are not under way, by topic, the one
// that waits longest first.
type outbox struct {
	queue  []*pending
	topics map[string]*pending
	size   int // commands
}

func (b *outbox) add(topic, channel string, register bool) {
	p := b.topics[topic]
	if p == nil {
		p = &pending{topic: topic}
		b.put(p, len(b.queue))
	}
	b.size -= p.size()
	p.add(channel, register)
	b.size += p.size()
}

func (b *outbox) put(p *pending, at int) {
	if b.topics == nil {
		b.topics = make(map[string]*pending)
	}
	b.queue = slices.Insert(b.queue, at, p)
	b.topics[p.topic] = p
	b.size += p.size()
}

// take removes at most n commands from the front.
func (b *outbox) take(n int) []*pending {
	var taken []*pending
	for n > 0 && len(b.queue) > 0 {
		p := b.queue[0]
		if p.size() > n {
			if n < 2 || len(taken) > 0 {
				break // goes first next time
			}
			p = p.split(n)
		} else {
			b.queue[0] = nil
			b.queue = b.queue[1:]
			delete(b.topics, p.topic)
		}
		taken = append(taken, p)
		n -= p.size()
		b.size -= p.size()
	}
	if len(b.queue) == 0 {
		b.queue, b.topics = nil, nil
	}
	return taken
}

// takeEnds removes at most n commands that make the state smaller. What stays
// behind of a topic may come after them: an UNREGISTER of the topic is its first.
func (b *outbox) takeEnds(n int) []*pending {
	var taken []*pending
	kept := b.queue[:0]
	for _, p := range b.queue {
		if ends := p.splitEnds(n); ends != nil {
			taken = append(taken, ends)
			n -= ends.size()
			b.size -= ends.size()
		}
		if p.size() > 0 {
			kept = append(kept, p)
		} else {
			delete(b.topics, p.topic)
		}
	}
	clear(b.queue[len(kept):])
	b.queue = kept
	if len(b.queue) == 0 {
		b.queue, b.topics = nil, nil
	}
	return taken
}

// putBack undoes a take; what was added since comes after it.
func (b *outbox) putBack(taken []*pending) {
	at := 0
	for _, p := range taken {
		newer := b.topics[p.topic]
		if newer == nil {
			b.put(p, at)
			at++
			continue
		}
		b.size -= newer.size()
		p.merge(newer)
		*newer = *p
		b.size += newer.size()
	}
}
