package e2e_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lookupd/lookupd/supervisor"
)

// hostileLimits make the limits small enough to be met in seconds by one
// machine; only the numbers differ from those that operators have.
func hostileLimits() []string {
	return []string{
		"-tcp-max-connections=100", "-tcp-max-connections-per-address=40", "-tcp-accept-rate=100", "-tcp-accept-burst=200",
		"-http-max-connections=300", "-http-max-connections-per-address=40",
		"-tcp-magic-timeout=2s", "-tcp-identify-timeout=2s", "-tcp-line-timeout=1s", "-tcp-body-timeout=1s", "-tcp-write-timeout=1s",
		"-http-header-timeout=1s", "-http-read-timeout=1s", "-http-write-timeout=1s",
		"-peer-handshake-timeout=1s",
		"-max-topics=1000", "-max-channels-per-topic=50", "-max-registrations-per-producer=100", "-max-registrations=3000",
	}
}

// TestHostileClients: whatever one client, or many, do on any port, the lookups
// of the others stay right and fast, and no producer is dropped.
func TestHostileClients(t *testing.T) {
	w := newWorld(t)
	c := w.cluster(3, hostileLimits()...)
	good := newGoodFleet(t, c.Peers)
	for _, b := range []behaviour{
		{name: "X1 silent connections from one address", attack: silence, proof: []string{"tcp,connections", "http,connections", "tcp,timeout"}},
		{name: "X2 magic only, from many addresses", attack: magicOnly, proof: []string{"tcp,connections", "tcp,timeout"}, full: true},
		{name: "X3 no handshake on the peer port", attack: noHandshake, proof: []string{"peer,connections"}, restartLeader: true},
		{name: "X4 slowloris on every port", attack: slowloris, proof: []string{"V1 cut", "HTTP cut", "peer cut"}},
		{name: "X5 endless bodies", attack: endlessBodies, proof: []string{"http,body_too_big", "413", "tcp,timeout"}},
		{name: "X6 clients that never read", attack: neverRead, proof: []string{"V1 floods", "HTTP floods"}},
		{name: "X7 connect, IDENTIFY, close", attack: hello, proof: []string{"IDENTIFY"}, restartLeader: true},
		{name: "X8 registering to every limit", attack: registerAll, proof: []string{"E_LIMIT", "OK"}},
		{name: "X9 slow readers of large answers", attack: slowReaders, proof: []string{"readers"}},
		{name: "X10 lookups of absent topics", attack: absentTopics, proof: []string{"404"}},
		{name: "X14 garbage at the gossip port", attack: garbage, proof: []string{"packets"}},
	} {
		t.Run(b.name, func(t *testing.T) { hostilities(t, c, good, b) })
	}
	sameState(t, c)
}

// sourceOf is one of the attackers' addresses: none is a good client's.
func sourceOf(i int) string { return fmt.Sprintf("127.66.%d.%d", i/250, 1+i%250) }

// target is the peer whose turn it is.
func (a *attacker) target(i int) *supervisor.Peer { return a.peers[i%len(a.peers)] }

// silence opens connections to V1 and HTTP and says nothing.
func silence(ctx context.Context, a *attacker) {
	a.crowd(ctx, 6, 1200*hostileScale(), func(ctx context.Context, i int) {
		address := a.target(i).TCPAddress()
		if i >= 3 {
			address = a.target(i).HTTPAddress()
		}
		if c, err := a.dial(ctx, sourceOf(0), address); err == nil {
			a.work.Go(func() { a.hold(ctx, c) })
		}
	})
}

func magicOnly(ctx context.Context, a *attacker) {
	a.crowd(ctx, 6, 3000*hostileScale(), func(ctx context.Context, i int) {
		c, err := a.dial(ctx, sourceOf(mathrand.IntN(64)), a.target(i).TCPAddress())
		if err != nil {
			return
		}
		if _, err := io.WriteString(c, "  V1"); err == nil {
			a.work.Go(func() { a.hold(ctx, c) })
		}
	})
}

func noHandshake(ctx context.Context, a *attacker) {
	a.crowd(ctx, 3, 300*hostileScale(), func(ctx context.Context, i int) {
		if c, err := a.dial(ctx, sourceOf(0), peerAddress(a.target(i))); err == nil {
			a.work.Go(func() { a.hold(ctx, c) })
		}
	})
}

