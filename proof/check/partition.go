package check

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/anishathalye/porcupine"

	"github.com/lookupd/lookupd/proof/history"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/registry/reference"
)

// partition is the history of one topic, as porcupine takes it.
type partition struct {
	topic *topic
	ops   []porcupine.Operation
	err   error

	history  *history.History
	log      *Log
	numbers  *numbers
	byHost   map[string]*history.Session
	channels []string
	bounds   []bound // by index
}

// numbers gives small numbers to what the log names, the same in all partitions.
type numbers struct {
	holders   map[reference.Holder]int
	producers map[registry.ProducerID]int
	nodes     map[string]uint32 // a producer as /topic/tombstone names it
	seats     map[registry.SessionID]seat
	hosts     map[string]seat // by the host name that IDENTIFY gave
	holderOf  []reference.Holder
}

// seat is a session's place: its holder, and which of the holder's it is.
type seat struct {
	holder int
	number uint16
}

func newNumbers(h *history.History, l *Log) (*numbers, error) {
	n := &numbers{
		holders: map[reference.Holder]int{}, producers: map[registry.ProducerID]int{},
		nodes: map[string]uint32{}, seats: map[registry.SessionID]seat{}, hosts: map[string]seat{},
	}
	for _, s := range h.Sessions {
		if _, ok := n.producers[s.Producer]; !ok {
			n.producers[s.Producer] = len(n.producers)
		}
	}
	latest := map[int]uint16{}
	for _, c := range l.Commands { // a holder's sessions come in their order
		switch m := c.Command.(type) {
		case registry.OpenSession:
			host := m.Producer.Hostname
			n.seat(latest, m.Session, m.Producer.ID())
			if _, again := n.hosts[host]; !again {
				n.hosts[host] = n.seats[m.Session]
			}
			n.nodes[fmt.Sprintf("%s:%d", m.Producer.BroadcastAddress, m.Producer.HTTPPort)] = 1 << n.producers[m.Producer.ID()]
		case registry.CloseSession: // maybe of one that ended before it was opened
			n.seat(latest, m.Session, m.Producer)
		case registry.EndOrphan:
			n.seat(latest, m.Session, m.Producer)
		}
	}
	if len(n.holders) > maxHolders || len(n.producers) > maxProducers {
		return nil, fmt.Errorf("%d holders and %d producers are more than the model takes", len(n.holders), len(n.producers))
	}
	return n, nil
}

// seat gives a session its place at first sight.
func (n *numbers) seat(latest map[int]uint16, id registry.SessionID, p registry.ProducerID) {
	if _, ok := n.seats[id]; ok {
		return
	}
	holder := reference.Holder{Producer: p, Node: id.Node}
	if _, ok := n.holders[holder]; !ok {
		n.holders[holder] = len(n.holders)
		n.holderOf = append(n.holderOf, holder)
	}
	at := n.holders[holder]
	latest[at]++
	n.seats[id] = seat{at, latest[at]}
}

// bound says by when an entry has surely taken effect.
type bound struct {
	index  uint64
	answer int64 // the earliest return of an answer that rests on this index or more
}

func newPartition(name string, h *history.History, l *Log, n *numbers, byHost map[string]*history.Session) *partition {
	p := &partition{topic: newTopic(name), history: h, log: l, numbers: n, byHost: byHost}
	for i, holder := range n.holderOf {
		p.topic.producerOf[i] = uint8(n.producers[holder.Producer])
	}
	for _, op := range h.Ops {
		if op.Answered() && !op.Stale {
			p.bounds = append(p.bounds, bound{op.Index, op.Return})
		}
	}
	slices.SortFunc(p.bounds, func(a, b bound) int { return cmp.Compare(a.index, b.index) })
	for i := len(p.bounds) - 2; i >= 0; i-- {
		p.bounds[i].answer = min(p.bounds[i].answer, p.bounds[i+1].answer)
	}
	p.addAnswered()
	p.addUnknown()
	return p
}

func (p *partition) add(client int, a *action, got answer, call, ret int64) {
	a.topic = p.topic
	p.ops = append(p.ops, porcupine.Operation{ClientId: client, Input: a, Output: got, Call: call, Return: ret})
}

func (p *partition) channel(name string) int8 {
	if name == "" {
		return -1
	}
	i := slices.Index(p.channels, name)
	if i < 0 {
		if len(p.channels) == maxChannels {
			p.err = fmt.Errorf("topic %s has more than %d channels", p.topic.name, maxChannels)
			return 0
		}
		i = len(p.channels)
		p.channels = append(p.channels, name)
		if registry.IsEphemeral(name) {
			p.topic.ephemeralChannels |= 1 << i
		}
	}
	return int8(i)
}

