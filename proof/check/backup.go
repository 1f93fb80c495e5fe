package check

import (
	"cmp"
	"reflect"
	"slices"

	"github.com/lookupd/lookupd/proof/history"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/registry/reference"
)

// judgeBackup wants a backup to be the whole registry of its index: what answers
// show, and what they do not: who holds what, tombstones' indices and sessions.
func (v *Verdict) judgeBackup(r *reference.Registry, op *history.Op) {
	compare := func(what string, got, want any) {
		if !reflect.DeepEqual(got, want) {
			v.violation("%s: its %s are %+v, the log up to there gives %+v", describe(op), what, got, want)
		}
	}
	compare("topics", nonNil(op.Topics), r.Topics())
	nodes := op.Nodes
	if len(nodes) == 0 {
		nodes = []registry.Node{}
	}
	compare("nodes", nodes, r.Nodes())
	for _, topic := range op.Topics {
		compare("lookups of "+topic, nonNilTopic(op.Saved.Shown[topic]), r.Lookup(topic))
	}
	registrations := op.Saved.Registrations
	slices.SortFunc(registrations, compareRegistrations)
	compare("registrations", append([]registry.Registration{}, registrations...), registrationsOf(r))
	sessions := map[registry.ProducerID][]registry.SessionState{}
	for holder, s := range r.Sessions {
		sessions[holder.Producer] = append(sessions[holder.Producer], s)
	}
	for _, of := range []map[registry.ProducerID][]registry.SessionState{sessions, op.Saved.Sessions} {
		for _, list := range of {
			slices.SortFunc(list, func(a, b registry.SessionState) int { return cmp.Compare(a.ID.Node, b.ID.Node) })
		}
	}
	compare("sessions", op.Saved.Sessions, sessions)
}

// registrationsOf lists what the reference holds as a backup does.
func registrationsOf(r *reference.Registry) []registry.Registration {
	all := []registry.Registration{}
	for name, holders := range r.Names {
		of := map[registry.ProducerID][]registry.NodeID{}
		for h, held := range holders {
			if held {
				of[h.Producer] = append(of[h.Producer], h.Node)
			}
		}
		for p, nodes := range of {
			slices.Sort(nodes)
			registration := registry.Registration{Topic: name.Topic, Channel: name.Channel, Producer: r.Infos[p], Holders: nodes}
			if name.Channel == "" {
				registration.TombstoneSetAt = r.Tombs[name.Topic][p]
				registration.Tombstoned = registration.TombstoneSetAt != 0
			}
			all = append(all, registration)
		}
	}
	slices.SortFunc(all, compareRegistrations)
	return all
}

func compareRegistrations(a, b registry.Registration) int {
	return cmp.Or(
		reference.CompareNames(registry.Name{Topic: a.Topic, Channel: a.Channel}, registry.Name{Topic: b.Topic, Channel: b.Channel}),
		cmp.Compare(a.Producer.ID(), b.Producer.ID()))
}

func nonNilTopic(t registry.Topic) registry.Topic {
	t.Channels = nonNil(t.Channels)
	if t.Producers == nil {
		t.Producers = []registry.ProducerInfo{}
	}
	return t
}
