package session

import (
	"context"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
)

// Cluster is what sessions need of this peer's node. All methods may be called
// by any goroutine; HasLeader, DiskLow and View must not block on the network.
type Cluster interface {
	// Submit appends at most cluster.MaxProposalCommands commands to what this
	// peer proposes; the order of calls is the order in the log. It waits for
	// room until ctx ends. An error means that nothing was taken;
	// cluster.ErrStopped is for good.
	Submit(ctx context.Context, commands ...registry.Command) (Proposal, error)
	// ReadBarrier returns once this peer's state, and its Feed, cover every
	// change that was answered, on any peer, before the call.
	ReadBarrier(ctx context.Context) (index uint64, err error)
	HasLeader() bool
	// DiskLow reports whether Submit refuses commands of which one adds to the
	// state, with cluster.ErrDiskLow.
	DiskLow() bool
	// View shows this peer's own state, which may lag behind the log.
	View(fn func(View) error) error
}

// Proposal is a group of commands on its way to the log.
type Proposal interface {
	// Done is closed when Result has something to say.
	Done() <-chan struct{}
	// Result returns one result per command and the index of their log entry.
	// An error means that this peer stops; the outcome is unknown then.
	Result() ([]registry.Result, uint64, error)
	// Withdraw takes the commands back if they surely were not sent. Done is
	// not closed then.
	Withdraw() bool
}

// View is what sessions ask the state; *store.View has it.
type View interface {
	Applied() (index, term uint64)
	Producer(p registry.ProducerID) (registry.ProducerInfo, []registry.SessionState, bool)
	Holds(node registry.NodeID, p registry.ProducerID, topic, channel string) bool
	Held(node registry.NodeID, p registry.ProducerID) []store.Name
	Counts() registry.Counts
	Topic(topic string) (registry.Topic, bool)
	Channels(topic string) []string // sorted
}

// Feed tells what the state changed; *fsm.Feed has it.
type Feed interface {
	// Since returns the changes above index, or false if some are not kept any more.
	Since(index uint64) ([]registry.Change, bool)
	// Wait returns nil when there is a change above after, or ctx's error.
	Wait(ctx context.Context, after uint64) error
}

var (
	_ Cluster  = node{}
	_ Proposal = (*cluster.Proposal)(nil)
	_ View     = (*store.View)(nil)
)

// Over returns n as sessions see it.
func Over(n *cluster.Node) Cluster { return node{n} }

type node struct{ *cluster.Node }

func (n node) Submit(ctx context.Context, commands ...registry.Command) (Proposal, error) {
	p, err := n.Node.Submit(ctx, commands...)
	if err != nil {
		return nil, err
	}
	return p, nil
}

func (n node) View(fn func(View) error) error {
	return n.Node.View(func(v *store.View) error { return fn(v) })
}