func peerAddress(p *supervisor.Peer) string { return supervisor.Address(p.Ports().Peer) }

// slowloris sends a byte now and then, too slowly for any limit.
func slowloris(ctx context.Context, a *attacker) {
	for port, does := range map[string]struct {
		address func(*supervisor.Peer) string
		first   string
	}{
		"V1":   {(*supervisor.Peer).TCPAddress, "  V1PIN"},
		"HTTP": {(*supervisor.Peer).HTTPAddress, "GET /topics HTTP/1.1\r\nHost: a\r\nX: "},
		"peer": {peerAddress, "l"},
	} {
		a.crowd(ctx, 60, 60, func(ctx context.Context, i int) {
			c, err := a.dial(ctx, sourceOf(1+i%3), does.address(a.target(i)))
			if err != nil {
				return
			}
			defer c.Close()
			text := does.first
			for ctx.Err() == nil {
				if _, err := io.WriteString(c, text); err != nil {
					a.count(port + " cut")
					return
				}
				text = "x"
				select {
				case <-ctx.Done():
				case <-time.After(200 * time.Millisecond): // as slow as it is to be
				}
			}
		})
	}
}

func endlessBodies(ctx context.Context, a *attacker) {
	chunk := fmt.Sprintf("%x\r\n%s\r\n", 4096, strings.Repeat("x", 4096))
	a.crowd(ctx, 30, 300*hostileScale(), func(ctx context.Context, i int) {
		c, err := a.dial(ctx, sourceOf(i%3), a.target(i).HTTPAddress())
		if err != nil {
			return
		}
		defer c.Close()
		text := "POST /topic/create?topic=x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
		for ctx.Err() == nil {
			if _, err := io.WriteString(c, text); err != nil {
				a.count("HTTP cut")
				return
			}
			text = chunk
			if status := statusOf(c, time.Millisecond); status != "" {
				a.count(status)
				return
			}
		}
	})
	a.crowd(ctx, 3, 300*hostileScale(), func(ctx context.Context, i int) {
		c, err := a.dial(ctx, sourceOf(i), a.target(i).TCPAddress())
		if err != nil {
			return
		}
		if _, err := io.WriteString(c, "  V1IDENTIFY\n\x00\x01\x00\x00"+strings.Repeat("x", 60<<10)); err == nil {
			a.work.Go(func() { a.hold(ctx, c) })
		}
	})
}

// statusOf returns the status of an HTTP answer, or "" if none comes in time.
func statusOf(c net.Conn, within time.Duration) string {
	if c.SetReadDeadline(time.Now().Add(within)) != nil {
		return ""
	}
	line := make([]byte, len("HTTP/1.1 200"))
	if _, err := io.ReadFull(c, line); err != nil {
		return ""
	}
	return string(line[len("HTTP/1.1 "):])
}

// neverRead asks, on V1 and on HTTP, and leaves the answers where they are.
func neverRead(ctx context.Context, a *attacker) {
	flood := func(port string, address func(*supervisor.Peer) string, first, text string) {
		a.crowd(ctx, 9, 9, func(ctx context.Context, i int) {
			c, err := a.dial(ctx, sourceOf(i), address(a.target(i)))
			if err != nil {
				return
			}
			defer c.Close()
			if socket, ok := c.(*net.TCPConn); ok {
				_ = socket.SetReadBuffer(4096) // less is better, not needed
			}
			block := first
			for ctx.Err() == nil {
				if err := c.SetWriteDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
					return
				}
				_, err := io.WriteString(c, block)
				var netErr net.Error
				switch {
				case err == nil:
					a.count(port + " floods")
				case !errors.As(err, &netErr) || !netErr.Timeout():
					a.count(port + " cut")
					return
				}
				block = strings.Repeat(text, 200)
			}
		})
	}
	flood("V1", (*supervisor.Peer).TCPAddress, "  V1", "PING\n")
	flood("HTTP", (*supervisor.Peer).HTTPAddress, "", "GET /topics HTTP/1.1\r\nHost: a\r\n\r\n")
}

