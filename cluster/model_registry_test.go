package cluster_test

import (
	"fmt"
	"slices"

	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/registry/reference"
	"github.com/lookupd/lookupd/store"
)

type holder = reference.Holder

func holderOf(p registry.ProducerID, node registry.NodeID) holder {
	return holder{Producer: p, Node: node}
}

// answers are what clients can ask, and what is behind it.
type answers struct {
	Topics   []string
	Lookups  map[string]registry.Topic
	Nodes    []registry.Node
	Holders  []string
	Sessions []string
}

// answersOfModel asks the reference.
func answersOfModel(r *reference.Registry) answers {
	a := answers{Topics: r.Topics(), Lookups: map[string]registry.Topic{}, Nodes: r.Nodes()}
	for _, topic := range a.Topics {
		a.Lookups[topic] = r.Lookup(topic)
	}
	for name, holders := range r.Names {
		for h := range holders {
			a.Holders = append(a.Holders, fmt.Sprint(name, " ", h))
		}
	}
	slices.Sort(a.Holders)
	for h, s := range r.Sessions {
		a.Sessions = append(a.Sessions, fmt.Sprint(h, " ", s))
	}
	slices.Sort(a.Sessions)
	return a
}

// answersOf asks the state.
func answersOf(v *store.View) answers {
	a := answers{Topics: v.Topics(), Lookups: map[string]registry.Topic{}, Nodes: v.Nodes()}
	for _, topic := range a.Topics {
		a.Lookups[topic], _ = v.Topic(topic)
	}
	for _, reg := range v.Registrations() {
		for _, node := range reg.Holders {
			a.Holders = append(a.Holders, fmt.Sprint(store.Name{Topic: reg.Topic, Channel: reg.Channel}, " ", holderOf(reg.Producer.ID(), node)))
		}
	}
	slices.Sort(a.Holders)
	for _, s := range v.Sessions() {
		a.Sessions = append(a.Sessions, fmt.Sprint(holderOf(s.Producer, s.ID.Node), " ", s.SessionState))
	}
	slices.Sort(a.Sessions)
	return a
}
