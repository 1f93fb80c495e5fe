package wire

import (
	"errors"
	"net"
	"net/rpc"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
)

// Service is the one name that net/rpc finds a method by; the frame's code says
// which call is meant, so that no name crosses the wire.
const (
	ServiceName   = "Peer"
	ServiceMethod = "Peer.Call"
)

// Statuses of a response.
const (
	statusOK       uint8 = 0
	statusRejected uint8 = 1 // not executed: method not known or message not readable
)

// Rejected is the text, made here and never sent, of the rpc.ServerError that a
// call ends with when the other side did not execute it.
const Rejected = "rejected"

// maxInFlight bounds the calls of one connection that are being served; more
// wait unread in the connection.
const maxInFlight = 4096

// Call is a request as net/rpc hands it over.
type Call struct {
	Method  uint8
	Timeout time.Duration // that the caller will wait
	Message proto.Message // to be sent; nil on the side that serves
	Body    []byte        // as received
}

// Reply is a response: Message is decoded into by the caller's side and set by
// the side that serves.
type Reply struct{ Message proto.Message }

// ClientCodec is the calling end of a connection.
type ClientCodec struct {
	*stream
	received frame

	pending    sync.Mutex
	unanswered map[uint64]time.Time // deadlines of calls by sequence
}

// NewClientCodec takes over conn.
func NewClientCodec(conn net.Conn) *ClientCodec {
	return &ClientCodec{stream: newStream(conn), unanswered: map[uint64]time.Time{}}
}

var _ rpc.ClientCodec = (*ClientCodec)(nil)

// WriteRequest queues the *Call in body. An error means that nothing was sent.
func (c *ClientCodec) WriteRequest(r *rpc.Request, body any) error {
	call := body.(*Call)
	c.pending.Lock()
	c.unanswered[r.Seq] = time.Now().Add(call.Timeout)
	c.pending.Unlock()
	err := c.send(r.Seq, call.Method, call.Timeout, call.Message)
	if err != nil {
		c.answered(r.Seq)
	}
	return err
}

func (c *ClientCodec) answered(seq uint64) {
	c.pending.Lock()
	defer c.pending.Unlock()
	delete(c.unanswered, seq)
}

// Overdue reports whether a call waits for its answer whose deadline was before
// t.
func (c *ClientCodec) Overdue(t time.Time) bool {
	c.pending.Lock()
	defer c.pending.Unlock()
	for _, deadline := range c.unanswered {
		if deadline.Before(t) {
			return true
		}
	}
	return false
}

// Idle reports whether no call waits for its answer.
func (c *ClientCodec) Idle() bool {
	c.pending.Lock()
	defer c.pending.Unlock()
	return len(c.unanswered) == 0
}

// ReadResponseHeader waits for the next response.
func (c *ClientCodec) ReadResponseHeader(r *rpc.Response) error {
	f, err := c.receive()
	if err != nil {
		return err
	}
	c.answered(f.seq)
	c.received = f
	r.Seq, r.ServiceMethod = f.seq, ServiceMethod
	if f.code != statusOK {
		r.Error = Rejected
	}
	return nil
}

// ReadResponseBody decodes the response into the *Reply in body. One that does
// not decode ends the connection, as net/rpc reads no further then.
func (c *ClientCodec) ReadResponseBody(body any) error {
	if body == nil {
		return nil
	}
	if err := proto.Unmarshal(c.received.body, body.(*Reply).Message); err != nil {
		return errors.Join(err, c.Close())
	}
	return nil
}

// ServerCodec is the serving end of a connection.
type ServerCodec struct {
	*stream
	received frame
	slots    chan struct{} // holds one per call that is being served
	onEnd    func()        // called when nothing more is read
}

// NewServerCodec takes over conn. It calls onEnd when the caller is gone, while
// calls may still be served.
func NewServerCodec(conn net.Conn, onEnd func()) *ServerCodec {
	return &ServerCodec{stream: newStream(conn), slots: make(chan struct{}, maxInFlight), onEnd: onEnd}
}

var _ rpc.ServerCodec = (*ServerCodec)(nil)

// ReadRequestHeader waits for the next request.
func (c *ServerCodec) ReadRequestHeader(r *rpc.Request) error {
	f, err := c.receive()
	if err != nil {
		c.onEnd()
		return err
	}
	select {
	case c.slots <- struct{}{}:
	case <-c.closed:
		c.onEnd()
		return net.ErrClosed
	}
	c.received = f
	r.Seq, r.ServiceMethod = f.seq, ServiceMethod
	return nil
}

// ReadRequestBody fills the *Call in body; decoding is left to the goroutine
// that serves it.
func (c *ServerCodec) ReadRequestBody(body any) error {
	if call, ok := body.(*Call); ok {
		call.Method, call.Timeout, call.Body = c.received.code, c.received.timeout, c.received.body
	}
	return nil
}

// WriteResponse queues the *Reply in body. What cannot be sent ends the
// connection, so that the caller learns that there is no answer.
func (c *ServerCodec) WriteResponse(r *rpc.Response, body any) error {
	defer func() { <-c.slots }()
	status, message := statusRejected, proto.Message(nil)
	if reply, ok := body.(*Reply); ok && r.Error == "" {
		status, message = statusOK, reply.Message
	}
	if err := c.send(r.Seq, status, 0, message); err != nil {
		return errors.Join(err, c.Close())
	}
	return nil
}
