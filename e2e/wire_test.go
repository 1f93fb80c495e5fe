package e2e_test

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
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
	return &v1Conn{Conn: conn, read: bufio.NewReader(conn)}, nil
}

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

// fakeNSQD opens a connection that has said IDENTIFY for host:4150.
func fakeNSQD(t testing.TB, address, host string) *v1Conn {
	t.Helper()
	c, err := dialV1(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	answer, err := c.call("  V1" + identifyCommand(fmt.Sprintf(
		`{"broadcast_address":%q,"hostname":%q,"tcp_port":4150,"http_port":4151,"version":"1.3.0"}`, host, host)))
	if err != nil || !strings.HasPrefix(answer, "{") {
		t.Fatalf("IDENTIFY: %q %v", answer, err)
	}
	return c
}

// mustCall is call that wants OK.
func (c *v1Conn) mustCall(t testing.TB, command string) {
	t.Helper()
	if answer, err := c.call(command); err != nil || answer != "OK" {
		t.Fatalf("%q: %q %v, want OK", command, answer, err)
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
