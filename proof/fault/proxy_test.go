package fault_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lookupd/lookupd/proof/fault"
)

// echoProxy returns a proxy before a server that says every line again, and
// a connection through it.
func echoProxy(t *testing.T) (*fault.Proxy, *lines) {
	t.Helper()
	server := listen(t)
	go func() {
		for {
			conn, err := server.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	p := fault.NewProxy(listen(t), func() (net.Conn, error) { return net.Dial("tcp", server.Addr().String()) })
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p, dialProxy(t, p)
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// lines is a connection that sends and gets lines.
type lines struct {
	net.Conn
	t      *testing.T
	reader *bufio.Reader
}

func dialProxy(t *testing.T, p *fault.Proxy) *lines {
	t.Helper()
	conn, err := net.Dial("tcp", p.Address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	l := &lines{conn, t, bufio.NewReader(conn)}
	l.say("hello")
	l.want("hello", patience)
	return l
}

func (l *lines) say(line string) {
	l.t.Helper()
	if _, err := io.WriteString(l, line+"\n"); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lines) want(line string, within time.Duration) {
	l.t.Helper()
	if got, err := l.next(within); got != line || err != nil {
		l.t.Errorf("got %q %v, want %q", got, err, line)
	}
}

func (l *lines) wantSilence() {
	l.t.Helper()
	const long = 200 * time.Millisecond
	if got, err := l.next(long); !errors.Is(err, os.ErrDeadlineExceeded) {
		l.t.Errorf("got %q %v, want nothing", got, err)
	}
}

func (l *lines) next(within time.Duration) (string, error) {
	if err := l.SetReadDeadline(time.Now().Add(within)); err != nil {
		return "", err
	}
	line, err := l.reader.ReadString('\n')
	return strings.TrimSuffix(line, "\n"), err
}

func TestProxyHolds(t *testing.T) {
	for _, d := range []fault.Direction{fault.Requests, fault.Replies} {
		t.Run(d.String(), func(t *testing.T) {
			p, conn := echoProxy(t)
			p.Hold(d)
			conn.say("one")
			conn.wantSilence()
			conn.say("two")
			if p.Waiting(d) == 0 {
				t.Error("nothing waits")
			}
			p.Release(d)
			conn.want("one", patience)
			conn.want("two", patience)
			if n := p.Touched(d); n < int64(len("one\n")) {
				t.Errorf("touched %d bytes", n)
			}
			if n := p.Touched(fault.Requests+fault.Replies-d) + p.Waiting(d); n != 0 {
				t.Errorf("%d bytes of the other direction touched, or still held", n)
			}
		})
	}
}

func TestProxyDelays(t *testing.T) {
	p, conn := echoProxy(t)
	const delay, count = 300 * time.Millisecond, 10
	p.Delay(fault.Requests, delay, delay/10)
	began := time.Now()
	for range count {
		conn.say("x")
	}
	for range count {
		conn.want("x", patience)
	}
	if took := time.Since(began); took < delay {
		t.Errorf("took %v", took)
	}
	if p.Touched(fault.Requests) == 0 {
		t.Error("nothing touched")
	}
}

func TestProxyDropsAndResets(t *testing.T) {
	p, conn := echoProxy(t)
	p.Hold(fault.Replies)
	conn.say("lost")
	conn.wantSilence()
	if n := p.Reset(); n != 1 {
		t.Errorf("%d connections reset", n)
	}
	p.Release(fault.Replies)
	if line, err := conn.next(patience); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %q %v, want a reset", line, err)
	}
	dialProxy(t, p) // new ones go through
}

func TestProxyPassesAnEndOn(t *testing.T) {
	_, conn := echoProxy(t)
	conn.say("last")
	if err := conn.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	conn.want("last", patience)
	if line, err := conn.next(patience); !errors.Is(err, io.EOF) {
		t.Errorf("got %q %v, want the end", line, err)
	}
}
