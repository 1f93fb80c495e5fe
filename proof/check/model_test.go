package check

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/lookupd/lookupd/proof/history"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/registry/reference"
)

// The judges' two ideas of what commands do must be the same: porcupine's model
// is held against the reference over random logs.
func TestModelAgreesWithReference(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 0))
		l := randomLog(r, 300)
		n, err := newNumbers(&history.History{Sessions: sessionsOf(l)}, l)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range logTopics {
			compareTopic(t, seed, name, l, n)
		}
		if t.Failed() {
			return
		}
	}
}

var (
	logTopics   = []string{"t", "e#ephemeral"}
	logChannels = []string{"c", "d#ephemeral"}
)

// compareTopic goes through the log with both.
func compareTopic(t *testing.T, seed uint64, name string, l *Log, n *numbers) {
	t.Helper()
	p := &partition{topic: newTopic(name), log: l, numbers: n, byHost: map[string]*history.Session{}}
	all := map[int]bool{}
	for i, holder := range n.holderOf {
		p.topic.producerOf[i] = uint8(n.producers[holder.Producer])
		all[i] = true
	}
	ref := reference.New()
	var s state
	for i, c := range l.Commands {
		refused := ref.Apply(c.Index, c.Term, c.Command)
		if a, _, about := p.actionOfCommand(c, all); about {
			ok, next := s.step(a, answer{found: refused == nil})
			if _, isDelete := c.Command.(registry.DeleteChannel); isDelete && !ok {
				t.Errorf("seed %d, command %d %+v: the model refuses what the reference answers with %v", seed, i, c.Command, refused)
			}
			if ok {
				s = next
			}
		}
		want := ref.Lookup(name)
		got := answer{found: ref.Exists(name, "")}
		for _, channel := range want.Channels {
			got.channels |= 1 << p.channel(channel)
		}
		for _, info := range want.Producers {
			got.show(1 << n.producers[info.ID()])
		}
		if !s.shows(&action{kind: askLookup, topic: p.topic}, got) {
			t.Errorf("seed %d, topic %s after command %d %+v: the reference shows %+v, the model is %+v", seed, name, i, c.Command, want, s)
			return
		}
	}
}

// randomLog is a log in which a few producers come and go at two peers.
func randomLog(r *rand.Rand, commands int) *Log {
	l := &Log{Hosts: map[registry.SessionID]string{}, Answered: map[AnswerKey]uint64{}}
	nodes := []registry.NodeID{"a-00000000", "b-00000000"}
	open := map[reference.Holder]registry.SessionID{}
	seq := uint64(0)
	for index := uint64(1); index <= uint64(commands); index++ {
		producer := registry.ProducerInfo{BroadcastAddress: fmt.Sprintf("n%d", r.IntN(3)), TCPPort: 1, HTTPPort: 2, Version: "1"}
		h := reference.Holder{Producer: producer.ID(), Node: nodes[r.IntN(2)]}
		id, topic := open[h], logTopics[r.IntN(2)]
		channel := append(slices.Clone(logChannels), "")[r.IntN(3)]
		var c registry.Command
		switch r.IntN(12) {
		case 0, 1:
			seq++
			id = registry.SessionID{Node: h.Node, Epoch: 1, Seq: seq}
			open[h], producer.Hostname = id, fmt.Sprintf("s%d", seq)
			l.Hosts[id] = producer.Hostname
			c = registry.OpenSession{Session: id, Producer: producer}
		case 2:
			if r.IntN(4) == 0 { // one that ended before it was opened
				seq++
				id = registry.SessionID{Node: h.Node, Epoch: 1, Seq: seq}
			}
			c = registry.CloseSession{Session: id, Producer: h.Producer}
		case 3, 4, 5:
			c = registry.Register{Session: id, Producer: h.Producer, Topic: topic, Channel: channel}
		case 6, 7:
			c = registry.Unregister{Session: id, Producer: h.Producer, Topic: topic, Channel: channel}
		case 8:
			c = registry.CreateTopic{Topic: topic}
		case 9:
			c = registry.CreateChannel{Topic: topic, Channel: logChannels[r.IntN(2)]}
		case 10:
			c = registry.Tombstone{Topic: topic, Node: fmt.Sprintf("n%d:2", r.IntN(3))}
		default:
			c = registry.DeleteChannel{Topic: topic, Channel: logChannels[r.IntN(2)]}
			if r.IntN(3) == 0 {
				c = registry.DeleteTopic{Topic: topic}
			}
		}
		if id.Node == "" && needsSession(c) {
			continue
		}
		l.Commands = append(l.Commands, Command{Index: index, Term: 1, Origin: h.Node, Command: c})
		l.Last = index
	}
	return l
}

func needsSession(c registry.Command) bool {
	switch c.(type) {
	case registry.CloseSession, registry.Register, registry.Unregister:
		return true
	}
	return false
}

func sessionsOf(l *Log) (sessions []*history.Session) {
	for _, c := range l.Commands {
		switch m := c.Command.(type) {
		case registry.OpenSession:
			sessions = append(sessions, &history.Session{Number: len(sessions) + 1, Producer: m.Producer.ID(), Hostname: m.Producer.Hostname})
		case registry.CloseSession:
			sessions = append(sessions, &history.Session{Number: len(sessions) + 1, Producer: m.Producer})
		}
	}
	return sessions
}