// addAnswered adds what clients know.
func (p *partition) addAnswered() {
	for _, op := range p.history.Ops {
		if !op.Answered() || op.Stale {
			continue
		}
		switch op.Kind {
		case history.Topics:
			p.add(op.Client, &action{kind: askExists, op: op}, answer{found: slices.Contains(op.Topics, p.topic.name)}, op.Call, op.Return)
			continue
		case history.Nodes:
			p.add(op.Client, &action{kind: askNodes, op: op}, p.nodesAnswer(op), op.Call, op.Return)
			continue
		case history.Backup:
			p.addBackup(op)
			continue
		}
		if op.Topic != p.topic.name {
			continue
		}
		a := p.actionOf(op)
		got := answer{found: op.Outcome == history.OK}
		if op.Kind == history.Lookup || op.Kind == history.Channels {
			got = p.lookupAnswer(op)
		}
		p.add(op.Client, a, got, op.Call, op.Return)
	}
}

var actionKinds = map[history.Kind]actionKind{
	history.Register: doRegister, history.Unregister: doUnregister,
	history.CreateTopic: doCreateTopic, history.DeleteTopic: doDeleteTopic,
	history.CreateChannel: doCreateChannel, history.DeleteChannel: doDeleteChannel,
	history.Tombstone: doTombstone, history.Lookup: askLookup, history.Channels: askChannels,
}

func (p *partition) actionOf(op *history.Op) *action {
	a := &action{kind: actionKinds[op.Kind], channel: p.channel(op.Channel), producers: p.numbers.nodes[op.Node], op: op}
	if op.Session != 0 {
		at := p.numbers.hosts[p.history.Sessions[op.Session-1].Hostname]
		a.holder, a.session = uint8(at.holder), at.number
	}
	return a
}

func (p *partition) lookupAnswer(op *history.Op) answer {
	return p.shownAnswer(op.Shown, op.Outcome == history.OK)
}

func (p *partition) shownAnswer(shown registry.Topic, found bool) answer {
	got := answer{found: found}
	for _, name := range shown.Channels {
		got.channels |= 1 << max(0, p.channel(name))
	}
	for _, info := range shown.Producers {
		got.show(p.producer(info))
	}
	return got
}

// addBackup adds what a backup shows of the topic, as two answers of one moment.
func (p *partition) addBackup(op *history.Op) {
	shown, found := op.Saved.Shown[p.topic.name]
	p.add(op.Client, &action{kind: askLookup, op: op}, p.shownAnswer(shown, found), op.Call, op.Return)
	p.add(op.Client, &action{kind: askNodes, op: op}, p.nodesAnswer(op), op.Call, op.Return)
}

func (p *partition) nodesAnswer(op *history.Op) (got answer) {
	for _, node := range op.Nodes {
		i := slices.Index(node.Topics, p.topic.name)
		if i < 0 {
			continue
		}
		bit := p.producer(node.ProducerInfo)
		got.show(bit)
		if i >= len(node.Tombstones) {
			got.bad = true
		} else if node.Tombstones[i] {
			got.tombs |= bit
		}
	}
	return got
}

// show notes a producer; each is to be shown once.
func (a *answer) show(bit uint32) {
	a.bad = a.bad || bit == 0 || a.producers&bit != 0
	a.producers |= bit
}

// producer returns the producer's bit, 0 if no session of it said this.
func (p *partition) producer(info registry.ProducerInfo) uint32 {
	s := p.byHost[info.Hostname]
	if s == nil || s.Producer != info.ID() {
		return 0
	}
	return 1 << p.numbers.producers[s.Producer]
}

// addUnknown adds the changes whose outcome no client knows, but the log does.
// Those that changed nothing there need not be placed. The log also bounds when
// each took effect: not before anything that stands before it was called, and not
// after anything that rests on it was answered; and among themselves they keep the
// log's order. Without that the search would take for ever after an outage, when
// everything waits for everything.
func (p *partition) addUnknown() {
	answered := map[asked][]int64{} // when they were called
	for _, op := range p.history.Ops {
		if op.Answered() && !op.Kind.Reads() && op.Topic == p.topic.name {
			as := p.askedOf(op)
			answered[as] = append(answered[as], op.Call)
		}
	}
	touched := p.touched()
	unknown := p.unknown()
	var s state
	earliest, logged := int64(0), uint32(0)
	for _, c := range p.log.Commands {
		a, as, ok := p.actionOfCommand(c, touched)
		if !ok {
			continue
		}
		before := s
		if ok, next := s.step(a, answer{found: true}); ok {
			s = next
		}
		if calls := answered[as]; len(calls) > 0 {
			earliest, answered[as] = max(earliest, calls[0]), calls[1:]
			continue
		}
		if s == before {
			continue
		}
		done := p.doneBy(c.Index)
		earliest = max(earliest+1, p.calledAt(c, as, unknown)) // +1: in the log's order
		logged++
		a.logged = logged
		p.add(clientOfLog, a, answer{found: true}, min(earliest, done), done)
	}
}

