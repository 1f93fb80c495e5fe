package store_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
)

// model is the registry once more, as plainly as it can be said: RELIABILITY's
// model with sessions, tombstones and suspension.
type model struct {
	sessions   map[holder]modelSession
	names      map[store.Name]map[holder]bool // topics have Channel ""
	tombstones map[string]map[string]uint64   // topic, host
}

type holder struct {
	host string
	node registry.NodeID
}

type modelSession struct {
	seq       uint64
	suspended bool
}

func newModel() *model {
	return &model{
		sessions:   map[holder]modelSession{},
		names:      map[store.Name]map[holder]bool{},
		tombstones: map[string]map[string]uint64{},
	}
}

func (m *model) add(name store.Name) {
	if m.names[name] == nil {
		m.names[name] = map[holder]bool{}
	}
}

func (m *model) register(h holder, seq uint64, topic, channel string) {
	if s, ok := m.sessions[h]; !ok || s.seq != seq {
		return
	}
	for _, name := range []store.Name{{Topic: topic}, {Topic: topic, Channel: channel}} {
		m.add(name)
		m.names[name][h] = true
	}
}

func (m *model) unregister(h holder, seq uint64, topic, channel string) {
	if s, ok := m.sessions[h]; !ok || s.seq != seq {
		return
	}
	if channel == "" {
		m.letGo(h, topic)
	} else {
		delete(m.names[store.Name{Topic: topic, Channel: channel}], h)
	}
	m.dropIfLeft(store.Name{Topic: topic, Channel: channel})
}

// letGo takes h off the topic and its channels; ephemeral ones go with their last holder.
func (m *model) letGo(h holder, topic string) {
	for _, name := range slices.Collect(maps.Keys(m.names)) {
		if name.Topic == topic && name.Channel != "" && m.names[name][h] {
			delete(m.names[name], h)
			m.dropIfLeft(name)
		}
	}
	if m.names[store.Name{Topic: topic}][h] {
		delete(m.names[store.Name{Topic: topic}], h)
		m.endTombstones(topic)
		m.dropIfLeft(store.Name{Topic: topic})
	}
}

func (m *model) endTombstones(topic string) {
	for host := range m.tombstones[topic] {
		held := false
		for h := range m.names[store.Name{Topic: topic}] {
			held = held || h.host == host
		}
		if !held {
			delete(m.tombstones[topic], host)
		}
	}
}

func (m *model) dropIfLeft(name store.Name) {
	last := name.Channel
	if last == "" {
		last = name.Topic
	}
	if holders, ok := m.names[name]; !ok || len(holders) > 0 || !registry.IsEphemeral(last) {
		return
	}
	if name.Channel == "" {
		m.deleteTopic(name.Topic)
	} else {
		delete(m.names, name)
	}
}

func (m *model) deleteTopic(topic string) {
	maps.DeleteFunc(m.names, func(n store.Name, _ map[holder]bool) bool { return n.Topic == topic })
	delete(m.tombstones, topic)
}

func (m *model) close(h holder, seq uint64) {
	s, ok := m.sessions[h]
	if !ok || s.seq > seq {
		return
	}
	delete(m.sessions, h)
	for _, topic := range m.topics() {
		m.letGo(h, topic)
	}
}

func (m *model) suspend(h holder, seq uint64, suspended bool) {
	if s, ok := m.sessions[h]; ok && s.seq == seq {
		m.sessions[h] = modelSession{seq: seq, suspended: suspended}
	}
}

func (m *model) tombstone(topic, host string, index uint64) {
	for h := range m.names[store.Name{Topic: topic}] {
		if h.host == host {
			if m.tombstones[topic] == nil {
				m.tombstones[topic] = map[string]uint64{}
			}
			m.tombstones[topic][host] = index
		}
	}
}

func (m *model) topics() []string {
	var topics []string
	for name := range m.names {
		if name.Channel == "" {
			topics = append(topics, name.Topic)
		}
	}
	slices.Sort(topics)
	return topics
}

func (m *model) channels(topic string) []string {
	channels := []string{}
	for name := range m.names {
		if name.Topic == topic && name.Channel != "" {
			channels = append(channels, name.Channel)
		}
	}
	slices.Sort(channels)
	return channels
}

// dump is the other dump's twin.
func (m *model) dump() string {
	var lines []string
	var registrations []string
	for _, topic := range m.topics() {
		channels := m.channels(topic)
		shown := []string{}
		for host, nodes := range m.holders(store.Name{Topic: topic}) {
			visible := slices.ContainsFunc(nodes, func(n registry.NodeID) bool { return !m.sessions[holder{host, n}].suspended })
			if m.tombstones[topic][host] == 0 && visible {
				shown = append(shown, host)
			}
		}
		slices.Sort(shown)
		lines = append(lines, fmt.Sprintf("%s %v shows %v", topic, channels, shown))
		for _, channel := range append([]string{""}, channels...) {
			holders := m.holders(store.Name{Topic: topic, Channel: channel})
			for _, host := range slices.Sorted(maps.Keys(holders)) {
				line := fmt.Sprintf("%s %s by", path(topic, channel), host)
				for _, node := range slices.Sorted(slices.Values(holders[host])) {
					line += " " + node.Name()
				}
				if at := m.tombstones[topic][host]; at != 0 && channel == "" {
					line += fmt.Sprintf(" tombstone %d", at)
				}
				registrations = append(registrations, line)
			}
		}
	}
	return strings.Join(slices.Concat(lines, registrations, m.sessionLines()), "\n")
}

