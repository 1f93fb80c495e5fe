package supervisor

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

const (
	loadAnswer      = 5 * time.Second // limit for one answer
	loadRetry       = 250 * time.Millisecond
	loadMaxAnswer   = 64 << 10
	loadVersion     = "1.3.0-load"
	producersATopic = 4
)

// errEnded: a peer ended a session, or sent what nobody asked for.
var errEnded = errors.New("the session has ended")

// Load is simulated producers: each declares a topic and some channels over the
// V1 protocol, as an nsqd does that has one peer at a time. It has no messages.
type Load struct {
	lookupds  []string // V1 addresses
	producers int
	ping      time.Duration
	cancel    context.CancelFunc
	wait      sync.WaitGroup
	pages     *http.Server // what lookupctl check and nsqadmin ask an nsqd

	mu       sync.Mutex
	declared int // sessions that have declared all
	last     error
}

// simulated is one producer.
type simulated struct {
	name     string
	port     int
	topic    string
	channels []string
}

// LoadTopics returns the number of topics that n producers declare; they are
// called as LoadTopic says.
func LoadTopics(n int) int { return (n + producersATopic - 1) / producersATopic }

// LoadTopic returns the name of topic i, from 0.
func LoadTopic(i int) string { return fmt.Sprintf("load-%d", i+1) }

// StartLoad starts n producers, spread over the peers at these V1 addresses, that
// tell at that interval that they are alive. One that loses its peer goes to the
// next.
func StartLoad(lookupds []string, n int, ping time.Duration) (*Load, error) {
	ctx, cancel := context.WithCancel(context.Background())
	pages := http.NewServeMux()
	pages.HandleFunc("GET /ping", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "OK") })
	pages.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"version":%q,"health":"OK","topics":[]}`, loadVersion)
	})
	l := &Load{
		lookupds: lookupds, producers: n, ping: ping, cancel: cancel,
		pages: &http.Server{Handler: pages, ReadHeaderTimeout: loadAnswer},
	}
	for i := range n {
		listener, err := net.Listen("tcp", Address(0))
		if err != nil {
			return nil, errors.Join(fmt.Errorf("producer %d of %d: %w", i+1, n, err), l.Close())
		}
		l.wait.Go(func() { _ = l.pages.Serve(listener) }) // ends with ErrServerClosed at Close
		p := simulated{
			name: fmt.Sprintf("load-%d", i+1), port: listener.Addr().(*net.TCPAddr).Port,
			topic: LoadTopic(i / producersATopic), channels: []string{"archive", "mail", "metrics"}[:1+i%3],
		}
		l.wait.Go(func() { l.run(ctx, p, i) })
	}
	return l, nil
}

// Close ends all sessions. It may be called again.
func (l *Load) Close() error {
	l.cancel()
	err := l.pages.Close()
	l.wait.Wait()
	return err
}

// Declared returns the number of producers that have declared all of theirs at a
// peer, and are connected to it.
func (l *Load) Declared() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.declared
}

// WaitDeclared waits until all producers have declared all of theirs.
func (l *Load) WaitDeclared(ctx context.Context) error {
	return Poll(ctx, func(context.Context) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.declared < l.producers {
			return fmt.Errorf("%d of %d producers have declared theirs: %w", l.declared, l.producers, l.last)
		}
		return nil
	})
}

// run keeps a session of p open, first at peer i.
func (l *Load) run(ctx context.Context, p simulated, i int) {
	for ; ctx.Err() == nil; i++ {
		err := l.session(ctx, p, l.lookupds[i%len(l.lookupds)])
		l.mu.Lock()
		l.last = err
		l.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(loadRetry):
		}
	}
}

// session lasts until the peer, or ctx, ends.
func (l *Load) session(ctx context.Context, p simulated, address string) error {
	dialer := net.Dialer{Timeout: loadAnswer}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	s := v1{conn: conn, in: bufio.NewReader(conn)}
	if err := s.declare(p); err != nil {
		return fmt.Errorf("%s: %w", address, err)
	}
	l.count(1)
	defer l.count(-1)
	for {
		if err := s.idle(l.ping); err != nil {
			return fmt.Errorf("%s: %w", address, err)
		}
		if err := s.ok("PING"); err != nil {
			return fmt.Errorf("%s: %w", address, err)
		}
	}
}

func (l *Load) count(change int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.declared += change
}

// v1 is a connection over which one command at a time is answered.
type v1 struct {
	conn net.Conn
	in   *bufio.Reader
}

func (s v1) declare(p simulated) error {
	body, err := json.Marshal(map[string]any{
		"broadcast_address": Loopback, "hostname": p.name, "tcp_port": p.port, "http_port": p.port, "version": loadVersion,
	})
	if err != nil {
		return err
	}
	identify := binary.BigEndian.AppendUint32([]byte("  V1IDENTIFY\n"), uint32(len(body)))
	answer, err := s.exchange(append(identify, body...))
	if err == nil && !json.Valid(answer) {
		err = fmt.Errorf("IDENTIFY: %.100s", answer)
	}
	if err != nil {
		return err
	}
	if err := s.ok("REGISTER " + p.topic); err != nil {
		return err
	}
	for _, channel := range p.channels {
		if err := s.ok("REGISTER " + p.topic + " " + channel); err != nil {
			return err
		}
	}
	return nil
}

// ok sends a command that is to be answered OK.
func (s v1) ok(command string) error {
	answer, err := s.exchange([]byte(command + "\n"))
	if err == nil && string(answer) != "OK" {
		err = fmt.Errorf("%s: %.100s", command, answer)
	}
	return err
}

func (s v1) exchange(request []byte) ([]byte, error) {
	if err := s.conn.SetDeadline(time.Now().Add(loadAnswer)); err != nil {
		return nil, err
	}
	if _, err := s.conn.Write(request); err != nil {
		return nil, err
	}
	var head [4]byte
	if _, err := io.ReadFull(s.in, head[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > loadMaxAnswer {
		return nil, fmt.Errorf("an answer of %d bytes", size)
	}
	answer := make([]byte, size)
	_, err := io.ReadFull(s.in, answer)
	return answer, err
}

// idle waits for so long; it notices at once when the peer goes away.
func (s v1) idle(d time.Duration) error {
	if err := s.conn.SetReadDeadline(time.Now().Add(d)); err != nil {
		return err
	}
	_, err := s.in.Peek(1)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil
	case err != nil:
		return fmt.Errorf("%w: %w", errEnded, err)
	}
	return errEnded
}
