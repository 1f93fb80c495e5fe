package check

import (
	"strings"
	"testing"
	"time"

	"github.com/lookupd/lookupd/proof/history"
	"github.com/lookupd/lookupd/registry"
)

const (
	peerA = registry.NodeID("a-00000000")
	ms    = int64(time.Millisecond)
)

// story is a short history that is right, and its log: a session at peer a
// registers t, another client sees it, and creates a channel.
func story() (*history.History, *Log) {
	id := registry.SessionID{Node: peerA, Epoch: 1, Seq: 1}
	info := registry.ProducerInfo{Hostname: "s1", BroadcastAddress: "n1", TCPPort: 1, HTTPPort: 2, Version: "1"}
	command := func(index uint64, c registry.Command) Command {
		return Command{Index: index, Term: 1, Origin: peerA, Command: c}
	}
	l := &Log{
		Hosts: map[registry.SessionID]string{id: "s1"}, Nodes: map[string]registry.NodeID{"s1": peerA}, Answered: map[AnswerKey]uint64{{"s1", 1}: 3}, Last: 4, Entries: 3,
		Commands: []Command{
			command(2, registry.OpenSession{Session: id, Producer: info}),
			command(3, registry.Register{Session: id, Producer: info.ID(), Topic: "t"}),
			command(4, registry.CreateChannel{Topic: "t", Channel: "c"}),
		},
	}
	h := &history.History{
		Sessions: []*history.Session{{Number: 1, Producer: info.ID(), Hostname: "s1", Peer: "a", Alive: true}},
		Ops: []*history.Op{
			{Client: 2, Kind: history.Lookup, Outcome: history.NotFound, Peer: "a", Topic: "t", Call: 1 * ms, Return: 2 * ms, Index: 1},
			{Client: 1, Kind: history.Register, Outcome: history.OK, Peer: "a", Session: 1, N: 1, Topic: "t", Call: 3 * ms, Return: 4 * ms},
			{
				Client: 2, Kind: history.Lookup, Outcome: history.OK, Peer: "a", Topic: "t", Call: 5 * ms, Return: 6 * ms, Index: 3,
				Shown: registry.Topic{Producers: []registry.ProducerInfo{info}},
			},
			{Client: 3, Kind: history.CreateChannel, Outcome: history.OK, Peer: "a", Topic: "t", Channel: "c", Call: 7 * ms, Return: 8 * ms, Index: 4},
			{Client: 2, Kind: history.Topics, Outcome: history.OK, Peer: "a", Topics: []string{"t"}, Call: 9 * ms, Return: 10 * ms, Index: 4},
			{
				Client: 2, Kind: history.Nodes, Outcome: history.OK, Peer: "a", Call: 11 * ms, Return: 12 * ms, Index: 4,
				Nodes: []registry.Node{{ProducerInfo: info, Topics: []string{"t"}, Tombstones: []bool{false}}},
			},
		},
	}
	return h, l
}

// addBackup lets an operator save the story's end.
func addBackup(h *history.History) *history.Op {
	info := h.Ops[2].Shown.Producers[0]
	op := &history.Op{
		Client: 9, Kind: history.Backup, Outcome: history.OK, Peer: "a", Call: 13 * ms, Return: 14 * ms, Index: 4, Topics: []string{"t"},
		Nodes: []registry.Node{{ProducerInfo: info, Topics: []string{"t"}, Tombstones: []bool{false}}},
		Saved: &history.Saved{
			Shown:         map[string]registry.Topic{"t": {Channels: []string{"c"}, Producers: []registry.ProducerInfo{info}}},
			Registrations: []registry.Registration{{Topic: "t", Producer: info, Holders: []registry.NodeID{peerA}}},
			Sessions: map[registry.ProducerID][]registry.SessionState{
				info.ID(): {{ID: registry.SessionID{Node: peerA, Epoch: 1, Seq: 1}}},
			},
		},
	}
	h.Ops = append(h.Ops, op)
	return op
}

// addRestore lets an operator restore a topic and its channel, in one entry.
func addRestore(h *history.History, l *Log) {
	for _, op := range []history.Op{{Kind: history.CreateTopic, Topic: "u"}, {Kind: history.CreateChannel, Topic: "u", Channel: "c"}} {
		op.Client, op.Outcome, op.Peer, op.Call, op.Return, op.Index = 9, history.OK, "a", 15*ms, 16*ms, 5
		h.Ops = append(h.Ops, &op)
		l.Commands = append(l.Commands, Command{Index: 5, Term: 1, Origin: peerA, Command: commandOf(&op)})
	}
	l.Last = 5
}

