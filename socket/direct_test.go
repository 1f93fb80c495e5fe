package socket_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/lookupd/lookupd/socket"
)

// pair returns both ends of a connection, the first one direct.
func pair(t *testing.T) (direct, other net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	other, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	direct = socket.Direct(c)
	t.Cleanup(func() { _, _ = direct.Close(), other.Close() })
	return direct, other
}

// More than the sockets hold, so that both directions have to wait.
func TestAllArrives(t *testing.T) {
	direct, other := pair(t)
	sent := make([]byte, 8<<20)
	rand.New(rand.NewSource(1)).Read(sent)
	errs := make(chan error, 2)
	go func() {
		_, err := io.Copy(other, other) // back to where it came from
		errs <- err
	}()
	go func() {
		n, err := direct.Write(sent)
		if err == nil && n != len(sent) {
			err = io.ErrShortWrite
		}
		errs <- err
	}()
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(direct, got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, sent) {
		t.Error("something else arrived")
	}
	if err := <-errs; err != nil {
		t.Error(err)
	}
}

func TestEnds(t *testing.T) {
	for _, test := range []struct {
		name string
		do   func(direct, other net.Conn)
		want error
		text string // of what package net says
	}{
		{"end of the stream", func(_, other net.Conn) { _ = other.Close() }, io.EOF, "EOF"},
		{"reset", func(_, other net.Conn) {
			_ = other.(*net.TCPConn).SetLinger(0)
			_ = other.Close()
		}, syscall.ECONNRESET, "read tcp"},
		{"deadline", func(direct, _ net.Conn) { _ = direct.SetReadDeadline(time.Now().Add(time.Millisecond)) }, os.ErrDeadlineExceeded, "read tcp"},
		{"deadline long ago", func(direct, _ net.Conn) { _ = direct.SetReadDeadline(time.Unix(1, 0)) }, os.ErrDeadlineExceeded, "read tcp"},
		{"closed meanwhile", func(direct, _ net.Conn) { time.AfterFunc(time.Millisecond, func() { _ = direct.Close() }) }, net.ErrClosed, "read tcp"},
		{"closed before", func(direct, _ net.Conn) { _ = direct.Close() }, net.ErrClosed, "read tcp"},
	} {
		t.Run(test.name, func(t *testing.T) {
			direct, other := pair(t)
			test.do(direct, other)
			n, err := direct.Read(make([]byte, 10))
			if n != 0 || !errors.Is(err, test.want) || !bytes.HasPrefix([]byte(err.Error()), []byte(test.text)) {
				t.Errorf("%d bytes, %v; want %v", n, err, test.want)
			}
			var timeout net.Error
			if test.want == os.ErrDeadlineExceeded && !(errors.As(err, &timeout) && timeout.Timeout()) {
				t.Errorf("%v is no timeout", err)
			}
		})
	}
}

func TestWriteDeadline(t *testing.T) {
	direct, _ := pair(t)
	large := make([]byte, 64<<20)
	if err := direct.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	n, err := direct.Write(large) // nobody reads
	if !errors.Is(err, os.ErrDeadlineExceeded) || n == 0 || n == len(large) {
		t.Errorf("%d bytes, %v", n, err)
	}
	at, ok := direct.(interface{ WriteAtOnce([]byte) int })
	if ok && at.WriteAtOnce(make([]byte, 1)) != 0 {
		t.Error("written at once though the deadline has passed and nobody reads")
	}
}

func TestEmpty(t *testing.T) {
	direct, _ := pair(t)
	if n, err := direct.Read(nil); n != 0 || err != nil {
		t.Errorf("read: %d, %v", n, err)
	}
	if n, err := direct.Write(nil); n != 0 || err != nil {
		t.Errorf("write: %d, %v", n, err)
	}
}

func TestOthersAreReturnedAsTheyAre(t *testing.T) {
	a, b := net.Pipe()
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	if socket.Direct(a) != a {
		t.Error("a pipe is wrapped")
	}
}

func TestNothingIsAllocated(t *testing.T) {
	direct, other := pair(t)
	b := make([]byte, 5)
	if n := testing.AllocsPerRun(100, func() {
		_, _ = direct.Write(b)
		_, _ = io.ReadFull(other, b)
		_, _ = other.Write(b)
		_, _ = io.ReadFull(direct, b)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
