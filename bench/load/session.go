package load

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

const (
	// answerTimeout is far above what any daemon needs: who waits longer is broken.
	// nsqlookupd looks through all registrations for each session that ends, and
	// answers nobody meanwhile: 17 s after 256 sessions with 600,000 of them.
	answerTimeout = 3 * time.Minute
	maxAnswer     = 64 << 10
)

// ErrNotOK: a V1 answer other than OK.
var ErrNotOK = errors.New("answer is not OK")

// Session is an nsqd's connection to a lookup daemon, over the V1 protocol. Its
// methods may be called from any goroutine; they wait for each other.
type Session struct {
	address, host string

	mu   sync.Mutex
	conn net.Conn
	in   *bufio.Reader
	out  []byte
}

// OpenSession connects and identifies as the nsqd at host.
func OpenSession(ctx context.Context, address, host string) (*Session, error) {
	s := &Session{address: address, host: host}
	return s, s.reopen(ctx)
}

// reopen connects again.
func (s *Session) reopen(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeLocked()
	dialer := net.Dialer{Timeout: answerTimeout}
	conn, err := dialer.DialContext(ctx, "tcp", s.address)
	if err != nil {
		return err
	}
	s.conn, s.in = conn, bufio.NewReaderSize(conn, 256)
	body, err := json.Marshal(map[string]any{
		"broadcast_address": s.host, "hostname": s.host, "tcp_port": 4150, "http_port": 4151, "version": "1.3.0",
	})
	if err != nil {
		return err
	}
	s.out = append(s.out[:0], "  V1IDENTIFY\n"...)
	s.out = binary.BigEndian.AppendUint32(s.out, uint32(len(body)))
	s.out = append(s.out, body...)
	answer, err := s.exchangeLocked()
	if err == nil && (len(answer) == 0 || answer[0] != '{') {
		err = fmt.Errorf("%w: IDENTIFY: %.100s", ErrNotOK, answer)
	}
	return err
}

// Register declares a topic's channel, or the topic alone if channel is "", and
// returns nil when the answer is OK.
func (s *Session) Register(topic, channel string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out = appendRegister(s.out[:0], topic, channel)
	return s.okLocked()
}

// Ping tells that the nsqd is alive.
func (s *Session) Ping() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out = append(s.out[:0], "PING\n"...)
	return s.okLocked()
}

// Close ends the connection.
func (s *Session) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeLocked()
}

func (s *Session) closeLocked() {
	if s.conn != nil {
		_ = s.conn.Close()
	}
}

func appendRegister(out []byte, topic, channel string) []byte {
	out = append(append(out, "REGISTER "...), topic...)
	if channel != "" {
		out = append(append(out, ' '), channel...)
	}
	return append(out, '\n')
}

func (s *Session) okLocked() error {
	answer, err := s.exchangeLocked()
	if err == nil && string(answer) != "OK" {
		err = fmt.Errorf("%w: %.100s", ErrNotOK, answer)
	}
	return err
}

// exchangeLocked sends what is in out and returns one answer.
func (s *Session) exchangeLocked() ([]byte, error) {
	if s.conn == nil {
		return nil, net.ErrClosed
	}
	if err := s.conn.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return nil, err
	}
	if _, err := s.conn.Write(s.out); err != nil {
		return nil, err
	}
	return s.answerLocked()
}

// answerLocked reads one answer; it is valid until the next.
func (s *Session) answerLocked() ([]byte, error) {
	head, err := s.in.Peek(4)
	if err != nil {
		return nil, err
	}
	size := int(binary.BigEndian.Uint32(head))
	if size > maxAnswer {
		return nil, fmt.Errorf("an answer of %d bytes", size)
	}
	if whole := 4 + size; whole <= s.in.Size() { // without a copy
		answer, err := s.in.Peek(whole)
		if err != nil {
			return nil, err
		}
		_, err = s.in.Discard(whole)
		return answer[4:], err
	}
	answer := make([]byte, 4+size)
	_, err = io.ReadFull(s.in, answer)
	return answer[4:], err
}

// registerAll declares channels of topics, several lines at a time, and returns
// how many were not answered OK: the daemon could not commit them in time and
// goes on trying.
func (s *Session) registerAll(names [][2]string) (late int, err error) {
	const atOnce = 128
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(names) > 0 && err == nil {
		n := min(atOnce, len(names))
		s.out = s.out[:0]
		for _, name := range names[:n] {
			s.out = appendRegister(s.out, name[0], name[1])
		}
		names = names[n:]
		var missed int
		missed, err = s.okTimesLocked(n)
		late += missed
	}
	return late, err
}

func (s *Session) okTimesLocked(n int) (late int, err error) {
	answer, err := s.exchangeLocked()
	for i := 0; err == nil; i++ {
		if string(answer) != "OK" {
			late++
		}
		if i == n-1 {
			break
		}
		answer, err = s.answerLocked()
	}
	return late, err
}
