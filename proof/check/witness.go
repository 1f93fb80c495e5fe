package check

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"

	"github.com/lookupd/lookupd/proof/history"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/registry/reference"
)

// Verdict is what a judge found.
type Verdict struct {
	Checked    int // operations
	Violations []string
}

// maxViolations bounds what is kept: after the first few nothing new is learnt.
const maxViolations = 50

func (v *Verdict) violation(format string, args ...any) {
	if len(v.Violations) < maxViolations {
		v.Violations = append(v.Violations, fmt.Sprintf(format, args...))
	}
}

// Witness compares every answer with the log.
func Witness(h *history.History, l *Log) Verdict {
	v := Verdict{Violations: slices.Clone(l.Problems)}
	for _, op := range h.Ops {
		if op.Session == 0 || !op.Answered() {
			continue
		}
		s := h.Sessions[op.Session-1]
		index, ok := l.Answered[AnswerKey{s.Hostname, op.N}]
		if !ok {
			v.violation("%s: nothing stands behind this OK", describe(op))
		}
		op.Index = index
	}
	v.replay(h, l)
	v.realTime(h)
	v.asked(h, l)
	return v
}

// replay goes through the log and looks at the answers of each index.
func (v *Verdict) replay(h *history.History, l *Log) {
	ops := slices.DeleteFunc(slices.Clone(h.Ops), func(op *history.Op) bool { return !op.Answered() })
	slices.SortStableFunc(ops, func(a, b *history.Op) int { return cmp.Compare(a.Index, b.Index) })
	r := reference.New()
	next := 0
	for _, op := range ops {
		v.Checked++
		switch {
		case op.Index == 0:
			v.violation("%s: the answer names no index", describe(op))
			continue
		case op.Index > l.Last:
			v.violation("%s: rests on an index that nobody applied (the last is %d)", describe(op), l.Last)
			continue
		}
		for ; next < len(l.Commands) && l.Commands[next].Index <= op.Index; next++ {
			c := &l.Commands[next]
			c.Refused = r.Apply(c.Index, c.Term, c.Command)
		}
		if op.Kind.Reads() {
			v.judgeRead(r, op)
		} else if op.Session != 0 {
			v.judgeChange(r, h.Sessions[op.Session-1], op, l)
		} else {
			v.judgeWrite(op, l)
		}
	}
}

func (v *Verdict) judgeRead(r *reference.Registry, op *history.Op) {
	exists := r.Exists(op.Topic, "")
	var got, want any
	switch op.Kind {
	case history.Lookup:
		if (op.Outcome == history.OK) != exists {
			v.violation("%s: but the topic's existence is %v there", describe(op), exists)
			return
		}
		if !exists {
			return
		}
		got, want = op.Shown, r.Lookup(op.Topic)
	case history.Channels:
		channels := r.Lookup(op.Topic).Channels
		got, want = nonNil(op.Shown.Channels), nonNil(channels)
	case history.Topics:
		got, want = nonNil(op.Topics), r.Topics()
	case history.Backup:
		v.judgeBackup(r, op)
		return
	case history.Nodes:
		got, want = op.Nodes, r.Nodes()
		if len(op.Nodes) == 0 {
			got = []registry.Node{}
		}
	}
	if t, ok := got.(registry.Topic); ok {
		got = nonNilTopic(t)
	}
	if !reflect.DeepEqual(got, want) {
		v.violation("%s: answered %+v, the log up to there gives %+v", describe(op), got, want)
	}
}

