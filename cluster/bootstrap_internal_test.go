package cluster

import (
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"syscall"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/lookupd/lookupd/peer"
	"github.com/lookupd/lookupd/peer/peerpb"
	"github.com/lookupd/lookupd/registry"
)

// listenAs answers each connection with what answer makes of it.
func listenAs(t *testing.T, answer func(net.Conn)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			answer(c)
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return l.Addr().String()
}

// closedPort returns an address that nobody listens at, or can while the test runs.
func closedPort(t *testing.T) string {
	t.Helper()
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(socket) })
	if err := syscall.Bind(socket, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	bound, err := syscall.Getsockname(socket)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", bound.(*syscall.SockaddrInet4).Port)
}

// refuseWith ends a handshake as package peer does.
func refuseWith(t *testing.T, refusal peerpb.Refusal) func(net.Conn) {
	return func(c net.Conn) {
		defer c.Close()
		header := make([]byte, 6)
		if _, err := io.ReadFull(c, header); err != nil {
			return
		}
		if _, err := io.CopyN(io.Discard, c, int64(binary.BigEndian.Uint16(header[4:]))); err != nil {
			return
		}
		body, err := proto.Marshal(&peerpb.Welcome{Refusal: refusal, NodeId: "b-00000001"})
		if err != nil {
			t.Error(err)
		}
		_, _ = c.Write(append(binary.BigEndian.AppendUint16(header[:4], uint16(len(body))), body...))
	}
}

// A newcomer takes the place of a dead id of its name, and of no other.
func TestOnlyTheDeadAreGone(t *testing.T) {
	const self registry.NodeID = "a-00000001"
	closed := closedPort(t)
	var frozen []net.Conn
	t.Cleanup(func() {
		for _, c := range frozen {
			_ = c.Close()
		}
	})
	type test struct {
		id      registry.NodeID
		address string
		gone    bool
	}
	tests := map[string]test{
		"nobody listens":                      {"b-00000001", closed, true},
		"no address":                          {"b-00000001", "", true},
		"frozen":                              {"b-00000001", listenAs(t, func(c net.Conn) { frozen = append(frozen, c) }), false},
		"this peer, which cannot dial itself": {self, closed, false},
	}
	for number, name := range peerpb.Refusal_name {
		if refusal := peerpb.Refusal(number); refusal != peerpb.Refusal_REFUSAL_NONE {
			tests[name] = test{"b-00000001", listenAs(t, refuseWith(t, refusal)), refusal == peerpb.Refusal_REFUSAL_WRONG_PEER}
		}
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			network := peer.New(peer.Config{
				Node: self, Epoch: 1, ClusterID: func() string { return "one" }, Address: "127.0.0.1:0", Handler: handler{},
				Resolve: func(registry.NodeID) (string, bool) { return test.address, test.address != "" },
				Logger:  slog.New(slog.DiscardHandler),
			})
			if err := network.Open(); err != nil {
				t.Fatal(err)
			}
			defer network.Close()
			n := &Node{id: self, net: network}
			if err := n.isGone(t.Context(), test.id); (err == nil) != test.gone {
				t.Errorf("gone: %v, want %v", err, test.gone)
			}
		})
	}
}