func (m *model) holders(name store.Name) map[string][]registry.NodeID {
	holders := map[string][]registry.NodeID{}
	for h := range m.names[name] {
		holders[h.host] = append(holders[h.host], h.node)
	}
	return holders
}

func (m *model) sessionLines() []string {
	var lines []string
	for h, s := range m.sessions {
		line := fmt.Sprintf("session %s %s/%d", h.host, h.node.Name(), s.seq)
		if s.suspended {
			line += " suspended"
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return lines
}

// TestAgainstModel applies long random streams to the state and to the model.
func TestAgainstModel(t *testing.T) {
	steps := 4000
	if testing.Short() {
		steps = 500
	}
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			w, m := newWorld(t), newModel()
			random := rand.New(rand.NewPCG(seed, 1))
			kept := keptAnswers{}
			for i := range steps {
				o, told := randomOp(random, m, w.index+1)
				w.do(o)
				kept.check(w, told)
				if i%7 == 0 {
					if got, want := w.dump(), m.dump(); got != want {
						t.Fatalf("after %s, step %d:\n%s\nwant:\n%s", told, i, got, want)
					}
				}
				if i%50 == 0 {
					w.view((*store.View).Check)
				}
			}
			if kept.unchanged < steps || kept.changed < steps/10 {
				t.Errorf("answers unchanged %d times, changed %d times", kept.unchanged, kept.changed)
			}
		})
	}
}

// keptAnswers keeps what was read until its footprint says that it has changed.
type keptAnswers struct {
	answers            map[string]keptAnswer
	unchanged, changed int
}

type keptAnswer struct {
	shown     string
	index     uint64
	footprint store.Footprint
}

// check reads everything anew and compares it with what was kept.
func (k *keptAnswers) check(w *world, told string) {
	if k.answers == nil {
		k.answers = map[string]keptAnswer{}
	}
	read := map[string]func(*store.View) any{
		"topics": func(v *store.View) any { return v.Topics() },
		"nodes":  func(v *store.View) any { return v.Nodes() },
	}
	for _, topic := range []string{"t", "t.", "tt", "u", "e#ephemeral", "f#ephemeral"} {
		read[topic] = func(v *store.View) any {
			answer, found := v.Topic(topic)
			return []any{answer, found}
		}
	}
	for name, fn := range read {
		var fresh keptAnswer
		w.view(func(v *store.View) error {
			fresh.shown = fmt.Sprint(fn(v))
			fresh.index, _ = v.Applied()
			fresh.footprint = v.Footprint()
			return nil
		})
		old, ok := k.answers[name]
		switch {
		case ok && w.state.Unchanged(old.footprint, old.index):
			k.unchanged++
			if old.shown != fresh.shown {
				w.t.Fatalf("after %s at %d, %s reads as at %d, but was %s and is %s", told, fresh.index, name, old.index, old.shown, fresh.shown)
			}
		case ok:
			k.changed++
			k.answers[name] = fresh
		default:
			k.answers[name] = fresh
		}
	}
}

// randomOp draws a command, applies it to the model at index and returns it.
func randomOp(random *rand.Rand, m *model, index uint64) (op, string) {
	pick := func(of ...string) string { return of[random.IntN(len(of))] }
	host := pick("p1", "p2", "p3", "p4")
	node := []registry.NodeID{nodeA, nodeB, nodeC}[random.IntN(3)]
	topic := pick("t", "t.", "tt", "u", "e#ephemeral", "f#ephemeral")
	channel := pick("", "c", "cc", "d", "x#ephemeral", "y#ephemeral")
	h := holder{host, node}
	seq := m.sessions[h].seq
	switch { // now and then a session that is not open
	case random.IntN(20) == 0:
		seq++
	case random.IntN(20) == 0 && seq > 1:
		seq--
	}
	switch n := random.IntN(100); {
	case n < 8:
		next := seq + 1
		if s, ok := m.sessions[h]; !ok || s.seq < next {
			m.sessions[h] = modelSession{seq: next}
		}
		return open(node, next, host), "open"
	case n < 12:
		m.close(h, seq)
		return closing(node, seq, host), "close"
	case n < 16:
		m.suspend(h, seq, true)
		return suspend(node, seq, host), "suspend"
	case n < 20:
		m.suspend(h, seq, false)
		return resume(node, seq, host), "resume"
	case n < 60:
		m.register(h, seq, topic, channel)
		return register(node, seq, host, topic, channel), "register"
	case n < 78:
		m.unregister(h, seq, topic, channel)
		return unregister(node, seq, host, topic, channel), "unregister"
	case n < 82:
		m.add(store.Name{Topic: topic})
		return createTopic(topic), "create topic"
	case n < 86 && channel != "":
		m.add(store.Name{Topic: topic})
		m.add(store.Name{Topic: topic, Channel: channel})
		return createChannel(topic, channel), "create channel"
	case n < 89:
		m.deleteTopic(topic)
		return deleteTopic(topic), "delete topic"
	case n < 93 && channel != "":
		delete(m.names, store.Name{Topic: topic, Channel: channel})
		return deleteChannel(topic, channel), "delete channel"
	case n < 97:
		m.tombstone(topic, host, index)
		return tombstone(topic, host+":4151"), "tombstone"
	default:
		at := m.tombstones[topic][host]
		delete(m.tombstones[topic], host)
		return endTombstone(topic, host, at), "end tombstone"
	}
}
