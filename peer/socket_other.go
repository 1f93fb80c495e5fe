//go:build !linux

package peer

import (
	"net"
	"time"
)

// setUserTimeout does nothing: keep-alive and deadlines must do.
func setUserTimeout(net.Conn, time.Duration) error { return nil }