// Each case spoils the story in one way, and says which judge must notice and
// how. What porcupine cannot see, it must let pass.
func TestJudges(t *testing.T) {
	for name, c := range map[string]struct {
		spoil     func(h *history.History, l *Log)
		witness   string // part of what it says, "" for nothing
		porcupine bool   // objects
	}{
		"right": {func(*history.History, *Log) {}, "", false},
		"right, saved and restored": {func(h *history.History, l *Log) {
			addBackup(h)
			addRestore(h, l)
		}, "", false},
		"a lookup from before": {func(h *history.History, _ *Log) {
			h.Ops[2].Outcome, h.Ops[2].Index, h.Ops[2].Shown = history.NotFound, 2, registry.Topic{}
		}, "rests on less than", true},
		"a stale answer that says so": {func(h *history.History, _ *Log) {
			op := h.Ops[2]
			op.Outcome, op.Index, op.Shown, op.Stale = history.NotFound, 2, registry.Topic{}, true
		}, "", false},
		"an answer that is not the state": {func(h *history.History, _ *Log) {
			h.Ops[2].Shown.Channels = []string{"c"}
		}, "the log up to there gives", true},
		"a producer that is shown twice": {func(h *history.History, _ *Log) {
			h.Ops[2].Shown.Producers = append(h.Ops[2].Shown.Producers, h.Ops[2].Shown.Producers[0])
		}, "the log up to there gives", true},
		"a producer in other words": {func(h *history.History, _ *Log) {
			h.Ops[2].Shown.Producers[0].Hostname = "s7"
		}, "the log up to there gives", true},
		"a topic that is not listed": {func(h *history.History, _ *Log) {
			h.Ops[4].Topics = nil
		}, "the log up to there gives", true},
		"a tombstone that nobody set": {func(h *history.History, _ *Log) {
			h.Ops[5].Nodes[0].Tombstones[0] = true
		}, "the log up to there gives", true},
		"an OK with nothing behind it": {func(_ *history.History, l *Log) {
			delete(l.Answered, AnswerKey{"s1", 1})
		}, "nothing stands behind", false},
		"an OK that was not done": {func(_ *history.History, l *Log) {
			l.Commands[1].Command = registry.Noop{}
		}, "no entry does it", false},
		"a write that was not done": {func(_ *history.History, l *Log) {
			l.Commands[2].Command = registry.Noop{}
		}, "does not hold it", false},
		"a command that nobody asked for": {func(_ *history.History, l *Log) {
			l.Commands = append(l.Commands, Command{Index: 5, Term: 1, Origin: peerA, Command: registry.CreateTopic{Topic: "u"}})
		}, "nobody asked for it", false},
		"a change done twice": {func(_ *history.History, l *Log) {
			twice := l.Commands[2]
			twice.Index = 5
			l.Commands = append(l.Commands, twice)
		}, "not so often", false},
		"a live session ended": {func(h *history.History, l *Log) {
			end := registry.CloseSession{Session: registry.SessionID{Node: peerA, Epoch: 1, Seq: 1}, Producer: h.Sessions[0].Producer}
			l.Commands = append(l.Commands, Command{Index: 5, Term: 1, Origin: peerA, Command: end})
		}, "alive to the end", false},
		"a refused change forgotten": {func(h *history.History, _ *Log) {
			h.Ops = append(h.Ops, &history.Op{
				Kind: history.Register, Outcome: history.Unknown, Unavailable: true, Session: 1, N: 2, Topic: "v",
				Call: 13 * ms, Return: history.Forever,
			})
		}, "was never done", false},
		"a backup that lacks a channel": {func(h *history.History, _ *Log) {
			op := addBackup(h)
			op.Saved.Shown["t"] = registry.Topic{Producers: op.Saved.Shown["t"].Producers}
		}, "its lookups of t", true},
		"a backup that lacks a topic": {func(h *history.History, _ *Log) {
			addBackup(h).Topics = nil
		}, "its topics", false},
		"a backup that lacks a node's topic": {func(h *history.History, _ *Log) {
			addBackup(h).Nodes[0].Topics = nil
		}, "its nodes", true},
		"a backup with another's registration": {func(h *history.History, _ *Log) {
			addBackup(h).Saved.Registrations[0].Holders = []registry.NodeID{"b-00000000"}
		}, "its registrations", false},
		"a backup that lacks a session": {func(h *history.History, _ *Log) {
			clear(addBackup(h).Saved.Sessions)
		}, "its sessions", false},
		"a backup from before": {func(h *history.History, _ *Log) {
			op := addBackup(h)
			op.Index, op.Saved.Shown["t"] = 3, registry.Topic{Producers: op.Saved.Shown["t"].Producers}
		}, "rests on less than", true},
		"a restore of which a part is not done": {func(h *history.History, l *Log) {
			addRestore(h, l)
			l.Commands = l.Commands[:len(l.Commands)-1]
		}, "does not hold it", false},
		"an index from the future": {func(h *history.History, _ *Log) {
			h.Ops[4].Index = 9
		}, "nobody applied", false},
		"peers with different logs": {func(_ *history.History, l *Log) {
			l.problem("b applied another entry")
		}, "another entry", false},
	} {
		t.Run(name, func(t *testing.T) {
			h, l := story()
			c.spoil(h, l)
			said := strings.Join(Witness(h, l).Violations, "\n")
			if (said == "") != (c.witness == "") || !strings.Contains(said, c.witness) {
				t.Errorf("the witness says %q, want %q", said, c.witness)
			}
			verdict, err := Porcupine(h, l, time.Minute, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			if objects := len(verdict.Violations) > 0; objects != c.porcupine {
				t.Errorf("porcupine: %q", verdict.Violations)
			}
		})
	}
}

// What the former node of a peer's name holds, which lost its disk, is not what
// its present one holds.
func TestAPeerThatLostItsDiskIsAnother(t *testing.T) {
	h, l := story()
	const reborn = registry.NodeID("a-11111111")
	id := registry.SessionID{Node: reborn, Epoch: 1, Seq: 1}
	info := l.Commands[0].Command.(registry.OpenSession).Producer
	info.Hostname = "s2"
	l.Commands = append(l.Commands, Command{Index: 5, Term: 2, Origin: reborn, Command: registry.OpenSession{Session: id, Producer: info}})
	l.Last, l.Hosts[id], l.Nodes["s2"], l.Answered[AnswerKey{"s2", 1}] = 5, "s2", reborn, 5
	h.Sessions[0].Alive = false
	h.Sessions = append(h.Sessions, &history.Session{Number: 2, Producer: info.ID(), Hostname: "s2", Peer: "a", Alive: true})
	op := &history.Op{Client: 1, Kind: history.Unregister, Outcome: history.OK, Peer: "a", Session: 2, N: 1, Topic: "t", Call: 13 * ms, Return: 14 * ms}
	h.Ops = append(h.Ops, op)
	if v := Witness(h, l); len(v.Violations) > 0 {
		t.Errorf("nothing was to be withdrawn there: %q", v.Violations)
	}
	op.Kind = history.Register
	if v := Witness(h, l); len(v.Violations) != 1 {
		t.Errorf("an OK to a REGISTER that was not done: %q", v.Violations)
	}
}

// A change without an answer that the log holds took place; one that it does
// not hold did not.
func TestUnknownOutcomesComeFromTheLog(t *testing.T) {
	h, l := story()
	h.Ops[3].Outcome, h.Ops[3].Return = history.Unknown, history.Forever
	seen := &history.Op{
		Client: 2, Kind: history.Channels, Outcome: history.OK, Peer: "a", Topic: "t", Call: 13 * ms, Return: 14 * ms, Index: 4,
		Shown: registry.Topic{Channels: []string{"c"}},
	}
	h.Ops = append(h.Ops, seen)
	judge := func() []string {
		w := Witness(h, l)
		p, err := Porcupine(h, l, time.Minute, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		return append(w.Violations, p.Violations...)
	}
	if found := judge(); len(found) > 0 {
		t.Error(found)
	}
	l.Commands = l.Commands[:2]
	if found := judge(); len(found) != 2 {
		t.Errorf("a channel that nobody made: %v", found)
	}
}
