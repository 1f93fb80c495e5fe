//go:build !linux

package tcpproto

import (
	"net"
	"time"
)

// setUserTimeout does nothing: keep-alive and write deadlines must do.
func setUserTimeout(*net.TCPConn, time.Duration) error { return nil }
