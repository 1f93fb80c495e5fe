package peer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/lookupd/lookupd/peer"
	"github.com/lookupd/lookupd/peer/peerpb"
	"github.com/lookupd/lookupd/registry"
)

func hello(change func(*peerpb.Hello)) *peerpb.Hello {
	h := &peerpb.Hello{
		MinProtocol: 1, MaxProtocol: 1, Kind: peerpb.Kind_KIND_CALLS,
		ClusterId: cluster, From: "b-00000002", To: "a-00000001", Epoch: 1, RunId: runID('b'),
	}
	change(h)
	return h
}

// runID is one that no process draws.
func runID(of byte) []byte { return bytes.Repeat([]byte{of}, 16) }

func TestHandshakeRefuses(t *testing.T) {
	removed := func(c *peer.Config) {
		c.Refuse = func(n registry.NodeID) bool { return n == "gone-00000009" }
	}
	n := newAddresses().open(t, "a-00000001", &handler{}, removed, atEpoch(7))
	for name, c := range map[string]struct {
		hello *peerpb.Hello
		want  peerpb.Refusal
	}{
		"nothing wrong":                {hello(func(*peerpb.Hello) {}), peerpb.Refusal_REFUSAL_NONE},
		"raft":                         {hello(func(h *peerpb.Hello) { h.Kind = peerpb.Kind_KIND_RAFT }), peerpb.Refusal_REFUSAL_NONE},
		"fresh":                        {hello(func(h *peerpb.Hello) { h.ClusterId = "" }), peerpb.Refusal_REFUSAL_NONE},
		"whoever":                      {hello(func(h *peerpb.Hello) { h.To = "" }), peerpb.Refusal_REFUSAL_NONE},
		"newer and mine":               {hello(func(h *peerpb.Hello) { h.MaxProtocol = 9 }), peerpb.Refusal_REFUSAL_NONE},
		"R2 foreign cluster id":        {hello(func(h *peerpb.Hello) { h.ClusterId = "cluster-2" }), peerpb.Refusal_REFUSAL_FOREIGN_CLUSTER},
		"R11 dialled for another peer": {hello(func(h *peerpb.Hello) { h.To = "c-00000003" }), peerpb.Refusal_REFUSAL_WRONG_PEER},
		"raft with whoever":            {hello(func(h *peerpb.Hello) { h.To, h.Kind = "", peerpb.Kind_KIND_RAFT }), peerpb.Refusal_REFUSAL_WRONG_PEER},
		"fresh raft":                   {hello(func(h *peerpb.Hello) { h.ClusterId, h.Kind = "", peerpb.Kind_KIND_RAFT }), peerpb.Refusal_REFUSAL_NO_CLUSTER},
		"R10 removed peer":             {hello(func(h *peerpb.Hello) { h.From = "gone-00000009" }), peerpb.Refusal_REFUSAL_REMOVED},
		"too new":                      {hello(func(h *peerpb.Hello) { h.MinProtocol, h.MaxProtocol = 2, 3 }), peerpb.Refusal_REFUSAL_PROTOCOL_VERSION},
		"too old":                      {hello(func(h *peerpb.Hello) { h.MinProtocol, h.MaxProtocol = 0, 0 }), peerpb.Refusal_REFUSAL_PROTOCOL_VERSION},
		"no id":                        {hello(func(h *peerpb.Hello) { h.From = "" }), peerpb.Refusal_REFUSAL_MALFORMED},
		"long id":                      {hello(func(h *peerpb.Hello) { h.From = strings.Repeat("x", 129) }), peerpb.Refusal_REFUSAL_MALFORMED},
		"unknown kind":                 {hello(func(h *peerpb.Hello) { h.Kind = 77 }), peerpb.Refusal_REFUSAL_MALFORMED},
		"no run id":                    {hello(func(h *peerpb.Hello) { h.RunId = nil }), peerpb.Refusal_REFUSAL_MALFORMED},
		"long run id":                  {hello(func(h *peerpb.Hello) { h.RunId = make([]byte, 17) }), peerpb.Refusal_REFUSAL_MALFORMED},
		"my id, my epoch":              {hello(func(h *peerpb.Hello) { h.From, h.Epoch = "a-00000001", 7 }), peerpb.Refusal_REFUSAL_DUPLICATE_ID},
		"my id, other epoch":           {hello(func(h *peerpb.Hello) { h.From, h.Epoch = "a-00000001", 8 }), peerpb.Refusal_REFUSAL_WRONG_PEER},
	} {
		t.Run(name, func(t *testing.T) {
			conn := dialRaw(t, n.Addr())
			if err := peer.WriteHello(conn, c.hello); err != nil {
				t.Fatal(err)
			}
			welcome, err := peer.ReadWelcome(conn)
			if err != nil {
				t.Fatal(err)
			}
			if welcome.GetRefusal() != c.want || welcome.GetNodeId() != "a-00000001" {
				t.Fatalf("got %v, want %v", welcome, c.want)
			}
			if c.want != peerpb.Refusal_REFUSAL_NONE {
				ends(t, conn)
			} else if welcome.GetEpoch() != 7 || welcome.GetClusterId() != cluster || welcome.GetProtocol() != 1 {
				t.Fatalf("got %v", welcome)
			}
		})
	}
}

