package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/lookupd/lookupd/peer/internal/wire"
	"github.com/lookupd/lookupd/peer/peerpb"
	"github.com/lookupd/lookupd/registry"
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
	Refuse func(registry.NodeID) bool
	// Term, if set, returns raft's current term: requests whose term is far
	// above it are refused (see guard.go).
	Term    func() uint64
	Handler Handler
	Logger  *slog.Logger

	// RaftTimeout bounds each read and write of a raft RPC; 0 means 5 s.
	RaftTimeout time.Duration
	// RaftLogger takes the lines of raft's transport; nil drops them.
	RaftLogger hclog.Logger
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
