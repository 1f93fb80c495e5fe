// Package reference is the registry once more, in plain maps: what the commands
// of the log make of it, by the rules for commands alone. It shares no code with
// package store, so that tests can hold one against the other; nothing that
// serves clients uses it. Its values belong to one goroutine.
package reference

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/lookupd/lookupd/registry"
)

// Holder is a peer through which a producer declares names.
type Holder struct {
	Producer registry.ProducerID
	Node     registry.NodeID
}

// Registry is the state. Readers may look at the maps, Apply alone changes them.
type Registry struct {
	Sessions map[Holder]registry.SessionState
	Infos    map[registry.ProducerID]registry.ProducerInfo
	Names    map[registry.Name]map[Holder]bool // a topic has Channel ""
	Tombs    map[string]map[registry.ProducerID]uint64
	Batches  map[registry.NodeID][2]uint64 // epoch and number of each origin's last one
}

// New returns an empty Registry.
func New() *Registry {
	return &Registry{
		Sessions: map[Holder]registry.SessionState{},
		Infos:    map[registry.ProducerID]registry.ProducerInfo{},
		Names:    map[registry.Name]map[Holder]bool{},
		Tombs:    map[string]map[registry.ProducerID]uint64{},
		Batches:  map[registry.NodeID][2]uint64{},
	}
}

// Fresh reports whether a batch takes effect, and notes it.
func (r *Registry) Fresh(origin registry.NodeID, epoch, number uint64) bool {
	last := r.Batches[origin]
	if epoch < last[0] || epoch == last[0] && number <= last[1] {
		return false
	}
	r.Batches[origin] = [2]uint64{epoch, number}
	return true
}

// Apply does one command at index and returns its refusal.
func (r *Registry) Apply(index, term uint64, command registry.Command) error {
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
		r.add(registry.Name{Topic: m.Topic})
	case registry.CreateChannel:
		r.add(registry.Name{Topic: m.Topic})
		r.add(registry.Name(m))
	case registry.DeleteTopic:
		r.deleteTopic(m.Topic)
	case registry.DeleteChannel:
		if _, ok := r.Names[registry.Name(m)]; !ok {
			return registry.ErrChannelNotFound
		}
		delete(r.Names, registry.Name(m))
	case registry.Tombstone:
		r.tombstone(m.Topic, m.Node, index)
	case registry.EndTombstone:
		if r.Tombs[m.Topic][m.Producer] == m.SetAt {
			delete(r.Tombs[m.Topic], m.Producer)
		}
	case registry.Noop:
	default:
		panic(fmt.Sprintf("reference: %T", command)) // a kind that was added and forgotten here
	}
	return nil
}

func (r *Registry) open(id registry.SessionID, info registry.ProducerInfo) error {
	h := Holder{info.ID(), id.Node}
	s, ok := r.Sessions[h]
	switch {
	case ok && s.ID.Newer(id):
		return registry.ErrSessionNotOpen
	case !ok || s.ID != id:
		r.Sessions[h] = registry.SessionState{ID: id}
	}
	r.Infos[h.Producer] = info
	return nil
}

func (r *Registry) close(id registry.SessionID, p registry.ProducerID) {
	h := Holder{p, id.Node}
	s, ok := r.Sessions[h]
	if !ok || s.ID.Newer(id) {
		return
	}
	for _, name := range r.Held(h) {
		if name.Channel == "" {
			r.letGo(h, name.Topic)
		}
	}
	delete(r.Sessions, h)
}

func (r *Registry) isOpen(h Holder, id registry.SessionID) bool {
	s, ok := r.Sessions[h]
	return ok && s.ID == id
}

func (r *Registry) suspend(id registry.SessionID, p registry.ProducerID, suspended bool) error {
	h := Holder{p, id.Node}
	if !r.isOpen(h, id) {
		return registry.ErrSessionNotOpen
	}
	r.Sessions[h] = registry.SessionState{ID: id, Suspended: suspended}
	return nil
}

func (r *Registry) register(id registry.SessionID, p registry.ProducerID, topic, channel string) error {
	h := Holder{p, id.Node}
	if !r.isOpen(h, id) {
		return registry.ErrSessionNotOpen
	}
	for _, name := range []registry.Name{{Topic: topic}, {Topic: topic, Channel: channel}} {
		r.add(name)
		r.Names[name][h] = true
	}
	return nil
}

func (r *Registry) unregister(id registry.SessionID, p registry.ProducerID, topic, channel string) error {
	h := Holder{p, id.Node}
	if !r.isOpen(h, id) {
		return registry.ErrSessionNotOpen
	}
	if channel == "" {
		r.letGo(h, topic)
	} else {
		delete(r.Names[registry.Name{Topic: topic, Channel: channel}], h)
	}
	r.dropIfLeft(registry.Name{Topic: topic, Channel: channel})
	return nil
}