func TestHandshakeRefusesFreshPeerOfRaft(t *testing.T) {
	n := newAddresses().open(t, "a-00000001", &handler{}, inCluster(""))
	conn := dialRaw(t, n.Addr())
	if err := peer.WriteHello(conn, hello(func(h *peerpb.Hello) { h.Kind = peerpb.Kind_KIND_RAFT })); err != nil {
		t.Fatal(err)
	}
	if w, err := peer.ReadWelcome(conn); err != nil || w.GetRefusal() != peerpb.Refusal_REFUSAL_NO_CLUSTER {
		t.Fatalf("got %v, %v", w, err)
	}
}

func epochs(t *testing.T) {
	n := newAddresses().open(t, "a-00000001", &handler{})
	say := func(epoch uint64, clusterID string) (welcome *peerpb.Welcome, end func()) {
		t.Helper()
		conn := dialRaw(t, n.Addr())
		err := peer.WriteHello(conn, hello(func(h *peerpb.Hello) { h.Epoch, h.ClusterId = epoch, clusterID }))
		if err != nil {
			t.Fatal(err)
		}
		welcome, err = peer.ReadWelcome(conn)
		if err != nil {
			t.Fatal(err)
		}
		return welcome, func() { ends(t, conn) }
	}
	accepted := func(w *peerpb.Welcome) {
		t.Helper()
		if w.GetRefusal() != peerpb.Refusal_REFUSAL_NONE {
			t.Fatalf("refused: %v", w.GetRefusal())
		}
	}
	w, _ := say(90, "") // a foreigner's word is not kept
	accepted(w)
	w, first := say(4, cluster)
	accepted(w)
	w, _ = say(4, cluster)
	accepted(w)
	w, _ = say(5, cluster)
	accepted(w)
	first() // of the older life
	if w, _ = say(4, cluster); w.GetRefusal() != peerpb.Refusal_REFUSAL_OLD_EPOCH {
		t.Fatalf("got %v", w)
	}
}

