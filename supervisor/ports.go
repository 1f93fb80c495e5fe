package supervisor

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// Loopback is the address on which everything listens.
const Loopback = "127.0.0.1"

// ErrNoPorts: no free block of ports was found.
var ErrNoPorts = errors.New("no free ports")

// Bounds of the ports that FreePorts picks: above the well-known services,
// below the ports that kernels give to outgoing connections, which could be
// taken between the check and the daemon's bind.
const (
	firstPort    = 10000
	lastPort     = 32000
	portAttempts = 200
)

// PeerPorts are the ports of one lookupd.
type PeerPorts struct{ TCP, HTTP, Peer, Gossip int }

// PortFree reports whether nobody listens on port, with TCP or UDP.
func PortFree(port int) bool {
	address := Address(port)
	tcp, err := net.Listen("tcp", address)
	if err != nil {
		return false
	}
	defer tcp.Close()
	udp, err := net.ListenPacket("udp", address)
	if err != nil {
		return false
	}
	return udp.Close() == nil
}

// PortsFree reports whether all ports are free.
func PortsFree(ports ...int) bool {
	for _, port := range ports {
		if !PortFree(port) {
			return false
		}
	}
	return true
}

// FreePorts returns n free ports next to each other, at a random place so that
// programs that look at the same time seldom meet.
func FreePorts(n int) ([]int, error) {
	for range portAttempts {
		first := firstPort + rand.IntN(lastPort-firstPort-n)
		ports := make([]int, n)
		for i := range ports {
			ports[i] = first + i
		}
		if PortsFree(ports...) {
			return ports, nil
		}
	}
	return nil, fmt.Errorf("%w: %d in a row between %d and %d", ErrNoPorts, n, firstPort, lastPort)
}

// FreePeerPorts returns free ports for n peers.
func FreePeerPorts(n int) ([]PeerPorts, error) {
	ports, err := FreePorts(4 * n)
	if err != nil {
		return nil, err
	}
	peers := make([]PeerPorts, n)
	for i := range peers {
		p := ports[4*i:]
		peers[i] = PeerPorts{TCP: p[0], HTTP: p[1], Peer: p[2], Gossip: p[3]}
	}
	return peers, nil
}

// Address returns the loopback address with port.
func Address(port int) string { return hostPort(Loopback, port) }

func hostPort(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }
