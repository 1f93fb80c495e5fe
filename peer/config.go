package peer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/lookupd/lookupd/peer/internal/wire"
	"github.com/lookupd/lookupd/peer/peerpb"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/secrets"
)

// Handler answers the calls of other peers. Its methods are called from many
// goroutines at once, one per call, and never return nil. A context ends with
// the caller's deadline, with the caller's connection and at Close; what a
// method returns after that may be dropped. From tells who calls.
type Handler interface {
	Forward(context.Context, *peerpb.ForwardRequest) *peerpb.ForwardResponse
	ReadIndex(context.Context, *peerpb.ReadIndexRequest) *peerpb.ReadIndexResponse
	Confirm(context.Context, *peerpb.ConfirmRequest) *peerpb.ConfirmResponse
	Status(context.Context, *peerpb.StatusRequest) *peerpb.StatusResponse
	Join(context.Context, *peerpb.JoinRequest) *peerpb.JoinResponse
	Agree(context.Context, *peerpb.AgreeRequest) *peerpb.AgreeResponse
	Remove(context.Context, *peerpb.RemoveRequest) *peerpb.RemoveResponse
	Transfer(context.Context, *peerpb.TransferRequest) *peerpb.TransferResponse
	Autopilot(context.Context, *peerpb.AutopilotRequest) *peerpb.AutopilotResponse
}

// Config says who this peer is and whom it talks to. Node, ClusterID, Address,
// Resolve, Logger and Handler must be set. The functions are called from many
// goroutines and must not block.
type Config struct {
	Node  registry.NodeID
	Epoch uint64
	// ClusterID returns "" while the peer is fresh. It changes once at most.
	ClusterID func() string
	// Address is what Open listens on.
	Address string
	// Advertise is the host:port that others dial, or "" for the listener's.
	Advertise string
	// Resolve returns the address at which a peer is to be dialled now.
	Resolve func(registry.NodeID) (addr string, ok bool)
	// Refuse, if set, reports whether a peer was removed from the cluster.
	Refuse  func(registry.NodeID) bool
	Handler Handler
	Logger  *slog.Logger

	// Epochs is the highest epoch of each peer that earlier runs have seen. New
	// copies it.
	Epochs map[registry.NodeID]uint64
	// SawEpoch, if set, is told of each epoch of a peer of this cluster that is
	// above all before it. Calls may come out of order.
	SawEpoch func(registry.NodeID, uint64)

	// What follows lets guard.go see the state that raft's requests would
	// change; a check whose function is nil is not made.

	// Term returns raft's current term: terms far above it are refused.
	Term func() uint64
	// Leader returns the peer that raft takes for the leader, "" for none: only
	// that one may ask for an election at once.
	Leader func() registry.NodeID
	// Member reports whether a peer is in raft's latest configuration: only those
	// does a leader try to reach again and again.
	Member func(registry.NodeID) bool
	// Applied returns the highest index that is applied here. It ought to count
	// what raft knows to be committed as applied: raft queues such entries for
	// the state machine, and a snapshot would come after them. A snapshot that
	// ends below it is answered but not installed.
	Applied func() uint64
	// StateSize returns how many bytes a snapshot of the own state would have:
	// four times as many are accepted if that is above 1 GiB.
	StateSize func() int64
	// CheckEntry returns an error for an entry that was damaged on its way. Raft
	// must not see it: it has cut its log before it stores what it was sent.
	CheckEntry func(*raft.Log) error

	// Certificates, if given, make every connection mutual TLS. They are read
	// again when they change.
	Certificates secrets.Files

	Limits Limits // those that are 0 take DefaultLimits' value

	// RaftTimeout bounds each read and write of a raft RPC; 0 means 5 s.
	RaftTimeout time.Duration
	// RaftLogger takes the lines of raft's transport; nil drops them.
	RaftLogger hclog.Logger
}

// Limits bound what whoever reaches the peer port may cost.
type Limits struct {
	// Connections bounds those that came in. Half of them are for those whose
	// peer, or this one, has no cluster yet.
	Connections int
	// ConnectionsPerPeer bounds those of one peer. It needs up to 3 pooled for
	// raft, 2 that pipelines or a snapshot hold, and 1 for calls; the rest is for
	// those that it gave up and this side does not know to be dead.
	ConnectionsPerPeer int
	Handshakes         int           // under way
	Handshake          time.Duration // longest
	// SnapshotBytes is what a peer may announce, unless the own state is of that
	// order.
	SnapshotBytes int64
}

// DefaultLimits returns the limits that a proper peer never meets.
func DefaultLimits() Limits {
	return Limits{
		Connections: 64, ConnectionsPerPeer: 8,
		Handshakes: 16, Handshake: 5 * time.Second,
		SnapshotBytes: 1 << 30,
	}
}

func (l Limits) withDefaults() Limits {
	d := DefaultLimits()
	l.Connections = cmp.Or(l.Connections, d.Connections)
	l.ConnectionsPerPeer = cmp.Or(l.ConnectionsPerPeer, d.ConnectionsPerPeer)
	l.Handshakes = cmp.Or(l.Handshakes, d.Handshakes)
	l.Handshake = cmp.Or(l.Handshake, d.Handshake)
	l.SnapshotBytes = cmp.Or(l.SnapshotBytes, d.SnapshotBytes)
	return l
}

// MaxMessage is the largest encoded request or response in bytes.
const MaxMessage = wire.MaxMessage

func (c Config) validate() error {
	for _, field := range []struct {
		name    string
		missing bool
	}{
		{"Node", c.Node == ""},
		{"ClusterID", c.ClusterID == nil},
		{"Address", c.Address == ""},
		{"Resolve", c.Resolve == nil},
		{"Handler", c.Handler == nil},
		{"Logger", c.Logger == nil},
	} {
		if field.missing {
			return fmt.Errorf("peer: Config.%s is not set", field.name)
		}
	}
	if len(c.Node) > maxIDLength {
		return errors.New("peer: Config.Node is too long")
	}
	return nil
}