// TestEpochsOfEarlierRuns: what was known before this process started counts.
func TestEpochsOfEarlierRuns(t *testing.T) {
	var mu sync.Mutex
	var told []string
	n := newAddresses().open(t, "a-00000001", &handler{}, func(c *peer.Config) {
		c.Epochs = map[registry.NodeID]uint64{"b-00000002": 5}
		c.SawEpoch = func(node registry.NodeID, epoch uint64) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, fmt.Sprint(node, " ", epoch))
		}
	})
	say := func(change func(*peerpb.Hello)) peerpb.Refusal { return greet(t, n, change).GetRefusal() }
	at := func(epoch uint64) func(*peerpb.Hello) {
		return func(h *peerpb.Hello) { h.Epoch = epoch }
	}
	for _, c := range []struct {
		hello func(*peerpb.Hello)
		want  peerpb.Refusal
	}{
		{at(4), peerpb.Refusal_REFUSAL_OLD_EPOCH},
		{at(5), peerpb.Refusal_REFUSAL_NONE},
		{func(h *peerpb.Hello) { h.Epoch, h.ClusterId = 99, "" }, peerpb.Refusal_REFUSAL_NONE},
		{at(6), peerpb.Refusal_REFUSAL_NONE},
		{at(6), peerpb.Refusal_REFUSAL_NONE},
		{at(5), peerpb.Refusal_REFUSAL_OLD_EPOCH},
		{func(h *peerpb.Hello) { h.From = "c-00000003" }, peerpb.Refusal_REFUSAL_NONE},
	} {
		if got := say(c.hello); got != c.want {
			t.Fatalf("got %v, want %v", got, c.want)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if want := []string{"b-00000002 6", "c-00000003 1"}; !slices.Equal(told, want) {
		t.Fatalf("told of %q, want %q", told, want)
	}
}

// greet opens a connection as b-00000002, with changes, and keeps it open.
func greet(t *testing.T, n *peer.Network, change func(*peerpb.Hello)) *peerpb.Welcome {
	t.Helper()
	w, _ := greetOn(t, n, change)
	return w
}

func greetOn(t *testing.T, n *peer.Network, change func(*peerpb.Hello)) (*peerpb.Welcome, net.Conn) {
	t.Helper()
	conn := dialRaw(t, n.Addr())
	if err := peer.WriteHello(conn, hello(change)); err != nil {
		t.Fatal(err)
	}
	w, err := peer.ReadWelcome(conn)
	if err != nil {
		t.Fatal(err)
	}
	return w, conn
}

// TestTwoProcessesOfOneIdentity: both run from copies of a data directory, so
// their epochs are equal.
func TestTwoProcessesOfOneIdentity(t *testing.T) {
	lines := &lockedBuffer{}
	logTo := func(c *peer.Config) { c.Logger = slog.New(slog.NewTextHandler(lines, nil)) }
	known := newAddresses()
	a := known.open(t, "a-00000001", &handler{}, logTo)
	first := known.open(t, "b-00000002", &handler{})
	if _, err := forward(within(t, soon), a, "b-00000002", "x"); err != nil {
		t.Fatal(err)
	}
	second := known.open(t, "b-00000002", &handler{}) // takes the address
	for range 3 {
		if _, err := forward(within(t, soon), second, "a-00000001", "x"); !errors.Is(err, peer.ErrDuplicateID) {
			t.Fatalf("the second process was let in: %v", err)
		}
	}
	a.CloseConnections("b-00000002")
	if _, err := forward(within(t, soon), a, "b-00000002", "x"); !errors.Is(err, peer.ErrDuplicateID) {
		t.Fatalf("the second process was called: %v", err)
	}
	if _, err := forward(within(t, soon), first, "a-00000001", "x"); err != nil {
		t.Fatalf("the first process: %v", err)
	}
	if _, err := forward(within(t, soon), second, "b-00000002", "x"); err != nil {
		t.Fatalf("a call to itself: %v", err)
	}
	if n := strings.Count(lines.String(), "two processes run with one identity"); n != 1 {
		t.Fatalf("logged %d times:\n%s", n, lines.String())
	}
	// A later start of it is another life.
	if w := greet(t, a, func(h *peerpb.Hello) { h.Epoch = 2 }); w.GetRefusal() != peerpb.Refusal_REFUSAL_NONE {
		t.Fatalf("got %v", w)
	}
}

// lockedBuffer is a buffer for log lines of many goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestDialerChecksTheAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		there func(*peer.Config)
		want  error
	}{
		"R2 foreign cluster":       {inCluster("cluster-2"), peer.ErrForeignCluster},
		"R11 another peer answers": {func(c *peer.Config) { c.Node = "c-00000003" }, peer.ErrWrongPeer},
		"we are removed": {
			func(c *peer.Config) { c.Refuse = func(registry.NodeID) bool { return true } }, peer.ErrRemoved,
		},
	} {
		t.Run(name, func(t *testing.T) {
			known := newAddresses()
			a := known.open(t, "a-00000001", &handler{})
			b := known.open(t, "b-00000002", &handler{}, c.there)
			known.set("b-00000002", b.Addr())
			_, err := forward(within(t, soon), a, "b-00000002", "x")
			if !errors.Is(err, peer.ErrUnreachable) || !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			eventually(t, func() error { // counted after the refusal was sent
				if refused := b.Refused(); refused != 1 {
					return fmt.Errorf("%d refused connections were counted", refused)
				}
				return nil
			})
		})
	}
}

