package tcpproto_test

import (
	"net"
	"testing"
	"time"

	"github.com/lookupd/lookupd/tcpproto"
)

// connectFrom opens a connection from a source address.
func connectFrom(t *testing.T, server *tcpproto.Server, source string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
	c, err := d.DialContext(t.Context(), "tcp", server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestOneAddressDoesNotKeepOthersWaiting: neither connections that are refused
// nor those of one address use up what all may do in a second.
func TestOneAddressDoesNotKeepOthersWaiting(t *testing.T) {
	for name, test := range map[string]struct {
		limits  tcpproto.Limits
		close   bool // each connection at once
		refused string
	}{
		"above its connections": {tcpproto.Limits{Accepts: 5, AcceptBurst: 20, ConnectionsPerAddress: 2}, false, "connections"},
		"above its rate":        {tcpproto.Limits{Accepts: 5, AcceptBurst: 20, ConnectionsPerAddress: 8}, true, "rate"},
	} {
		t.Run(name, func(t *testing.T) {
			server := serve(t, &sessions{}, test.limits, nil)
			const attempts = 200 // 40 s at the rate of all
			for range attempts {
				if c := connectFrom(t, server, "127.0.0.2"); test.close {
					_ = c.Close()
					// Else those that are still open are too many, some of the times.
					eventually(t, "the connection is gone", func() bool { return server.Stats().Connections == 0 })
				}
			}
			began := time.Now()
			good := dial(t, server)
			good.send("  V1PING\n")
			good.want("OK")
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("another address waited %v", took)
			}
			if n := server.Stats().Refused[test.refused]; n < attempts/2 {
				t.Errorf("%d refused: %v", n, server.Stats().Refused)
			}
		})
	}
}
