package httpapi_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/lookupd/lookupd/httpapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// peer is one served fakeNode.
type peer struct {
	*fakeNode
	t      testing.TB
	addr   string
	server *httpapi.Server
	clock  *clock
}

// serve opens a Server for the node; adjust may change its Config.
func serve(t testing.TB, n *fakeNode, adjust ...func(*httpapi.Config)) *peer {
	t.Helper()
	p := &peer{fakeNode: n, t: t, clock: &clock{}}
	cfg := httpapi.DefaultConfig()
	cfg.Address, cfg.Version = "127.0.0.1:0", "9.8.7"
	cfg.Cluster, cfg.Sessions, cfg.Now = n, pings{}, p.clock.now
	for _, f := range adjust {
		f(&cfg)
	}
	server, err := httpapi.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := server.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	p.server, p.addr = server, server.Addr().String()
	return p
}

func serveOne(t *testing.T, adjust ...func(*httpapi.Config)) *peer {
	t.Helper()
	return serve(t, newFakeCluster(t, "a").peers[0], adjust...)
}

// answer is what came back for a request.
type answer struct {
	status int
	header http.Header
	body   string
	closed bool // by the server, after the answer
}

// do sends "METHOD target" on a connection of its own, redirects not followed.
// Headers are given as "Name: value".
func (p *peer) do(request string, headers ...string) answer {
	p.t.Helper()
	method, target, _ := strings.Cut(request, " ")
	raw := method + " " + target + " HTTP/1.1\r\n"
	if !strings.Contains("\n"+strings.ToLower(strings.Join(headers, "\n")), "\nhost:") {
		raw += "Host: " + p.addr + "\r\n"
	}
	for _, h := range headers {
		raw += h + "\r\n"
	}
	return p.raw(raw+"\r\n", method)
}

// raw sends bytes and reads one answer.
func (p *peer) raw(bytes, method string) answer {
	p.t.Helper()
	conn := p.dial()
	defer conn.Close()
	if _, err := io.WriteString(conn, bytes); err != nil {
		p.t.Fatal(err)
	}
	return readAnswer(p.t, conn, method)
}

// dial connects; everything on the connection must end within 10 s.
func (p *peer) dial() net.Conn {
	p.t.Helper()
	conn, err := net.Dial("tcp", p.addr)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		p.t.Fatal(err)
	}
	return conn
}

func readAnswer(t testing.TB, conn net.Conn, method string) answer {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("read the answer: %v", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("read the body: %v", err)
	}
	return answer{status: resp.StatusCode, header: resp.Header, body: string(body), closed: resp.Close}
}

// waitClosed fails unless the server closes the connection within the limit.
func waitClosed(t *testing.T, conn net.Conn, within time.Duration) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
		t.Fatalf("the connection was still open after %v", within)
	}
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// eventually polls until check returns nil.
func eventually(t *testing.T, check func() error) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestNewRefusesHalfAConfig(t *testing.T) {
	if _, err := httpapi.New(httpapi.DefaultConfig()); err == nil {
		t.Error("a Config without a cluster was accepted")
	}
	cfg := httpapi.DefaultConfig()
	cfg.Cluster, cfg.Sessions = newFakeCluster(t, "a").peers[0], pings{}
	cfg.Address = ""
	if _, err := httpapi.New(cfg); err == nil {
		t.Error("a Config without an address was accepted")
	}
}

func TestOpenNamesThePortInUse(t *testing.T) {
	p := serveOne(t)
	cfg := httpapi.DefaultConfig()
	cfg.Address, cfg.Cluster, cfg.Sessions = p.addr, p.fakeNode, pings{}
	second, err := httpapi.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Open(); err == nil || !strings.Contains(err.Error(), p.addr) {
		t.Errorf("Open of a port in use: %v", err)
	}
	if err := second.Close(context.Background()); err != nil {
		t.Errorf("Close after a failed Open: %v", err)
	}
	if second.Addr() != nil {
		t.Error("Addr is set although Open failed")
	}
}

func TestCloseLetsOpenRequestsEndAndMayBeCalledTwice(t *testing.T) {
	n := newFakeCluster(t, "a").peers[0]
	n.slow = make(chan struct{})
	p := serve(t, n)
	conn := p.dial()
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /topics HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	eventually(t, n.isReading)
	closed := make(chan error, 1)
	go func() { closed <- p.server.Close(context.Background()) }()
	eventually(t, func() error {
		c, err := net.Dial("tcp", p.addr)
		if err == nil {
			c.Close()
			return errors.New("still accepts connections")
		}
		return nil
	})
	close(n.slow)
	if a := readAnswer(t, conn, "GET"); a.status != http.StatusOK {
		t.Errorf("the open request ended with %d", a.status)
	}
	if err := <-closed; err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := p.server.Close(context.Background()); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

func TestCloseIsBounded(t *testing.T) {
	n := newFakeCluster(t, "a").peers[0]
	n.slow = make(chan struct{})
	p := serve(t, n)
	defer close(n.slow)
	conn := p.dial()
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /topics HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	eventually(t, n.isReading)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := p.server.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Close: %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("Close took %v", took)
	}
	waitClosed(t, conn, time.Second)
}

// readAll reads until the server closes.
func readAll(t *testing.T, conn net.Conn) string {
	t.Helper()
	b, err := io.ReadAll(conn)
	if err != nil {
		t.Fatalf("read until the end: %v after %q", err, b)
	}
	return string(b)
}
