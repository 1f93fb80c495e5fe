//go:build unix

package tcpproto

import (
	"net"
	"testing"
	"time"
)

func TestHasEnded(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for name, c := range map[string]struct {
		end  func(*net.TCPConn) error
		want bool
	}{
		"nothing":         {func(*net.TCPConn) error { return nil }, false},
		"bytes":           {func(c *net.TCPConn) error { _, err := c.Write([]byte("PING\n")); return err }, false},
		"bytes, then FIN": {func(c *net.TCPConn) error { _, _ = c.Write([]byte("PING\n")); return c.Close() }, false},
		"FIN":             {func(c *net.TCPConn) error { return c.Close() }, true},
		"half-close":      {func(c *net.TCPConn) error { return c.CloseWrite() }, true},
		"RST":             {func(c *net.TCPConn) error { _ = c.SetLinger(0); return c.Close() }, true},
	} {
		t.Run(name, func(t *testing.T) {
			client, err := net.Dial("tcp", listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			server, err := listener.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			if err := c.end(client.(*net.TCPConn)); err != nil {
				t.Fatal(err)
			}
			if !c.want {
				if hasEnded(server) {
					t.Error("has ended")
				}
				return
			}
			for deadline := time.Now().Add(5 * time.Second); !hasEnded(server); time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("has not ended")
				}
			}
		})
	}
}
