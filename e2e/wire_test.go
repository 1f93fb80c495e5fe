package e2e_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// answerTimeout is far above the 800 ms within which every command is answered.
const answerTimeout = 5 * time.Second

// v1Conn speaks V1 byte for byte, also what no proper client would say.
type v1Conn struct {
	net.Conn
	read *bufio.Reader
}

func dialV1(address string) (*v1Conn, error) {
	conn, err := net.DialTimeout("tcp", address, answerTimeout)
	if err != nil {
		return nil, err
	}
	return newV1Conn(conn), nil
}

func newV1Conn(conn net.Conn) *v1Conn { return &v1Conn{Conn: conn, read: bufio.NewReader(conn)} }

func (c *v1Conn) send(text string) error {
	if err := c.SetWriteDeadline(time.Now().Add(answerTimeout)); err != nil {
		return err
	}
	_, err := io.WriteString(c, text)
	return err
}

// frame reads one answer.
func (c *v1Conn) frame() (string, error) {
	if err := c.SetReadDeadline(time.Now().Add(answerTimeout)); err != nil {
		return "", err
	}
	var size uint32
	if err := binary.Read(c.read, binary.BigEndian, &size); err != nil {
		return "", err
	}
	const most = 1 << 20
	if size > most {
		return "", fmt.Errorf("frame of %d bytes", size)
	}
	body := make([]byte, size)
	_, err := io.ReadFull(c.read, body)
	return string(body), err
}

// ended returns nil if the server closes the connection without another byte.
func (c *v1Conn) ended() error {
	if err := c.SetReadDeadline(time.Now().Add(answerTimeout)); err != nil {
		return err
	}
	b, err := c.read.ReadByte()
	switch {
	case err == nil:
		return fmt.Errorf("byte %q where the connection should end", b)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errors.New("connection is still open")
	}
	return nil // EOF, or a reset when the server had unread input
}

// identifyCommand frames an IDENTIFY body.
func identifyCommand(body string) string {
	return "IDENTIFY\n" + string(binary.BigEndian.AppendUint32(nil, uint32(len(body)))) + body
}

// call sends a command and returns its answer.
func (c *v1Conn) call(command string) (string, error) {
	if err := c.send(command); err != nil {
		return "", err
	}
	return c.frame()
}

// fakePort is the TCP port of fake nsqds.
const fakePort = 4150

func fakeID(host string) string { return producerID(host, fakePort) }

// fakeNSQD opens a connection that has said IDENTIFY for host:4150.
func fakeNSQD(t testing.TB, address, host string) *v1Conn {
	t.Helper()
	return fakeNSQDWithPort(t, address, host, fakePort)
}

func fakeNSQDWithPort(t testing.TB, address, host string, port int) *v1Conn {
	t.Helper()
	c, err := dialV1(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.identify(host, port); err != nil {
		t.Fatal(err)
	}
	return c
}

// identify begins the session of a producer.
func (c *v1Conn) identify(host string, port int) error {
	answer, err := c.call("  V1" + identifyCommand(fmt.Sprintf(
		`{"broadcast_address":%q,"hostname":%q,"tcp_port":%d,"http_port":%d,"version":"1.3.0"}`, host, host, port, port+1)))
	if err == nil && !strings.HasPrefix(answer, "{") {
		err = fmt.Errorf("answer %q", answer)
	}
	if err != nil {
		return fmt.Errorf("IDENTIFY: %w", err)
	}
	return nil
}

// ok is call that wants OK.
func (c *v1Conn) ok(command string) error {
	answer, err := c.call(command)
	if err == nil && answer != "OK" {
		err = fmt.Errorf("answer %q", answer)
	}
	if err != nil {
		return fmt.Errorf("%q: %w, want OK", command, err)
	}
	return nil
}

// pinging is a connection that PINGs, as an nsqd does, until the test ends.
type pinging struct {
	mu   sync.Mutex // one command at a time
	conn *v1Conn
}

// pingEvery starts it. A PING that fails fails the test.
func (c *v1Conn) pingEvery(t testing.TB, every time.Duration) *pinging {
	t.Helper()
	p := &pinging{conn: c}
	ctx, cancel := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	t.Cleanup(func() { cancel(); wait.Wait() })
	wait.Go(func() {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			if answer, err := p.call("PING\n"); err != nil || answer != "OK" {
				t.Errorf("PING from %v: %q %v, want OK", c.LocalAddr(), answer, err)
				return
			}
		}
	})
	return p
}

func (p *pinging) call(command string) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.conn.call(command)
}

func (p *pinging) mustCall(t testing.TB, command string) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conn.mustCall(t, command)
}

// mustCall is call that wants OK.
func (c *v1Conn) mustCall(t testing.TB, command string) {
	t.Helper()
	if err := c.ok(command); err != nil {
		t.Fatal(err)
	}
}

// httpAnswer is what a raw request got.
type httpAnswer struct {
	status int
	header http.Header
	body   string
}

// rawHTTP sends "METHOD target" as it stands, which net/http's client would
// refuse or change for some targets.
func rawHTTP(address, request string) (httpAnswer, error) {
	conn, err := net.DialTimeout("tcp", address, answerTimeout)
	if err != nil {
		return httpAnswer{}, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return httpAnswer{}, err
	}
	if _, err := fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", request, address); err != nil {
		return httpAnswer{}, err
	}
	method, _, _ := strings.Cut(request, " ")
	response, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		return httpAnswer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return httpAnswer{status: response.StatusCode, header: response.Header, body: string(body)}, err
}
