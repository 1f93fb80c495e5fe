package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
)

// What is looked at before the data is touched: a start that must fail leaves no
// trace, and does not make the peer known to others first.

// leastFiles is what a peer needs for its data, its listeners and eight other
// peers, and for a few clients.
const leastFiles = 128

var errFewFiles = errors.New("limit on open files is too low")

// checkFiles refuses to run with too few file descriptors, and says so when the
// connections that the limits admit need more. Go has raised the soft limit to
// the hard one.
func (d *daemon) checkFiles() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("limit on open files: %w", err)
	}
	files := uint64(limit.Cur)
	if files < leastFiles {
		return fmt.Errorf("%w: %d, at least %d are needed: raise it with ulimit -n or LimitNOFILE", errFewFiles, files, leastFiles)
	}
	clients := uint64(d.o.limits.tcp.Connections + d.o.limits.http.Connections)
	if files < leastFiles+clients {
		d.log.Warn("the limit on open files is below the limits on connections: clients above it will have to wait",
			"files", files, "connections", clients)
	}
	return nil
}

// tryPorts binds all ports for a moment, to find out whether one is taken, meant
// twice or not permitted.
func (o *options) tryPorts() (err error) {
	for _, l := range []struct{ name, network, address string }{
		{"tcp-address", "tcp", o.tcpAddress},
		{"http-address", "tcp", o.httpAddress},
		{"peer-address", "tcp", o.peerAddress},
		{"gossip-address", "tcp", o.gossipAddress},
		{"gossip-address", "udp", o.gossipAddress},
	} {
		bound, bindErr := bind(l.network, l.address)
		if bindErr != nil {
			return fmt.Errorf("-%s: %w", l.name, bindErr)
		}
		defer func() { err = errors.Join(err, bound.Close()) }()
	}
	return nil
}

func bind(network, address string) (io.Closer, error) {
	if network == "udp" {
		return net.ListenPacket(network, address)
	}
	return net.Listen(network, address)
}
