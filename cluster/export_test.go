package cluster

import (
	"context"
	"log/slog"
	"time"

	"github.com/lookupd/lookupd/peer/peerpb"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
)

// BatchLength is how proposals become batches.
var BatchLength = batchLength

// ConfigurationIndex is what the next change of the configuration is meant for.
func (n *Node) ConfigurationIndex() uint64 { return n.fsm.ConfigurationIndex() }

// ConfirmedBy asks a leader whether a question of asker, whose term is above the
// leader's by so much, is all that it needs.
func (n *Node) ConfirmedBy(asker registry.NodeID, cluster string, above uint64) error {
	term := n.raft.CurrentTerm()
	return n.confirmedBy(asker, &peerpb.ReadIndexRequest{ClusterId: cluster, Term: term + above}, term)
}

// IsMember is what the transport asks before it tries to reach a peer again.
func (n *Node) IsMember(id registry.NodeID) bool { return n.isMember(id) }

// Contact is what a leader hears of a peer.
type Contact = contact

// NewContact returns a Contact; epoch is 0 if the peer did not say.
func NewContact(alive bool, epoch uint64) Contact { return contact{alive, epoch} }

// OrphanDuty is the leader's duty towards orphans, without a Node.
type OrphanDuty struct {
	Term           uint64
	Timeout, Grace time.Duration
	Log            *slog.Logger
	Listen         func(context.Context) map[registry.NodeID]Contact
	Publish        func([]OrphanGroup)
	View           func(func(*store.View) error) error
	End            func(context.Context, []registry.Command) bool
}

// Run does the duty until ctx ends.
func (d OrphanDuty) Run(ctx context.Context) {
	orphanDuty{
		term: d.Term, timeout: d.Timeout, grace: d.Grace, log: d.Log,
		listen: d.Listen, publish: d.Publish, view: d.View, end: d.End,
	}.run(ctx)
}
