package peer_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lookupd/lookupd/peer"
	"github.com/lookupd/lookupd/peer/peerpb"
	"github.com/lookupd/lookupd/registry"
)

func pair(t *testing.T, there *handler) (a *peer.Network, known *addresses) {
	t.Helper()
	known = newAddresses()
	known.open(t, "b-00000002", there)
	return known.open(t, "a-00000001", &handler{}), known
}

func TestEveryCall(t *testing.T) {
	a, known := pair(t, &handler{})
	const b = registry.NodeID("b-00000002")
	addr, _ := known.resolve(b)
	ctx := within(t, soon)

	if got, err := forward(ctx, a, b, "batch"); err != nil || got != "batch" {
		t.Fatalf("forward: %q, %v", got, err)
	}
	if r, err := a.ReadIndex(ctx, b, &peerpb.ReadIndexRequest{Term: 4}); err != nil || r.GetIndex() != 5 {
		t.Fatalf("read index: %v, %v", r, err)
	}
	if r, err := a.Confirm(ctx, b, &peerpb.ConfirmRequest{Term: 4}); err != nil || !r.GetOk() || r.GetTerm() != 4 {
		t.Fatalf("confirm: %v, %v", r, err)
	}
	if r, err := a.Remove(ctx, b, &peerpb.RemoveRequest{NodeId: "x"}); err != nil || r.GetLeaderId() != "x" {
		t.Fatalf("remove: %v, %v", r, err)
	}
	if r, err := a.Transfer(ctx, b, &peerpb.TransferRequest{To: "x"}); err != nil || r.GetLeaderId() != "x" {
		t.Fatalf("transfer: %v, %v", r, err)
	}
	if r, err := a.Autopilot(ctx, b, &peerpb.AutopilotRequest{}); err != nil || r.GetLeaderId() != "a-00000001" {
		t.Fatalf("autopilot: %v, %v", r, err)
	}
	if r, err := a.Status(ctx, b, &peerpb.StatusRequest{}); err != nil || r.GetName() != "a-00000001" {
		t.Fatalf("status does not know who asks: %v, %v", r, err)
	}
	if r, err := a.JoinAt(ctx, addr, &peerpb.JoinRequest{NodeId: "x"}); err != nil || r.GetLeaderId() != "x" {
		t.Fatalf("join: %v, %v", r, err)
	}
	if r, err := a.Agree(ctx, b, &peerpb.AgreeRequest{Members: []string{"x", "y"}}); err != nil || len(r.GetNodeIds()) != 2 {
		t.Fatalf("agree: %v, %v", r, err)
	}
}

func TestCallToSelf(t *testing.T) {
	a := newAddresses().open(t, "a-00000001", &handler{})
	r, err := a.JoinAt(within(t, soon), a.Addr(), &peerpb.JoinRequest{NodeId: "a-00000001"})
	if err != nil || r.GetLeaderId() != "a-00000001" {
		t.Fatalf("got %v, %v", r, err)
	}
}