func TestDialerRefusesRemovedAndOlderPeer(t *testing.T) {
	known := newAddresses()
	removed := registry.NodeID("")
	a := known.open(t, "a-00000001", &handler{}, func(c *peer.Config) {
		c.Refuse = func(n registry.NodeID) bool { return n == removed }
	})
	b := known.open(t, "b-00000002", &handler{}, atEpoch(2))
	if _, err := forward(within(t, soon), a, "b-00000002", "x"); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	known.open(t, "b-00000002", &handler{}, atEpoch(1)) // a restored copy
	eventually(t, func() error {
		_, err := forward(within(t, soon), a, "b-00000002", "x")
		if !errors.Is(err, peer.ErrOldEpoch) || !errors.Is(err, peer.ErrUnreachable) {
			return fmt.Errorf("got %w", err)
		}
		return nil
	})
	removed = "b-00000002"
	if _, err := forward(within(t, soon), a, "b-00000002", "x"); !errors.Is(err, peer.ErrRemoved) {
		t.Fatalf("got %v", err)
	}
}

func TestFreshPeersCallButDoNotRaft(t *testing.T) {
	known := newAddresses()
	a := known.open(t, "a-00000001", &handler{}, inCluster(""))
	b := known.open(t, "b-00000002", &handler{})
	ctx := within(t, soon)
	for from, to := range map[*peer.Network]registry.NodeID{a: "b-00000002", b: "a-00000001"} {
		resp, err := from.Agree(ctx, to, &peerpb.AgreeRequest{Expect: 3})
		if err != nil || resp.GetExpect() != 3 {
			t.Fatalf("got %v, %v", resp, err)
		}
	}
	for from, to := range map[*peer.Network]string{a: "b-00000002", b: "a-00000001"} {
		err := from.Transport().RequestVote(raft.ServerID(to), raft.ServerAddress(to),
			&raft.RequestVoteRequest{Term: 1}, &raft.RequestVoteResponse{})
		if !errors.Is(err, peer.ErrNoCluster) {
			t.Fatalf("got %v", err)
		}
	}
}

func TestBytesThatAreNoHandshake(t *testing.T) {
	n := newAddresses().open(t, "a-00000001", &handler{})
	whole := &bytes.Buffer{}
	if err := peer.WriteHello(whole, hello(func(*peerpb.Hello) {})); err != nil {
		t.Fatal(err)
	}
	for name, sent := range map[string]string{
		"R3 silence":          "",
		"R3 half a handshake": whole.String()[:whole.Len()/2],
		"R3 half a header":    peer.HelloMagic,
		"R1 garbage":          strings.Repeat("\xff", 100),
		"R1 HTTP":             "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"R1 V1":               "  V1PING\n",
		"R1 TLS hello":        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"R4 length too large": peer.HelloMagic + "\xff\xff" + strings.Repeat("x", 70000),
		"R4 no protobuf":      peer.HelloMagic + "\x00\x03\xff\xff\xff",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := dialRaw(t, n.Addr())
			begin := time.Now()
			if _, err := io.WriteString(conn, sent); err != nil && !strings.Contains(err.Error(), "reset") {
				t.Fatal(err)
			}
			ends(t, conn)
			if took := time.Since(begin); took > soon/2 {
				t.Fatalf("closed after %v", took)
			}
		})
	}
}

// silentConnections fills all places for handshakes.
func silentConnections(t *testing.T) {
	known := newAddresses()
	n := known.open(t, "a-00000001", &handler{})
	b := known.open(t, "b-00000002", &handler{})
	for range 1000 {
		dialRaw(t, n.Addr())
	}
	eventually(t, func() error {
		_, err := forward(within(t, soon), b, "a-00000001", "x")
		return err
	})
	if n.Refused() == 0 {
		t.Fatal("no connection above the limit was refused")
	}
}

func TestHTTPClientGetsAnError(t *testing.T) {
	n := newAddresses().open(t, "a-00000001", &handler{})
	req, err := http.NewRequestWithContext(within(t, soon), http.MethodGet, "http://"+n.Addr()+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err == nil {
		_ = resp.Body.Close()
		t.Fatal("the peer port speaks HTTP")
	}
	if errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
}
