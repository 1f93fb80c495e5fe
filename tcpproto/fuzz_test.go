package tcpproto_test

import (
	"errors"
	"io"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/lookupd/lookupd/tcpproto"
)

// FuzzStream sends any bytes and then the end of the connection. The server
// must answer with whole frames of known kinds, say nothing after an error, and
// close.
func FuzzStream(f *testing.F) {
	server := serve(f, &sessions{}, tcpproto.Limits{}, nil)
	for _, seed := range []string{
		"  V1", "  V1PING\n", "GET / HTTP/1.1\r\n\r\n", "  V1 \t\nPING\n",
		"  V1" + identifyWith(nsqd) + "REGISTER t c\nUNREGISTER t c\nUNREGISTER t  c\nPING\n",
		"  V1" + identifyWith(nsqd) + "IDENTIFY\n\x00\x00",
		"  V1IDENTIFY\n\xff\xff\xff\xff", "  V1" + identifyWith(`{"tcp_port":1e3}`),
	} {
		f.Add([]byte(seed))
	}
	codes := []string{"E_BAD_PROTOCOL", "E_INVALID", "E_BAD_TOPIC", "E_BAD_CHANNEL", "E_BAD_BODY"}
	f.Fuzz(func(t *testing.T, input []byte) {
		c := dial(t, server)
		defer func() { _ = c.Close() }()
		go func() {
			_, _ = c.Write(input)
			_ = c.CloseWrite()
		}()
		for over := false; ; {
			answer, err := c.frame()
			if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) && len(input) > 64<<10 {
				return
			}
			if err != nil {
				t.Fatalf("input %q: %v", input, err)
			}
			code, _, _ := strings.Cut(answer, " ")
			switch {
			case over:
				t.Fatalf("input %q: %q after an error", input, answer)
			case answer == "OK", strings.HasPrefix(answer, `{"broadcast_address":`):
			case slices.Contains(codes, code):
				over = true
			default:
				t.Fatalf("input %q: unknown answer %q", input, answer)
			}
		}
	})
}
