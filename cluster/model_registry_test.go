package cluster_test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
)

// holder is a peer through which a producer declares names.
type holder struct {
	producer registry.ProducerID
	node     registry.NodeID
}

// simRegistry is the registry once more, in plain maps: what the commands of the
// log make of it, by the rules for commands.
type simRegistry struct {
	sessions map[holder]registry.SessionState
	infos    map[registry.ProducerID]registry.ProducerInfo
	names    map[store.Name]map[holder]bool // a topic has Channel ""
	tombs    map[string]map[registry.ProducerID]uint64
	batches  map[registry.NodeID][2]uint64 // epoch and number of each origin's last one
}

func newSimRegistry() *simRegistry {
	return &simRegistry{
		sessions: map[holder]registry.SessionState{},
		infos:    map[registry.ProducerID]registry.ProducerInfo{},
		names:    map[store.Name]map[holder]bool{},
		tombs:    map[string]map[registry.ProducerID]uint64{},
		batches:  map[registry.NodeID][2]uint64{},
	}
}

// fresh reports whether a batch takes effect, and notes it.
func (r *simRegistry) fresh(origin registry.NodeID, epoch, number uint64) bool {
	last := r.batches[origin]
	if epoch < last[0] || epoch == last[0] && number <= last[1] {
		return false
	}
	r.batches[origin] = [2]uint64{epoch, number}
	return true
}

// apply does one command at index and returns its refusal.
func (r *simRegistry) apply(index, term uint64, command registry.Command) error {
	switch m := command.(type) {
	case registry.OpenSession:
		return r.open(m.Session, m.Producer)
	case registry.CloseSession:
		r.close(m.Session, m.Producer)
	case registry.EndOrphan:
		if m.Term != term {
			return registry.ErrTermEnded
		}
		r.close(m.Session, m.Producer)
	case registry.SuspendSession:
		return r.suspend(m.Session, m.Producer, true)
	case registry.ResumeSession:
		return r.suspend(m.Session, m.Producer, false)
	case registry.Register:
		return r.register(m.Session, m.Producer, m.Topic, m.Channel)
	case registry.Unregister:
		return r.unregister(m.Session, m.Producer, m.Topic, m.Channel)
	case registry.CreateTopic:
		r.add(store.Name{Topic: m.Topic})
	case registry.CreateChannel:
		r.add(store.Name{Topic: m.Topic})
		r.add(store.Name(m))
	case registry.DeleteTopic:
		r.deleteTopic(m.Topic)
	case registry.DeleteChannel:
		if _, ok := r.names[store.Name(m)]; !ok {
			return registry.ErrChannelNotFound
		}
		delete(r.names, store.Name(m))
	case registry.Tombstone:
		r.tombstone(m.Topic, m.Node, index)
	case registry.EndTombstone:
		if r.tombs[m.Topic][m.Producer] == m.SetAt {
			delete(r.tombs[m.Topic], m.Producer)
		}
	case registry.Noop:
	default:
		panic(fmt.Sprintf("%T", command))
	}
	return nil
}

func (r *simRegistry) open(id registry.SessionID, info registry.ProducerInfo) error {
	h := holder{info.ID(), id.Node}
	s, ok := r.sessions[h]
	switch {
	case ok && s.ID.Newer(id):
		return registry.ErrSessionNotOpen
	case !ok || s.ID != id:
		r.sessions[h] = registry.SessionState{ID: id}
	}
	r.infos[h.producer] = info
	return nil
}

func (r *simRegistry) close(id registry.SessionID, p registry.ProducerID) {
	h := holder{p, id.Node}
	s, ok := r.sessions[h]
	if !ok || s.ID.Newer(id) {
		return
	}
	for _, name := range r.held(h) {
		if name.Channel == "" {
			r.letGo(h, name.Topic)
		}
	}
	delete(r.sessions, h)
}

func (r *simRegistry) isOpen(h holder, id registry.SessionID) bool {
	s, ok := r.sessions[h]
	return ok && s.ID == id
}

func (r *simRegistry) suspend(id registry.SessionID, p registry.ProducerID, suspended bool) error {
	h := holder{p, id.Node}
	if !r.isOpen(h, id) {
		return registry.ErrSessionNotOpen
	}
	r.sessions[h] = registry.SessionState{ID: id, Suspended: suspended}
	return nil
}

func (r *simRegistry) register(id registry.SessionID, p registry.ProducerID, topic, channel string) error {
	h := holder{p, id.Node}
	if !r.isOpen(h, id) {
		return registry.ErrSessionNotOpen
	}
	for _, name := range []store.Name{{Topic: topic}, {Topic: topic, Channel: channel}} {
		r.add(name)
		r.names[name][h] = true
	}
	return nil
}

func (r *simRegistry) unregister(id registry.SessionID, p registry.ProducerID, topic, channel string) error {
	h := holder{p, id.Node}
	if !r.isOpen(h, id) {
		return registry.ErrSessionNotOpen
	}
	if channel == "" {
		r.letGo(h, topic)
	} else {
		delete(r.names[store.Name{Topic: topic, Channel: channel}], h)
	}
	r.dropIfLeft(store.Name{Topic: topic, Channel: channel})
	return nil
}

// letGo takes h off a topic and its channels.
func (r *simRegistry) letGo(h holder, topic string) {
	for _, name := range r.held(h) {
		if name.Topic == topic {
			delete(r.names[name], h)
			r.dropIfLeft(name)
		}
	}
	for p := range r.tombs[topic] {
		if !r.offers(p, topic) {
			delete(r.tombs[topic], p)
		}
	}
}

