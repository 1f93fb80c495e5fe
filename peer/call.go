package peer

import (
	"context"
	"errors"
	"fmt"
	"net/rpc"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/lookupd/lookupd/peer/internal/wire"
	"github.com/lookupd/lookupd/peer/peerpb"
	"github.com/lookupd/lookupd/registry"
)

// caller makes the calls to one peer, all over one connection that it dials
// when there is something to say.
type caller struct {
	network *Network
	node    registry.NodeID

	mu       sync.Mutex
	dropped  bool
	line     *line // the one that calls use; nil, being dialled, open or dead
	failure  error // of the last dial
	failedAt time.Time
}

// line is one connection from the first attempt to its end.
type line struct {
	ready  chan struct{} // closed once client or err is set
	client *client
	err    error
}

func (l *line) dead() bool {
	select {
	case <-l.ready:
		return l.err != nil || l.client.ended()
	default:
		return false
	}
}

// retired reports whether its connection is to be replaced.
func (l *line) retired() bool {
	select {
	case <-l.ready:
		return l.err == nil && l.client.conn.retired.Load()
	default:
		return false
	}
}

func (n *Network) callerOf(node registry.NodeID) *caller {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.callers[node]
	if c == nil {
		c = &caller{network: n, node: node}
		n.callers[node] = c
	}
	return c
}

// connection returns an open connection. All its errors are ErrUnreachable.
func (c *caller) connection(ctx context.Context) (*client, error) {
	l, err := c.current()
	if err != nil {
		return nil, err
	}
	select {
	case <-l.ready:
		return l.client, l.err
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %s is being dialled: %w", ErrUnreachable, c.node, ctx.Err())
	}
}

// current returns the line to use, a new one if the last is dead.
func (c *caller) current() (*line, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.line != nil && !c.line.dead() && !c.line.retired() {
		return c.line, nil
	}
	if c.failure != nil && time.Since(c.failedAt) < c.network.timings.redial {
		return nil, c.failure
	}
	l := &line{ready: make(chan struct{})}
	if !c.network.start(func() { c.run(l) }) {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, ErrClosed)
	}
	c.line = l
	return l, nil
}

// run is the life of a line. It dials under the Network's context, so that an
// impatient first call does not end what others wait for.
func (c *caller) run(l *line) {
	conn, err := c.network.dialNode(c.network.ctx, c.node, peerpb.Kind_KIND_CALLS)
	c.mu.Lock()
	c.failure, c.failedAt = err, time.Now()
	if err == nil {
		l.client = c.network.newClient(conn)
		if c.dropped {
			_ = l.client.codec.Close() // nobody will use it
		}
	}
	l.err = err
	close(l.ready)
	c.mu.Unlock()
	if err == nil {
		l.client.watch()
		l.client.codec.Wait()
	}
}

// drop makes a dial that is under way end with a closed connection.
func (c *caller) drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropped = true
}

// client makes calls over one connection.
type client struct {
	conn    *conn
	codec   *wire.ClientCodec
	rpc     *rpc.Client
	timings timings
}

func (n *Network) newClient(c *conn) *client {
	codec := wire.NewClientCodec(c)
	return &client{conn: c, codec: codec, rpc: rpc.NewClientWithCodec(codec), timings: n.timings}
}

func (c *client) ended() bool {
	select {
	case <-c.codec.Closed():
		return true
	default:
		return false
	}
}

// watch returns when the connection ends, and ends it once a call is not
// answered within its time: the other side answers each at its deadline at the
// latest, whether anybody still waits or not. If it does not, it is dead, and
// closing the connection frees all that waits for it. A retired connection ends
// once nothing has been under way on it between two looks.
func (c *client) watch() {
	sweep := time.NewTicker(c.timings.sweep)
	defer sweep.Stop()
	idle := false // and retired, at the look before
	for {
		select {
		case <-c.codec.Closed():
			return
		case now := <-sweep.C:
			if c.codec.Overdue(now.Add(-c.timings.grace)) {
				_ = c.codec.Close() // dead, as said
			}
			was := idle
			if idle = c.conn.retired.Load() && c.codec.Idle(); idle && was {
				_ = c.codec.Close() // nobody uses it any more
			}
		}
	}
}

// call makes one call. It returns when it is answered, the connection ends or
// ctx does; net/rpc knows no contexts.
func (c *client) call(ctx context.Context, m method, req, resp proto.Message) error {
	ctx, cancel := context.WithTimeout(ctx, c.timings.call)
	defer cancel()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: nothing was sent: %w", ErrUnreachable, err)
	}
	deadline, _ := ctx.Deadline()
	request := &wire.Call{Method: uint8(m), Timeout: time.Until(deadline), Message: req}
	call := c.rpc.Go(wire.ServiceMethod, request, &wire.Reply{Message: resp}, make(chan *rpc.Call, 1))
	select {
	case <-call.Done:
		return callError(call.Error)
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnknownOutcome, ctx.Err())
	}
}

// callError sorts the errors of net/rpc and the codec.
func callError(err error) error {
	var refused rpc.ServerError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, wire.ErrTooLarge):
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	case errors.Is(err, wire.ErrBacklog):
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	case errors.As(err, &refused):
		return ErrRejected
	}
	return fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
}

// call makes a call to a peer.
func call[R proto.Message](ctx context.Context, n *Network, to registry.NodeID, m method, req proto.Message, resp R) (R, error) {
	var none R
	c, err := n.callerOf(to).connection(ctx)
	if err != nil {
		return none, err
	}
	if err := c.call(ctx, m, req, resp); err != nil {
		return none, fmt.Errorf("%s of %s: %w", m, to, err)
	}
	return resp, nil
}

// callAt makes a call to whoever lives at addr, over a connection of its own.
func callAt[R proto.Message](ctx context.Context, n *Network, addr string, m method, req proto.Message, resp R) (R, error) {
	var none R
	conn, err := n.dial(ctx, addr, "", peerpb.Kind_KIND_CALLS)
	if err != nil {
		return none, fmt.Errorf("%w: %s: %w", ErrUnreachable, addr, err)
	}
	c := n.newClient(conn)
	defer func() {
		_ = c.codec.Close() // the answer is there, or will not come
		c.codec.Wait()
	}()
	if err := c.call(ctx, m, req, resp); err != nil {
		return none, fmt.Errorf("%s of %s at %s: %w", m, conn.node, addr, err)
	}
	return resp, nil
}
