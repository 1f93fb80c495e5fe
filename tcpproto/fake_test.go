package tcpproto_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/tcpproto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must come.
const patience = 10 * time.Second

// sessions is a fake that notes what it is told.
type sessions struct {
	refuse func() error                // of Open
	change func(words ...string) error // of Register and Unregister; may be nil

	mu    sync.Mutex
	calls []string
	infos []registry.ProducerInfo
	ends  []func(string)
}

func (s *sessions) note(words ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, strings.Join(words, " "))
}

func (s *sessions) noted() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.calls, "; ")
}

func (s *sessions) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls, s.infos, s.ends = nil, nil, nil
}

func (s *sessions) last(t testing.TB) registry.ProducerInfo {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.infos) == 0 {
		t.Fatal("nobody has identified himself")
	}
	return s.infos[len(s.infos)-1]
}

func (s *sessions) Open(info registry.ProducerInfo, end func(string)) (tcpproto.Session, error) {
	if s.refuse != nil {
		if err := s.refuse(); err != nil {
			return nil, err
		}
	}
	s.note("open", string(info.ID()))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.infos = append(s.infos, info)
	s.ends = append(s.ends, end)
	return fakeSession{s}, nil
}

type fakeSession struct{ s *sessions }

func (f fakeSession) do(words ...string) error {
	f.s.note(words...)
	if f.s.change == nil {
		return nil
	}
	return f.s.change(words...)
}

func (f fakeSession) Register(topic, channel string) error {
	return f.do("register", topic+"/"+channel)
}

func (f fakeSession) AnsweredAt() uint64 { return 0 }

func (f fakeSession) Unregister(topic, channel string) error {
	return f.do("unregister", topic+"/"+channel)
}

func (f fakeSession) Ping()  { f.s.note("ping") }
func (f fakeSession) Close() { f.s.note("close") }

func serve(t testing.TB, s *sessions, limits tcpproto.Limits, log *slog.Logger) *tcpproto.Server {
	t.Helper()
	return serveSessions(t, s, limits, log)
}

func serveSessions(t testing.TB, s tcpproto.Sessions, limits tcpproto.Limits, log *slog.Logger) *tcpproto.Server {
	t.Helper()
	server := tcpproto.New(tcpproto.Config{
		Address: "127.0.0.1:0", BroadcastAddress: "peer-a", Hostname: "host-a", Version: "0.1.0",
		HTTPPort: func() int { return 4161 }, Sessions: s, Limits: limits, Logger: log,
	})
	if err := server.Open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := server.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return server
}

// client is the other end of a connection.
type client struct {
	t testing.TB
	*net.TCPConn
}

func dial(t testing.TB, server *tcpproto.Server) *client {
	t.Helper()
	nc, err := net.Dial("tcp", server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	if err := nc.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &client{t, nc.(*net.TCPConn)}
}

func (c *client) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

// frame reads one answer.
func (c *client) frame() (string, error) {
	var size [4]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return "", err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > 1<<16 {
		return "", fmt.Errorf("a frame of %d bytes", n)
	}
	body := make([]byte, n)
	_, err := io.ReadFull(c, body)
	return string(body), err
}

func (c *client) want(answers ...string) {
	c.t.Helper()
	for i, want := range answers {
		got, err := c.frame()
		if err != nil {
			c.t.Fatalf("answer %d: %v, want %q", i, err, want)
		}
		if got != want {
			c.t.Fatalf("answer %d: %q, want %q", i, got, want)
		}
	}
}

func (c *client) wantEnd() {
	c.t.Helper()
	if got, err := c.frame(); !errors.Is(err, io.EOF) {
		c.t.Fatalf("got %q and %v, want the end of the connection", got, err)
	}
}

const nsqd = `{"broadcast_address":"h","hostname":"n","tcp_port":4150,"http_port":4151,"version":"1.3.0"}`

func identifyWith(body string) string {
	return "IDENTIFY\n" + string(binary.BigEndian.AppendUint32(nil, uint32(len(body)))) + body
}

// identified dials and identifies.
func identified(t testing.TB, server *tcpproto.Server) *client {
	t.Helper()
	c := dial(t, server)
	c.send("  V1" + identifyWith(nsqd))
	if got, err := c.frame(); err != nil || !strings.HasPrefix(got, "{") {
		t.Fatalf("identify: %q, %v", got, err)
	}
	return c
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !is() {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}