func (r *simRegistry) offers(p registry.ProducerID, topic string) bool {
	for h := range r.names[store.Name{Topic: topic}] {
		if h.producer == p {
			return true
		}
	}
	return false
}

// dropIfLeft ends an ephemeral name that nobody holds any more.
func (r *simRegistry) dropIfLeft(name store.Name) {
	holders, exists := r.names[name]
	switch {
	case !exists || len(holders) > 0 || !registry.IsEphemeral(cmp.Or(name.Channel, name.Topic)):
	case name.Channel == "":
		r.deleteTopic(name.Topic)
	default:
		delete(r.names, name)
	}
}

func (r *simRegistry) deleteTopic(topic string) {
	maps.DeleteFunc(r.names, func(n store.Name, _ map[holder]bool) bool { return n.Topic == topic })
	delete(r.tombs, topic)
}

func (r *simRegistry) add(name store.Name) {
	if r.names[name] == nil {
		r.names[name] = map[holder]bool{}
	}
}

func (r *simRegistry) tombstone(topic, node string, index uint64) {
	for h := range r.names[store.Name{Topic: topic}] {
		if r.infos[h.producer].IsNode(node) {
			if r.tombs[topic] == nil {
				r.tombs[topic] = map[registry.ProducerID]uint64{}
			}
			r.tombs[topic][h.producer] = index
		}
	}
}

// held returns what h holds: channels before their topic.
func (r *simRegistry) held(h holder) []store.Name {
	var held []store.Name
	for name, holders := range r.names {
		if holders[h] {
			held = append(held, name)
		}
	}
	slices.SortFunc(held, compareNames)
	return held
}

// compareNames has channels before their topic.
func compareNames(a, b store.Name) int {
	return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(b.Channel, a.Channel))
}

// shows reports whether one who holds the name for p has a session that is not suspended.
func (r *simRegistry) shows(p registry.ProducerID, name store.Name) bool {
	for h := range r.names[name] {
		if s, open := r.sessions[h]; h.producer == p && open && !s.Suspended {
			return true
		}
	}
	return false
}

// answers are what clients can ask.
type answers struct {
	Topics   []string
	Lookups  map[string]registry.Topic
	Nodes    []registry.Node
	Holders  []string
	Sessions []string
}

func (r *simRegistry) answers() answers {
	a := answers{Topics: []string{}, Lookups: map[string]registry.Topic{}, Nodes: []registry.Node{}}
	for name, holders := range r.names {
		if name.Channel == "" {
			a.Topics = append(a.Topics, name.Topic)
		}
		for h := range holders {
			a.Holders = append(a.Holders, fmt.Sprint(name, " ", h))
		}
	}
	slices.Sort(a.Topics)
	slices.Sort(a.Holders)
	for _, topic := range a.Topics {
		a.Lookups[topic] = r.lookup(topic)
	}
	for h, s := range r.sessions {
		a.Sessions = append(a.Sessions, fmt.Sprint(h, " ", s))
	}
	slices.Sort(a.Sessions)
	for _, p := range r.producers() {
		node := registry.Node{ProducerInfo: r.infos[p], Topics: []string{}, Tombstones: []bool{}}
		shown := false
		for h, s := range r.sessions {
			shown = shown || h.producer == p && !s.Suspended
		}
		for _, topic := range a.Topics {
			if r.shows(p, store.Name{Topic: topic}) {
				node.Topics = append(node.Topics, topic)
				node.Tombstones = append(node.Tombstones, r.tombs[topic][p] > 0)
			}
		}
		if shown {
			a.Nodes = append(a.Nodes, node)
		}
	}
	return a
}

func (r *simRegistry) lookup(topic string) registry.Topic {
	t := registry.Topic{Channels: []string{}, Producers: []registry.ProducerInfo{}}
	for name := range r.names {
		if name.Topic == topic && name.Channel != "" {
			t.Channels = append(t.Channels, name.Channel)
		}
	}
	slices.Sort(t.Channels)
	for _, p := range r.producers() {
		if r.shows(p, store.Name{Topic: topic}) && r.tombs[topic][p] == 0 {
			t.Producers = append(t.Producers, r.infos[p])
		}
	}
	return t
}

// producers returns those with a session, sorted.
func (r *simRegistry) producers() []registry.ProducerID {
	set := map[registry.ProducerID]bool{}
	for h := range r.sessions {
		set[h.producer] = true
	}
	return slices.Sorted(maps.Keys(set))
}

// answersOf asks the state.
func answersOf(v *store.View) answers {
	a := answers{Topics: v.Topics(), Lookups: map[string]registry.Topic{}, Nodes: v.Nodes()}
	for _, topic := range a.Topics {
		a.Lookups[topic], _ = v.Topic(topic)
	}
	for _, reg := range v.Registrations() {
		for _, node := range reg.Holders {
			a.Holders = append(a.Holders, fmt.Sprint(store.Name{Topic: reg.Topic, Channel: reg.Channel}, " ", holder{reg.Producer.ID(), node}))
		}
	}
	slices.Sort(a.Holders)
	for _, s := range v.Sessions() {
		a.Sessions = append(a.Sessions, fmt.Sprint(holder{s.Producer, s.ID.Node}, " ", s.SessionState))
	}
	slices.Sort(a.Sessions)
	return a
}
