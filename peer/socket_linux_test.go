package peer_test

import (
	"fmt"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/lookupd/lookupd/peer"
)

// TestDeadConnectionsEnd: keep-alive and user timeout are set at both ends of
// calls and of raft's streams.
func TestDeadConnectionsEnd(t *testing.T) {
	known := newAddresses()
	b := known.open(t, "b-00000002", &handler{})
	a := known.open(t, "a-00000001", &handler{})
	go func() {
		select {
		case rpc := <-b.Transport().Consumer():
			rpc.Respond(&raft.RequestVoteResponse{}, nil)
		case <-t.Context().Done():
		}
	}()
	if err := a.Transport().RequestVote("b-00000002", "b-00000002", &raft.RequestVoteRequest{}, &raft.RequestVoteResponse{}); err != nil {
		t.Fatal(err)
	}
	if _, err := forward(within(t, soon), a, "b-00000002", "x"); err != nil {
		t.Fatal(err)
	}
	for _, n := range []*peer.Network{a, b} {
		open := n.Connections()
		if len(open) != 2 {
			t.Fatalf("%d connections", len(open))
		}
		for _, c := range open {
			for name, o := range map[string]struct{ level, option, want int }{
				"keep-alive": {syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1},
				"idle":       {syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, 1},
				"interval":   {syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, 1},
				"count":      {syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT, 3},
				"user":       {syscall.IPPROTO_TCP, 0x12, int(peer.UserTimeout.Milliseconds())},
			} {
				if got := socketOption(t, c, o.level, o.option); got != o.want {
					t.Errorf("%s is %d, want %d", name, got, o.want)
				}
			}
		}
	}
}

func socketOption(t *testing.T, c net.Conn, level, option int) (value int) {
	t.Helper()
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	if err := raw.Control(func(fd uintptr) {
		value, failed = syscall.GetsockoptInt(int(fd), level, option)
	}); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	return value
}

// blackHole returns an address to which connections neither come about nor
// fail: a listener that accepts nothing and whose queue is full.
func blackHole(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port)
	for range 10 {
		c, err := net.DialTimeout("tcp", addr, 100*time.Millisecond)
		if err != nil {
			return addr
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	skipNeeds(t, "a listener that drops what its queue does not take")
	return ""
}