func TestConcurrentCalls(t *testing.T) {
	const calls = 2000
	all := make(chan struct{})
	var mu sync.Mutex
	arrived := 0
	a, _ := pair(t, &handler{forward: func(ctx context.Context, r *peerpb.ForwardRequest) *peerpb.ForwardResponse {
		mu.Lock()
		if arrived++; arrived == calls {
			close(all)
		}
		mu.Unlock()
		select {
		case <-all:
		case <-ctx.Done():
		}
		return &peerpb.ForwardResponse{Results: r.GetBatch()}
	}})
	ctx := within(t, 2*soon)
	errs := make(chan error, calls)
	for i := range calls {
		go func() {
			want := fmt.Sprint("batch ", i)
			got, err := forward(ctx, a, "b-00000002", want)
			if err == nil && got != want {
				err = fmt.Errorf("got %q, want %q", got, want)
			}
			errs <- err
		}()
	}
	for range calls {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
}

func TestLargeMessages(t *testing.T) {
	a, _ := pair(t, &handler{})
	ctx := within(t, soon)
	fits := strings.Repeat("x", peer.MaxMessage-100)
	if got, err := forward(ctx, a, "b-00000002", fits); err != nil || got != fits {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if _, err := forward(ctx, a, "b-00000002", fits+fits); !errors.Is(err, peer.ErrTooLarge) {
		t.Fatalf("got %v", err)
	}
	if _, err := forward(ctx, a, "b-00000002", "small"); err != nil {
		t.Fatalf("after one that was too large: %v", err)
	}
}

// TestLossDuringCall: whoever does not know whether a batch was proposed must
// not be told that it was not.
func TestLossDuringCall(t *testing.T) {
	for name, lose := range map[string]func(a, b *peer.Network) error{
		"the other side stops": func(_, b *peer.Network) error { return b.Close() },
		"we stop":              func(a, _ *peer.Network) error { return a.Close() },
		"connections closed here": func(a, _ *peer.Network) error {
			a.CloseConnections("b-00000002")
			return nil
		},
		"connections closed there": func(_, b *peer.Network) error {
			b.CloseConnections("a-00000001")
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			known := newAddresses()
			serving, ended := make(chan struct{}), make(chan struct{})
			a := known.open(t, "a-00000001", &handler{})
			b := known.open(t, "b-00000002", &handler{
				forward: func(ctx context.Context, _ *peerpb.ForwardRequest) *peerpb.ForwardResponse {
					close(serving)
					<-ctx.Done()
					close(ended)
					return &peerpb.ForwardResponse{}
				},
			})
			result := make(chan error, 1)
			go func() {
				_, err := forward(within(t, soon), a, "b-00000002", "x")
				result <- err
			}()
			<-serving
			if err := lose(a, b); err != nil {
				t.Fatal(err)
			}
			<-ended // the handler is told
			err := <-result
			if !errors.Is(err, peer.ErrUnknownOutcome) || errors.Is(err, peer.ErrUnreachable) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

func TestUnreachable(t *testing.T) {
	known := newAddresses()
	a := known.open(t, "a-00000001", &handler{})
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	known.set("b-00000002", nobody.Addr().String())
	if err := nobody.Close(); err != nil {
		t.Fatal(err)
	}
	ctx := within(t, soon)
	for _, to := range []registry.NodeID{"b-00000002", "unknown-00000003"} {
		if _, err := forward(ctx, a, to, "x"); !errors.Is(err, peer.ErrUnreachable) || errors.Is(err, peer.ErrUnknownOutcome) {
			t.Fatalf("%s: got %v", to, err)
		}
	}
	_, err = a.JoinAt(ctx, nobody.Addr().String(), &peerpb.JoinRequest{})
	if !errors.Is(err, peer.ErrUnreachable) {
		t.Fatalf("got %v", err)
	}
}

func TestFailedDialIsNotTriedAgainAtOnce(t *testing.T) {
	known := newAddresses()
	a := peer.New(peer.Config{
		Node: "a-00000001", ClusterID: func() string { return cluster }, Resolve: known.resolve,
	})
	a.SetTimings(0, time.Hour, 0)
	t.Cleanup(func() { _ = a.Close() })
	ctx := within(t, soon)
	if _, err := forward(ctx, a, "b-00000002", "x"); !errors.Is(err, peer.ErrUnreachable) {
		t.Fatalf("got %v", err)
	}
	known.open(t, "b-00000002", &handler{})
	if _, err := forward(ctx, a, "b-00000002", "x"); !errors.Is(err, peer.ErrUnreachable) {
		t.Fatalf("got %v", err)
	}
	a.CloseConnections("b-00000002") // its address changed
	if _, err := forward(ctx, a, "b-00000002", "x"); err != nil {
		t.Fatalf("got %v", err)
	}
}

func redialAtNewAddress(t *testing.T) {
	known := newAddresses()
	a := known.open(t, "a-00000001", &handler{})
	for epoch := range uint64(3) {
		b := known.open(t, "b-00000002", &handler{}, atEpoch(epoch+1))
		eventually(t, func() error {
			_, err := forward(within(t, soon), a, "b-00000002", "x")
			return err
		})
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCallEndsWithItsContext(t *testing.T) {
	told := make(chan time.Duration, 1)
	a, _ := pair(t, &handler{
		forward: func(ctx context.Context, _ *peerpb.ForwardRequest) *peerpb.ForwardResponse {
			deadline, _ := ctx.Deadline()
			told <- time.Until(deadline)
			<-ctx.Done()
			return &peerpb.ForwardResponse{}
		},
	})
	const short = 300 * time.Millisecond
	begin := time.Now()
	// Whether the answer or the deadline comes first is open.
	if _, err := forward(within(t, short), a, "b-00000002", "x"); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if took := time.Since(begin); took < short || took > soon/2 {
		t.Fatalf("returned after %v", took)
	}
	if d := <-told; d > short {
		t.Fatalf("the handler was given %v", d)
	}

	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() {
		_, err := forward(ctx, a, "b-00000002", "x")
		result <- err
	}()
	<-told
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) || !errors.Is(err, peer.ErrUnknownOutcome) {
		t.Fatalf("got %v", err)
	}
	if _, err := forward(ctx, a, "b-00000002", "x"); !errors.Is(err, peer.ErrUnreachable) {
		t.Fatalf("nothing was sent, but got %v", err)
	}
	// The connection outlives a call that was given up.
	if _, err := a.Confirm(within(t, soon), "b-00000002", &peerpb.ConfirmRequest{}); err != nil {
		t.Fatal(err)
	}
}

// TestHungPeer talks to a peer that shakes hands and then does nothing, as one
// stopped by a signal does.
func TestHungPeer(t *testing.T) {
	known := newAddresses()
	a := known.open(t, "a-00000001", &handler{})
	a.SetTimings(0, 0, 100*time.Millisecond)
	addr, shaken := shakesHands(t)
	known.set("b-00000002", addr)

	batch := strings.Repeat("x", 1<<20) // sockets fill up soon
	for connections := 0; connections < 3; {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		begin := time.Now()
		_, err := forward(ctx, a, "b-00000002", batch)
		cancel()
		if took := time.Since(begin); took > soon/2 {
			t.Fatalf("a call of 20 ms took %v", took)
		}
		if !errors.Is(err, peer.ErrUnknownOutcome) && !errors.Is(err, peer.ErrUnreachable) {
			t.Fatalf("got %v", err)
		}
		select {
		case <-shaken: // the one before was given up
			connections++
		default:
		}
	}
}

// TestGivenUpCallIsFreedByItsAnswer: a leader that confirms its term waits for
// a majority only and gives the other calls up, thousands a second.
func TestGivenUpCallIsFreedByItsAnswer(t *testing.T) {
	const calls = 100
	arrived, answers := make(chan struct{}, calls), make(chan struct{})
	a, _ := pair(t, &handler{confirm: func(context.Context, *peerpb.ConfirmRequest) *peerpb.ConfirmResponse {
		arrived <- struct{}{}
		<-answers // although the caller has left, as a slow one does
		return &peerpb.ConfirmResponse{}
	}})
	var freed atomic.Int32
	ctx, cancel := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	for range calls {
		callers.Go(func() {
			req := &peerpb.ConfirmRequest{ClusterId: strings.Repeat("x", 100)}
			runtime.AddCleanup(req, func(struct{}) { freed.Add(1) }, struct{}{})
			if _, err := a.Confirm(ctx, "b-00000002", req); !errors.Is(err, peer.ErrUnknownOutcome) {
				t.Errorf("got %v", err)
			}
		})
	}
	for range calls {
		<-arrived
	}
	cancel()
	callers.Wait()
	close(answers)
	eventually(t, func() error {
		runtime.GC()
		if n := freed.Load(); n < calls*9/10 {
			return fmt.Errorf("%d of %d calls were freed", n, calls)
		}
		return nil
	})
}

// shakesHands tells of each connection on which it shook hands.
func shakesHands(t *testing.T) (addr string, shaken <-chan struct{}) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	each, done := make(chan struct{}, 100), make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer func() { _ = c.Close() }() // at the end of the test
			if _, err := peer.ReadHello(c); err != nil {
				continue // its dialler has stopped
			}
			if err := peer.WriteWelcome(c, &peerpb.Welcome{
				Protocol: 1, ClusterId: cluster, NodeId: "b-00000002", Epoch: 1, RunId: runID('b'),
			}); err != nil {
				continue
			}
			each <- struct{}{}
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return l.Addr().String(), each
}

// TestBytesAfterHandshake: a peer's connection that sends nonsense is closed,
// and takes memory only for what was received.
func TestBytesAfterHandshake(t *testing.T) {
	n := newAddresses().open(t, "a-00000001", &handler{})
	header := func(length uint32) string { return string(binary.BigEndian.AppendUint32(nil, length)) }
	for name, sent := range map[string]string{
		"R4 4 GB":            header(1<<32-1) + strings.Repeat("x", 1000),
		"R4 above the limit": header(peer.MaxMessage+14) + strings.Repeat("x", 1000),
		"R4 too short":       header(12) + strings.Repeat("x", 1000),
		"R4 garbage":         strings.Repeat("garbage", 1000),
	} {
		t.Run(name, func(t *testing.T) {
			conn := dialRaw(t, n.Addr())
			if err := peer.WriteHello(conn, hello(func(*peerpb.Hello) {})); err != nil {
				t.Fatal(err)
			}
			if _, err := peer.ReadWelcome(conn); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(conn, sent); err != nil {
				t.Fatal(err)
			}
			ends(t, conn)
		})
	}
}

func TestCallsThatAreRejected(t *testing.T) {
	n := newAddresses().open(t, "a-00000001", &handler{})
	conn := dialRaw(t, n.Addr())
	if err := peer.WriteHello(conn, hello(func(*peerpb.Hello) {})); err != nil {
		t.Fatal(err)
	}
	if _, err := peer.ReadWelcome(conn); err != nil {
		t.Fatal(err)
	}
	// frame is length, sequence 9, method, no time-out, body.
	frame := func(method byte, body string) []byte {
		b := binary.BigEndian.AppendUint32(nil, uint32(13+len(body)))
		b = append(binary.BigEndian.AppendUint64(b, 9), method, 0, 0, 0, 0)
		return append(b, body...)
	}
	for name, sent := range map[string][]byte{
		"R4 unknown call":       frame(200, ""),
		"R4 unreadable message": frame(1, "\xff\xff\xff"),
	} {
		if _, err := conn.Write(sent); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 17)
		if _, err := io.ReadFull(conn, got); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if want := frame(1, ""); !bytes.Equal(got, want) { // status 1
			t.Fatalf("%s: got %x, want %x", name, got, want)
		}
	}
}

func TestOpenAndClose(t *testing.T) {
	known := newAddresses()
	a := known.open(t, "a-00000001", &handler{})
	if a.AdvertiseAddr() != a.Addr() || a.Addr() == "127.0.0.1:0" {
		t.Fatalf("listens on %s, advertises %s", a.Addr(), a.AdvertiseAddr())
	}
	if err := a.Open(); err == nil {
		t.Fatal("opened twice")
	}
	cfg := peer.Config{
		Node: "b-00000002", ClusterID: func() string { return cluster }, Resolve: known.resolve,
		Handler: &handler{}, Logger: slog.New(slog.DiscardHandler),
		Address: a.Addr(), Advertise: "example.com:4162",
	}
	b := peer.New(cfg)
	if err := b.Open(); err == nil || !strings.Contains(err.Error(), a.Addr()) {
		t.Fatalf("on a port in use: %v", err)
	}
	if b.AdvertiseAddr() != "example.com:4162" || b.Addr() != "" || b.Transport() != nil {
		t.Fatal("not open, but has an address")
	}
	for range 2 {
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Open(); !errors.Is(err, peer.ErrClosed) {
		t.Fatalf("got %v", err)
	}
	if _, err := forward(within(t, soon), b, "a-00000001", "x"); !errors.Is(err, peer.ErrUnreachable) {
		t.Fatalf("got %v", err)
	}
	if _, err := b.JoinAt(within(t, soon), a.Addr(), &peerpb.JoinRequest{}); !errors.Is(err, peer.ErrClosed) {
		t.Fatalf("got %v", err)
	}
	cfg.Resolve = nil
	if err := peer.New(cfg).Open(); err == nil || !strings.Contains(err.Error(), "Resolve") {
		t.Fatalf("got %v", err)
	}
}
