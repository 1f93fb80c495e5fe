package peer

import (
	"context"

	"github.com/lookupd/lookupd/peer/peerpb"
	"github.com/lookupd/lookupd/registry"
)

// method is a call's number on the wire; appended, never reused.
type method uint8

const (
	methodForward method = iota + 1
	methodReadIndex
	methodConfirm
	methodStatus
	methodJoin
	methodAgree
	methodRemove
	methodTransfer
	methodAutopilot
)

func (m method) String() string {
	switch m {
	case methodForward:
		return "forward"
	case methodReadIndex:
		return "read index"
	case methodConfirm:
		return "confirm"
	case methodStatus:
		return "status"
	case methodJoin:
		return "join"
	case methodAgree:
		return "agree"
	case methodRemove:
		return "remove"
	case methodTransfer:
		return "transfer"
	case methodAutopilot:
		return "autopilot"
	}
	return "unknown call"
}

// Forward asks peer to, the leader, to propose a batch.
//
// This and the other calls return with ctx at the latest, and after 30 s. They
// return ErrUnreachable, ErrTooLarge or ErrRejected when the call was surely
// not executed. Any other error, ErrUnknownOutcome and maybe the context's,
// says that it may have been, or may still be.
func (n *Network) Forward(ctx context.Context, to registry.NodeID, req *peerpb.ForwardRequest) (*peerpb.ForwardResponse, error) {
	return call(ctx, n, to, methodForward, req, &peerpb.ForwardResponse{})
}

// ReadIndex asks peer to, the leader, for a read index.
func (n *Network) ReadIndex(ctx context.Context, to registry.NodeID, req *peerpb.ReadIndexRequest) (*peerpb.ReadIndexResponse, error) {
	return call(ctx, n, to, methodReadIndex, req, &peerpb.ReadIndexResponse{})
}

// Confirm asks peer to, a voter, whether a newer leader may exist.
func (n *Network) Confirm(ctx context.Context, to registry.NodeID, req *peerpb.ConfirmRequest) (*peerpb.ConfirmResponse, error) {
	return call(ctx, n, to, methodConfirm, req, &peerpb.ConfirmResponse{})
}

// Status asks peer to how it is.
func (n *Network) Status(ctx context.Context, to registry.NodeID, req *peerpb.StatusRequest) (*peerpb.StatusResponse, error) {
	return call(ctx, n, to, methodStatus, req, &peerpb.StatusResponse{})
}

// Agree asks peer to, a fresh one, to agree on a bootstrap.
func (n *Network) Agree(ctx context.Context, to registry.NodeID, req *peerpb.AgreeRequest) (*peerpb.AgreeResponse, error) {
	return call(ctx, n, to, methodAgree, req, &peerpb.AgreeResponse{})
}

// Remove asks peer to, the leader, to take a peer out of the configuration.
func (n *Network) Remove(ctx context.Context, to registry.NodeID, req *peerpb.RemoveRequest) (*peerpb.RemoveResponse, error) {
	return call(ctx, n, to, methodRemove, req, &peerpb.RemoveResponse{})
}

// Transfer asks peer to, the leader, to hand over.
func (n *Network) Transfer(ctx context.Context, to registry.NodeID, req *peerpb.TransferRequest) (*peerpb.TransferResponse, error) {
	return call(ctx, n, to, methodTransfer, req, &peerpb.TransferResponse{})
}

// Autopilot asks peer to, the leader, for autopilot's view.
func (n *Network) Autopilot(ctx context.Context, to registry.NodeID, req *peerpb.AutopilotRequest) (*peerpb.AutopilotResponse, error) {
	return call(ctx, n, to, methodAutopilot, req, &peerpb.AutopilotResponse{})
}

// JoinAt asks a peer of which only an address is known to take this one in. It
// dials a connection of its own, and may reach this very peer.
func (n *Network) JoinAt(ctx context.Context, addr string, req *peerpb.JoinRequest) (*peerpb.JoinResponse, error) {
	return callAt(ctx, n, addr, methodJoin, req, &peerpb.JoinResponse{})
}