// clientOfLog is the client of operations that only the log knows.
const clientOfLog = 1000

// asked is a change as both a client and the log know it; index 0 is any.
type asked struct {
	index         uint64
	kind          actionKind
	session, peer string
	channel, node string
}

func (p *partition) askedOf(op *history.Op) asked {
	as := asked{index: op.Index, kind: actionKinds[op.Kind], channel: op.Channel, node: op.Node}
	if op.Session != 0 {
		as.session = p.history.Sessions[op.Session-1].Hostname
	} else {
		as.peer = op.Peer
	}
	return as
}

// touched returns the holders whose sessions declared the topic. All of their
// sessions count: each ends, or replaces, another.
func (p *partition) touched() map[int]bool {
	holders := map[int]bool{}
	for _, op := range p.history.Ops {
		if op.Session != 0 && op.Topic == p.topic.name {
			if at, ok := p.numbers.hosts[p.history.Sessions[op.Session-1].Hostname]; ok {
				holders[at.holder] = true
			}
		}
	}
	return holders
}

// unknown returns when each change of unknown outcome was called, earliest first.
func (p *partition) unknown() map[asked][]int64 {
	calls := map[asked][]int64{}
	for _, op := range p.history.Ops { // by call
		if op.Outcome == history.Unknown && op.Topic == p.topic.name {
			as := p.askedOf(op)
			as.index = 0
			calls[as] = append(calls[as], op.Call)
		}
	}
	return calls
}

// actionOfCommand translates a command; false if it is not about the topic.
func (p *partition) actionOfCommand(c Command, touched map[int]bool) (*action, asked, bool) {
	if kind, id, name, ok := declaration(c.Command); ok {
		host, at := p.log.Hosts[id], p.numbers.seats[id]
		a := &action{kind: actionKinds[kind], holder: uint8(at.holder), session: at.number, channel: p.channelOf(name), topic: p.topic}
		return a, asked{index: c.Index, kind: a.kind, session: host, channel: name.Channel}, name.Topic == p.topic.name
	}
	session := func(kind actionKind, id registry.SessionID) (*action, asked, bool) {
		at := p.numbers.seats[id]
		return &action{kind: kind, holder: uint8(at.holder), session: at.number, topic: p.topic},
			asked{index: c.Index, kind: kind, session: p.log.Hosts[id]}, touched[at.holder]
	}
	write := func(kind actionKind, topic, channel, node string) (*action, asked, bool) {
		a := &action{kind: kind, channel: p.channelOf(registry.Name{Topic: topic, Channel: channel}), producers: p.numbers.nodes[node], topic: p.topic}
		return a, asked{index: c.Index, kind: kind, peer: c.Origin.Name(), channel: channel, node: node}, topic == p.topic.name
	}
	switch m := c.Command.(type) {
	case registry.OpenSession:
		return session(doIdentify, m.Session)
	case registry.CloseSession:
		return session(doEnd, m.Session)
	case registry.EndOrphan:
		return session(doEnd, m.Session)
	case registry.CreateTopic:
		return write(doCreateTopic, m.Topic, "", "")
	case registry.DeleteTopic:
		return write(doDeleteTopic, m.Topic, "", "")
	case registry.CreateChannel:
		return write(doCreateChannel, m.Topic, m.Channel, "")
	case registry.DeleteChannel:
		return write(doDeleteChannel, m.Topic, m.Channel, "")
	case registry.Tombstone:
		return write(doTombstone, m.Topic, "", m.Node)
	}
	return nil, asked{}, false
}

// channelOf numbers only channels of this topic.
func (p *partition) channelOf(name registry.Name) int8 {
	if name.Topic != p.topic.name {
		return -1
	}
	return p.channel(name.Channel)
}

// calledAt returns the earliest moment at which a command that no answer is
// about can have been asked for. Where several could, the earliest is right: it
// allows all that the others would.
func (p *partition) calledAt(c Command, as asked, unknown map[asked][]int64) int64 {
	as.index = 0
	if calls := unknown[as]; len(calls) > 0 {
		if as.session == "" {
			unknown[as] = calls[1:]
		}
		return calls[0]
	}
	s := p.byHost[as.session]
	if s == nil {
		return 0
	}
	if as.kind == doEnd {
		return s.End
	}
	return s.Identify
}

// doneBy returns when the entry at an index had surely taken effect.
func (p *partition) doneBy(index uint64) int64 {
	i, _ := slices.BinarySearchFunc(p.bounds, index, func(b bound, index uint64) int { return cmp.Compare(b.index, index) })
	if i == len(p.bounds) {
		return history.Forever
	}
	return p.bounds[i].answer
}
