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

// reservedFiles are those that clients never get: data, listeners, other peers.
const reservedFiles = 96

var errFewFiles = errors.New("limit on open files is too low")

// checkFiles refuses to run with too few file descriptors, and lowers the limits
// on connections if those that they admit need more: without it clients could
// take what raft and the log need. Go has raised the soft limit to the hard one.
func (d *daemon) checkFiles() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("limit on open files: %w", err)
	}
	files := uint64(limit.Cur)
	if files < leastFiles {
		return fmt.Errorf("%w: %d, at least %d are needed: raise it with ulimit -n or LimitNOFILE", errFewFiles, files, leastFiles)
	}
	l := &d.o.limits
	if wanted := l.tcp.Connections + l.http.Connections; l.fitFiles(int(min(files, 1<<30))) {
		d.log.Warn("the limit on open files is below the limits on connections, which are lowered: raise it with ulimit -n or LimitNOFILE",
			"files", files, "needed", wanted+reservedFiles, "tcp-max-connections", l.tcp.Connections, "http-max-connections", l.http.Connections)
	}
	return nil
}

// fitFiles lowers the limits on connections to what so many files, at least
// leastFiles, allow. It reports whether it had to. No address gets more than
// half of what is left.
func (l *limits) fitFiles(files int) bool {
	room, wanted := files-reservedFiles, l.tcp.Connections+l.http.Connections
	if wanted <= room {
		return false
	}
	l.http.Connections = min(l.http.Connections, max(room*l.http.Connections/wanted, room/4))
	l.tcp.Connections = min(l.tcp.Connections, room-l.http.Connections)
	l.http.ConnectionsPerAddress = min(l.http.ConnectionsPerAddress, max(1, l.http.Connections/2))
	l.tcp.ConnectionsPerAddress = min(l.tcp.ConnectionsPerAddress, max(1, l.tcp.Connections/2))
	return true
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
