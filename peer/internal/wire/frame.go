// Package wire is the codec that net/rpc uses between peers: frames with a
// protobuf message, many calls at a time over one connection.
//
// It knows nothing of who is at the other end nor what the calls mean, and it
// does no handshake. A frame, in network byte order:
//
//	0        4              12     13        17
//	+--------+--------------+------+---------+------------------
//	| length | sequence     | code | timeout | message, protobuf
//	+--------+--------------+------+---------+------------------
//
// length counts what follows it. In a request code is the method and timeout
// the milliseconds that the caller will wait; in a response code is a status
// and timeout is 0.
//
// Invariants: no method blocks on writing to the connection, a goroutine of the
// stream does that; memory taken for a frame grows only with bytes received; a
// stream that failed in one direction is closed in both.
package wire

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
)

const (
	// MaxMessage is the largest encoded message.
	MaxMessage = 4 << 20

	lengthSize = 4
	headerSize = 8 + 1 + 4 // what length counts beside the message
	maxLength  = headerSize + MaxMessage

	maxBacklog   = 16 << 20  // bytes that wait to be written
	writeChunk   = 256 << 10 // must go out within writeTimeout
	writeTimeout = 5 * time.Second
	readChunk    = 64 << 10 // taken on trust for a frame
	keepBuffer   = 1 << 20  // a larger one is not kept for the next frames
)

// Errors of frames. None of them is met after a byte of that frame was sent.
var (
	ErrTooLarge = errors.New("message is too large")
	ErrBacklog  = errors.New("peer does not take what waits for it")
	errLength   = errors.New("frame has a bad length")
)

type frame struct {
	seq     uint64
	code    uint8
	timeout time.Duration
	body    []byte
}

// stream sends and receives frames.
type stream struct {
	conn   net.Conn
	r      *bufio.Reader // of the one goroutine that reads
	closed chan struct{}
	once   sync.Once
	wake   chan struct{} // one slot: out is not empty
	writer sync.WaitGroup

	mu  sync.Mutex
	out []byte // frames that the writer has not taken
}

func newStream(conn net.Conn) *stream {
	s := &stream{
		conn:   conn,
		r:      bufio.NewReaderSize(conn, readChunk),
		closed: make(chan struct{}),
		wake:   make(chan struct{}, 1),
	}
	s.writer.Go(s.writeLoop)
	return s
}

// Close closes the connection and waits for nothing.
func (s *stream) Close() error {
	s.once.Do(func() {
		close(s.closed)
		_ = s.conn.Close() // nothing that was sent rests on it
	})
	return nil
}

// Closed is closed when the stream is.
func (s *stream) Closed() <-chan struct{} { return s.closed }

// Wait returns when the stream is closed and its writer has ended.
func (s *stream) Wait() { s.writer.Wait() }

// send queues a frame; message may be nil.
func (s *stream) send(seq uint64, code uint8, timeout time.Duration, message proto.Message) error {
	size := 0
	if message != nil {
		size = proto.Size(message)
	}
	if size > MaxMessage {
		return fmt.Errorf("%w: %d bytes", ErrTooLarge, size)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.out)+size > maxBacklog {
		return ErrBacklog
	}
	start := len(s.out)
	out := binary.BigEndian.AppendUint32(s.out, 0)
	out = binary.BigEndian.AppendUint64(out, seq)
	out = append(out, code)
	out = binary.BigEndian.AppendUint32(out, milliseconds(timeout))
	if message != nil {
		var err error
		if out, err = (proto.MarshalOptions{UseCachedSize: true}).MarshalAppend(out, message); err != nil {
			return err
		}
	}
	binary.BigEndian.PutUint32(out[start:], uint32(len(out)-start-lengthSize))
	s.out = out
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return nil
}

// milliseconds rounds up, so that a time that is not over yet is not sent as 0.
func milliseconds(d time.Duration) uint32 {
	ms := (d + time.Millisecond - 1) / time.Millisecond
	return uint32(min(max(ms, 0), 1<<32-1))
}

// writeLoop writes what waits in one go: under load many frames share a system
// call, and no caller waits for a peer that does not read.
func (s *stream) writeLoop() {
	defer s.Close()
	var spare []byte
	for {
		select {
		case <-s.wake:
		case <-s.closed:
			return
		}
		s.mu.Lock()
		batch := s.out
		s.out = spare[:0]
		s.mu.Unlock()
		if err := s.write(batch); err != nil {
			return
		}
		if spare = batch; cap(spare) > keepBuffer {
			spare = nil
		}
	}
}

// write gives each chunk its own deadline: a slow link is not a dead one.
func (s *stream) write(b []byte) error {
	for len(b) > 0 {
		chunk := b[:min(len(b), writeChunk)]
		if err := s.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			return err
		}
		if _, err := s.conn.Write(chunk); err != nil {
			return err
		}
		b = b[len(chunk):]
	}
	return nil
}

// receive returns the next frame, whose body is the caller's to keep. After an
// error the stream is closed.
func (s *stream) receive() (frame, error) {
	f, err := readFrame(s.r)
	if err != nil {
		_ = s.Close()
	}
	return f, err
}

func readFrame(r io.Reader) (frame, error) {
	var header [lengthSize + headerSize]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return frame{}, err
	}
	length := binary.BigEndian.Uint32(header[:])
	if length < headerSize || length > maxLength {
		return frame{}, fmt.Errorf("%w: %d", errLength, length)
	}
	body, err := readBody(r, int(length)-headerSize)
	if err != nil {
		return frame{}, err
	}
	return frame{
		seq:     binary.BigEndian.Uint64(header[4:]),
		code:    header[12],
		timeout: time.Duration(binary.BigEndian.Uint32(header[13:])) * time.Millisecond,
		body:    body,
	}, nil
}

// readBody takes memory only as bytes arrive, at most twice their number.
func readBody(r io.Reader, size int) ([]byte, error) {
	body := make([]byte, min(size, readChunk))
	for read := 0; ; {
		n, err := io.ReadFull(r, body[read:])
		if read += n; err != nil {
			return nil, io.ErrUnexpectedEOF
		}
		if read == size {
			return body, nil
		}
		grown := make([]byte, min(size, 2*len(body)))
		copy(grown, body)
		body = grown
	}
}