func hello(ctx context.Context, a *attacker) {
	a.crowd(ctx, 6, 1200*hostileScale(), func(ctx context.Context, i int) {
		c, err := a.dial(ctx, sourceOf(i), a.target(i).TCPAddress())
		if err != nil {
			return
		}
		defer c.Close()
		if newV1Conn(c).identify(fmt.Sprintf("hello-%d", mathrand.IntN(1000)), fakePort) == nil {
			a.count("IDENTIFY")
		}
	})
}

// registerAll registers names until nothing more is taken, alone and as a crowd.
func registerAll(ctx context.Context, a *attacker) {
	a.crowd(ctx, 60, 60, func(ctx context.Context, i int) {
		raw, err := a.dial(ctx, sourceOf(i), a.target(i).TCPAddress())
		if err != nil {
			return
		}
		defer raw.Close()
		c := newV1Conn(raw)
		if c.identify(fmt.Sprintf("greedy-%d", i), fakePort) != nil {
			return
		}
		for n := 0; ctx.Err() == nil; n++ {
			topic := fmt.Sprintf("greedy-%d-%d", i, n)
			if i%10 == 0 { // channels of one topic
				topic = fmt.Sprintf("greedy c%d-%d", i, n)
			}
			answer, err := c.call("REGISTER " + topic + "\n")
			if err != nil {
				a.count("cut")
				return
			}
			word, _, _ := strings.Cut(answer, " ")
			a.count(word)
		}
	})
	a.crowd(ctx, 2, 100, func(ctx context.Context, i int) {
		status, _, err := try(ctx, http.MethodPost, a.target(i).URL(fmt.Sprintf("/channel/create?topic=posted&channel=%d", mathrand.IntN(1000))), "", "")
		if err == nil {
			a.count(fmt.Sprint(status))
		}
	})
}

// slowReaders take large answers a few bytes at a time.
func slowReaders(ctx context.Context, a *attacker) {
	paths := []string{"/nodes", "/topics", "/debug"}
	a.crowd(ctx, 90, 90*hostileScale(), func(ctx context.Context, i int) {
		c, err := a.dial(ctx, sourceOf(i), a.target(i).HTTPAddress())
		if err != nil {
			return
		}
		defer c.Close()
		if socket, ok := c.(*net.TCPConn); ok {
			_ = socket.SetReadBuffer(4096) // less is better, not needed
		}
		if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", paths[i/3%len(paths)]); err != nil {
			return
		}
		a.count("readers")
		few := make([]byte, 64)
		for ctx.Err() == nil {
			if c.SetReadDeadline(time.Now().Add(answerTimeout)) != nil {
				return
			}
			if _, err := c.Read(few); err != nil {
				a.count("cut")
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond): // as slow as it is to be
			}
		}
	})
}

func absentTopics(ctx context.Context, a *attacker) {
	client := &http.Client{Timeout: answerTimeout, Transport: &http.Transport{MaxIdleConnsPerHost: 8}}
	defer client.CloseIdleConnections()
	a.crowd(ctx, 12, 1000*hostileScale(), func(ctx context.Context, i int) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, a.target(i).URL(fmt.Sprint("/lookup?topic=absent-", mathrand.IntN(1_000_000))), nil)
		if err != nil {
			return
		}
		response, err := client.Do(request)
		if err != nil {
			return
		}
		defer response.Body.Close()
		_, _ = io.Copy(io.Discard, response.Body) // so that the connection serves again
		a.count(fmt.Sprint(response.StatusCode))
	})
	<-ctx.Done()
}

func garbage(ctx context.Context, a *attacker) {
	noise := make([]byte, 60_000)
	_, _ = rand.Read(noise) // never fails
	a.crowd(ctx, 3, 300*hostileScale(), func(ctx context.Context, i int) {
		c, err := net.Dial("udp", a.target(i).GossipAddress())
		if err != nil {
			return
		}
		defer c.Close()
		for _, size := range []int{0, 1, 1 + mathrand.IntN(1400), mathrand.IntN(len(noise))} {
			from := mathrand.IntN(len(noise) - size)
			packet := noise[from : from+size]
			if size > 1 {
				packet[0] = byte(mathrand.IntN(16)) // a kind of message that there is
			}
			if _, err := c.Write(packet); err == nil {
				a.count("packets")
			}
		}
	})
}