func nonNil(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// judgeChange wants the entry at the index to hold the change or, where nothing
// had to change, the state there to be so.
func (v *Verdict) judgeChange(r *reference.Registry, s *history.Session, op *history.Op, l *Log) {
	for _, c := range l.at(op.Index) {
		kind, id, name, ok := declaration(c.Command)
		if ok && kind == op.Kind && l.Hosts[id] == s.Hostname && name == (registry.Name{Topic: op.Topic, Channel: op.Channel}) {
			if c.Refused != nil {
				v.violation("%s: its command is to be refused: %v", describe(op), c.Refused)
			}
			return
		}
	}
	// No entry: then what the peer holds must be so already.
	holder := reference.Holder{Producer: s.Producer, Node: l.Nodes[s.Hostname]}
	held := r.Names[registry.Name{Topic: op.Topic, Channel: op.Channel}][holder]
	if held != (op.Kind == history.Register) {
		v.violation("%s: no entry does it, and at that index the peer's holding it is %v", describe(op), held)
	}
}

// judgeWrite wants the entry at the index to hold the command.
func (v *Verdict) judgeWrite(op *history.Op, l *Log) {
	for _, c := range l.at(op.Index) {
		if c.Command == commandOf(op) && c.Origin.Name() == op.Peer {
			if (c.Refused != nil) != (op.Outcome == history.NotFound) {
				v.violation("%s: but there its command gives: %v", describe(op), c.Refused)
			}
			return
		}
	}
	v.violation("%s: the entry at that index does not hold it", describe(op))
}

// at returns the commands of one entry.
func (l *Log) at(index uint64) []Command {
	i, _ := slices.BinarySearchFunc(l.Commands, index, func(c Command, index uint64) int { return cmp.Compare(c.Index, index) })
	j := i
	for j < len(l.Commands) && l.Commands[j].Index == index {
		j++
	}
	return l.Commands[i:j]
}

// realTime wants no answer to rest on less than what was answered before it was
// asked for, and a change that has an entry on more.
func (v *Verdict) realTime(h *history.History) {
	answered := slices.DeleteFunc(slices.Clone(h.Ops), func(op *history.Op) bool { return !op.Answered() || op.Stale || op.Index == 0 })
	byReturn := slices.Clone(answered)
	slices.SortFunc(byReturn, func(a, b *history.Op) int { return cmp.Compare(a.Return, b.Return) })
	var before *history.Op // the one with the highest index of those that returned
	returned := 0
	for _, op := range answered { // by call
		for ; returned < len(byReturn) && byReturn[returned].Return < op.Call; returned++ {
			if before == nil || byReturn[returned].Index > before.Index {
				before = byReturn[returned]
			}
		}
		if before != nil && op.Index < before.Index {
			v.violation("%s: rests on less than %s, which was answered %d us before", describe(op), describe(before), (op.Call-before.Return)/1000)
		}
		if before != nil && op.Session == 0 && !op.Kind.Reads() && op.Index == before.Index {
			v.violation("%s: its entry was answered by %s before", describe(op), describe(before))
		}
	}
}

// commandOf is the command of an HTTP write.
func commandOf(op *history.Op) registry.Command {
	switch op.Kind {
	case history.CreateTopic:
		return registry.CreateTopic{Topic: op.Topic}
	case history.DeleteTopic:
		return registry.DeleteTopic{Topic: op.Topic}
	case history.CreateChannel:
		return registry.CreateChannel{Topic: op.Topic, Channel: op.Channel}
	case history.DeleteChannel:
		return registry.DeleteChannel{Topic: op.Topic, Channel: op.Channel}
	case history.Tombstone:
		return registry.Tombstone{Topic: op.Topic, Node: op.Node}
	}
	return nil
}

// declaration takes a REGISTER or UNREGISTER apart.
func declaration(c registry.Command) (kind history.Kind, id registry.SessionID, name registry.Name, ok bool) {
	switch m := c.(type) {
	case registry.Register:
		return history.Register, m.Session, registry.Name{Topic: m.Topic, Channel: m.Channel}, true
	case registry.Unregister:
		return history.Unregister, m.Session, registry.Name{Topic: m.Topic, Channel: m.Channel}, true
	}
	return 0, id, name, false
}

func describe(op *history.Op) string {
	what := op.Kind.String()
	for _, word := range []string{op.Topic, op.Channel, op.Node} {
		if word != "" {
			what += " " + word
		}
	}
	return fmt.Sprintf("%s at %s by client %d (session %d) -> %v, called %.6f s, index %d",
		what, op.Peer, op.Client, op.Session, op.Outcome, float64(op.Call)/1e9, op.Index)
}