// letGo takes h off a topic and its channels.
func (r *Registry) letGo(h Holder, topic string) {
	for _, name := range r.Held(h) {
		if name.Topic == topic {
			delete(r.Names[name], h)
			r.dropIfLeft(name)
		}
	}
	for p := range r.Tombs[topic] {
		if !r.offers(p, topic) {
			delete(r.Tombs[topic], p)
		}
	}
}

func (r *Registry) offers(p registry.ProducerID, topic string) bool {
	for h := range r.Names[registry.Name{Topic: topic}] {
		if h.Producer == p {
			return true
		}
	}
	return false
}

// dropIfLeft ends an ephemeral name that nobody holds any more.
func (r *Registry) dropIfLeft(name registry.Name) {
	holders, exists := r.Names[name]
	switch {
	case !exists || len(holders) > 0 || !registry.IsEphemeral(cmp.Or(name.Channel, name.Topic)):
	case name.Channel == "":
		r.deleteTopic(name.Topic)
	default:
		delete(r.Names, name)
	}
}

func (r *Registry) deleteTopic(topic string) {
	maps.DeleteFunc(r.Names, func(n registry.Name, _ map[Holder]bool) bool { return n.Topic == topic })
	delete(r.Tombs, topic)
}

func (r *Registry) add(name registry.Name) {
	if r.Names[name] == nil {
		r.Names[name] = map[Holder]bool{}
	}
}

func (r *Registry) tombstone(topic, node string, index uint64) {
	for h := range r.Names[registry.Name{Topic: topic}] {
		if r.Infos[h.Producer].IsNode(node) {
			if r.Tombs[topic] == nil {
				r.Tombs[topic] = map[registry.ProducerID]uint64{}
			}
			r.Tombs[topic][h.Producer] = index
		}
	}
}

// Held returns what h holds: channels before their topic.
func (r *Registry) Held(h Holder) []registry.Name {
	var held []registry.Name
	for name, holders := range r.Names {
		if holders[h] {
			held = append(held, name)
		}
	}
	slices.SortFunc(held, CompareNames)
	return held
}

// CompareNames has channels before their topic.
func CompareNames(a, b registry.Name) int {
	return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(b.Channel, a.Channel))
}

// shows reports whether one who holds the name for p has a session that is not suspended.
func (r *Registry) shows(p registry.ProducerID, name registry.Name) bool {
	for h := range r.Names[name] {
		if s, open := r.Sessions[h]; h.Producer == p && open && !s.Suspended {
			return true
		}
	}
	return false
}

// Topics returns the names of all topics, sorted.
func (r *Registry) Topics() []string {
	topics := []string{}
	for name := range r.Names {
		if name.Channel == "" {
			topics = append(topics, name.Topic)
		}
	}
	slices.Sort(topics)
	return topics
}

// Exists reports whether there is the topic, or the channel of it.
func (r *Registry) Exists(topic, channel string) bool {
	return r.Names[registry.Name{Topic: topic, Channel: channel}] != nil
}

// Nodes returns what /nodes shows, by producer.
func (r *Registry) Nodes() []registry.Node {
	nodes, topics := []registry.Node{}, r.Topics()
	for _, p := range r.producers() {
		node := registry.Node{ProducerInfo: r.Infos[p], Topics: []string{}, Tombstones: []bool{}}
		for _, topic := range topics {
			if r.shows(p, registry.Name{Topic: topic}) {
				node.Topics = append(node.Topics, topic)
				node.Tombstones = append(node.Tombstones, r.Tombs[topic][p] > 0)
			}
		}
		if r.isShown(p) {
			nodes = append(nodes, node)
		}
	}
	return nodes
}

// isShown reports whether one of p's sessions is not suspended.
func (r *Registry) isShown(p registry.ProducerID) bool {
	for h, s := range r.Sessions {
		if h.Producer == p && !s.Suspended {
			return true
		}
	}
	return false
}

// Lookup returns what /lookup shows of a topic.
func (r *Registry) Lookup(topic string) registry.Topic {
	t := registry.Topic{Channels: []string{}, Producers: []registry.ProducerInfo{}}
	for name := range r.Names {
		if name.Topic == topic && name.Channel != "" {
			t.Channels = append(t.Channels, name.Channel)
		}
	}
	slices.Sort(t.Channels)
	for _, p := range r.producers() {
		if r.shows(p, registry.Name{Topic: topic}) && r.Tombs[topic][p] == 0 {
			t.Producers = append(t.Producers, r.Infos[p])
		}
	}
	return t
}

// producers returns those with a session, sorted.
func (r *Registry) producers() []registry.ProducerID {
	set := map[registry.ProducerID]bool{}
	for h := range r.Sessions {
		set[h.Producer] = true
	}
	return slices.Sorted(maps.Keys(set))
}
