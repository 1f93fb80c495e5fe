package peer

import (
	"context"
	"errors"
	"fmt"
	"net/rpc"

	"google.golang.org/protobuf/proto"

	"github.com/lookupd/lookupd/peer/internal/wire"
	"github.com/lookupd/lookupd/registry"
)

type fromKey struct{}

// From returns the peer whose call a Handler's method is serving, as its
// handshake named it.
func From(ctx context.Context) registry.NodeID {
	node, _ := ctx.Value(fromKey{}).(registry.NodeID)
	return node
}

// serve answers the calls that arrive on c until it ends.
func (n *Network) serve(c *conn) {
	ctx, cancel := context.WithCancel(context.WithValue(n.ctx, fromKey{}, c.node))
	defer cancel()
	codec := wire.NewServerCodec(c, cancel)
	server := rpc.NewServer()
	if err := server.RegisterName(wire.ServiceName, &service{ctx: ctx, network: n}); err != nil {
		panic(err) // net/rpc finds no fit method on service: the build is wrong
	}
	server.ServeCodec(codec)
	codec.Wait()
}

// service is what net/rpc calls, one for each connection because net/rpc tells
// a method neither who calls nor for how long.
type service struct {
	ctx     context.Context // ends with the connection
	network *Network
}

var (
	errUnknownMethod = errors.New("unknown method")
	errUnreadable    = errors.New("unreadable message")
)

// Call serves one call, in a goroutine of its own. Its error is not sent, only
// that there was one, and means that no Handler saw the call.
func (s *service) Call(in *wire.Call, out *wire.Reply) error {
	longest := s.network.timings.call
	if in.Timeout > 0 && in.Timeout < longest {
		longest = in.Timeout
	}
	ctx, cancel := context.WithTimeout(s.ctx, longest)
	defer cancel()
	var err error
	if out.Message, err = s.dispatch(ctx, method(in.Method), in.Body); err != nil {
		s.network.cfg.Logger.Warn("rejected a call", "peer", From(ctx), "error", err)
	}
	return err
}

func (s *service) dispatch(ctx context.Context, m method, body []byte) (proto.Message, error) {
	h := s.network.cfg.Handler
	switch m {
	case methodForward:
		return answer(ctx, body, h.Forward)
	case methodReadIndex:
		return answer(ctx, body, h.ReadIndex)
	case methodConfirm:
		return answer(ctx, body, h.Confirm)
	case methodStatus:
		return answer(ctx, body, h.Status)
	case methodJoin:
		return answer(ctx, body, h.Join)
	case methodAgree:
		return answer(ctx, body, h.Agree)
	case methodRemove:
		return answer(ctx, body, h.Remove)
	case methodTransfer:
		return answer(ctx, body, h.Transfer)
	case methodAutopilot:
		return answer(ctx, body, h.Autopilot)
	}
	return nil, fmt.Errorf("%w: %d", errUnknownMethod, m)
}

// message is a pointer to T that is a protobuf message.
type message[T any] interface {
	*T
	proto.Message
}

func answer[Req, Resp any, PReq message[Req], PResp message[Resp]](
	ctx context.Context, body []byte, handle func(context.Context, PReq) PResp,
) (proto.Message, error) {
	req := PReq(new(Req))
	if err := proto.Unmarshal(body, req); err != nil {
		return nil, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	return handle(ctx, req), nil
}
