package tcpproto_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/lookupd/lookupd/tcpproto"
)

// short is a limit that a test can wait for. Only what is tested has it: a slow
// machine would meet the others.
const short = 200 * time.Millisecond

func TestTooSlow(t *testing.T) {
	for name, test := range map[string]struct {
		send    string
		answers []string
		limits  tcpproto.Limits
		after   time.Duration
	}{
		"T20 no magic":         {"", nil, tcpproto.Limits{Magic: short}, short},
		"T20 half the magic":   {"  V", nil, tcpproto.Limits{Magic: short}, short},
		"no IDENTIFY":          {"  V1", nil, tcpproto.Limits{Identify: short}, short},
		"only PING":            {"  V1PING\n", []string{"OK"}, tcpproto.Limits{IdentifyPing: 5 * short}, 5 * short},
		"T22 half a line":      {"  V1PIN", nil, tcpproto.Limits{Line: short}, short},
		"T5 half the length":   {"  V1IDENTIFY\n\x00", nil, tcpproto.Limits{Body: short}, short},
		"T5 half the body":     {"  V1IDENTIFY\n\x00\x00\x00\x64{", nil, tcpproto.Limits{Body: short}, short},
		"T22 half a line late": {"  V1" + identifyWith(nsqd) + "REGISTER", []string{""}, tcpproto.Limits{Line: short}, short},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := serve(t, &sessions{}, test.limits, nil)
			began := time.Now()
			c := dial(t, server)
			c.send(test.send)
			for range test.answers {
				if _, err := c.frame(); err != nil {
					t.Fatal(err)
				}
			}
			c.wantEnd()
			if took := time.Since(began); took < test.after {
				t.Errorf("closed after %v, want %v", took, test.after)
			}
			eventually(t, "counted", func() bool { return server.Stats().Refused["timeout"] == 1 })
		})
	}
}

func TestSilentAfterIdentifyStays(t *testing.T) {
	const limit = 5 * short
	c := identified(t, serve(t, &sessions{}, tcpproto.Limits{Magic: limit, Identify: limit, IdentifyPing: limit, Line: limit, Body: limit, Write: limit}, nil))
	if err := c.SetReadDeadline(time.Now().Add(2 * limit)); err != nil {
		t.Fatal(err)
	}
	var netErr net.Error
	if _, err := c.frame(); !errors.As(err, &netErr) || !netErr.Timeout() {
		t.Fatalf("silence ended with %v", err)
	}
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	c.send("PING\n")
	c.want("OK")
}

func TestAnswersDoNotWaitForTheNextCommand(t *testing.T) {
	release := make(chan struct{})
	s := &sessions{change: func(words ...string) error {
		if words[1] == "slow/" {
			<-release
		}
		return nil
	}}
	c := identified(t, serve(t, s, tcpproto.Limits{}, nil))
	defer close(release)
	c.send("PING\nREGISTER t\nPIN")
	c.want("OK", "OK")
	c.send("G\nREGISTER slow\nPING\n")
	c.want("OK")
}

func TestReplacedConnectionIsClosed(t *testing.T) {
	s := &sessions{}
	c := identified(t, serve(t, s, tcpproto.Limits{}, nil))
	s.mu.Lock()
	end := s.ends[0]
	s.mu.Unlock()
	end("replaced")
	if _, err := c.frame(); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v", err)
	}
	eventually(t, "close", func() bool { return strings.HasSuffix(s.noted(), "; close") })
}

func TestConnectionLimits(t *testing.T) {
	for name, limits := range map[string]tcpproto.Limits{
		"total":       {Connections: 2},
		"per address": {ConnectionsPerAddress: 2},
	} {
		t.Run(name, func(t *testing.T) {
			server := serve(t, &sessions{}, limits, nil)
			first, second := identified(t, server), identified(t, server)
			third := dial(t, server)
			if _, err := third.frame(); err == nil {
				t.Error("the third connection was served")
			}
			second.send("PING\n")
			second.want("OK")
			if err := first.Close(); err != nil {
				t.Fatal(err)
			}
			eventually(t, "room", func() bool { return server.Stats().Connections == 1 })
			identified(t, server)
			if got := server.Stats().Refused["connections"]; got != 1 {
				t.Errorf("%d refused", got)
			}
		})
	}
}

func TestCommandRate(t *testing.T) {
	c := identified(t, serve(t, &sessions{}, tcpproto.Limits{Commands: 100, CommandBurst: 10}, nil))
	began := time.Now()
	c.send(strings.Repeat("PING\n", 29)) // with IDENTIFY 20 above the burst
	for range 29 {
		c.want("OK")
	}
	if took := time.Since(began); took < 150*time.Millisecond {
		t.Errorf("30 commands in %v", took)
	}
}

func TestCloseKeepsSessions(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	s := &sessions{change: func(...string) error {
		close(entered)
		<-release
		return nil
	}}
	server := serve(t, s, tcpproto.Limits{}, nil)
	idle, busy := identified(t, server), identified(t, server)
	busy.send("REGISTER t\n")
	<-entered
	closed := make(chan error, 1)
	go func() { closed <- server.Close(context.Background()) }()
	idle.wantEnd()
	close(release)
	busy.want("OK")
	busy.wantEnd()
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if err := server.Close(context.Background()); err != nil {
		t.Errorf("second close: %v", err)
	}
	if got := s.noted(); strings.Contains(got, "close") {
		t.Errorf("told %q", got)
	}
	if _, err := net.Dial("tcp", server.Addr().String()); err == nil {
		t.Error("still listening")
	}
}

func TestCloseIsBounded(t *testing.T) {
	server := serve(t, &sessions{}, tcpproto.Limits{}, nil)
	c := identified(t, server)
	c.send("FOO\n") // the server lingers until we close
	ctx, cancel := context.WithTimeout(context.Background(), 0)
	defer cancel()
	if err := server.Close(ctx); err != nil {
		t.Error(err)
	}
}

func TestOpenRefusesAPortInUse(t *testing.T) {
	server := serve(t, &sessions{}, tcpproto.Limits{}, nil)
	second := tcpproto.New(tcpproto.Config{Address: server.Addr().String()})
	if err := second.Open(); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("got %v", err)
	}
	if err := second.Close(context.Background()); err != nil {
		t.Errorf("close: %v", err)
	}
}

// lockedBuffer is written by connections and read by the test.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestBadClientsInTheLog(t *testing.T) {
	var out lockedBuffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	server := serve(t, &sessions{}, tcpproto.Limits{}, log)
	const clients, perSecond = 50, 10
	began := time.Now()
	for range clients {
		c := dial(t, server)
		c.send("  V1PING\n\x1b[31m\t" + repeat(400) + "\n")
		c.want("OK")
		if _, err := c.frame(); err != nil {
			t.Fatal(err)
		}
		c.wantEnd()
	}
	if got := server.Stats().Refused["E_INVALID"]; got != clients {
		t.Errorf("%d counted", got)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	most := perSecond*(1+int(time.Since(began).Seconds())) + perSecond
	if len(lines) < perSecond || len(lines) > most {
		t.Errorf("%d lines for %d bad clients", len(lines), clients)
	}
	for _, line := range lines {
		if len(line) > 500 || strings.Contains(line, "\x1b") || strings.Contains(line, "PING") {
			t.Errorf("bad line %q", line)
		}
	}
}
