package peer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/lookupd/lookupd/peer"
	"github.com/lookupd/lookupd/peer/peerpb"
	"github.com/lookupd/lookupd/registry"
)

const cluster = "cluster-1"

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// handler is a Handler whose methods a test replaces.
type handler struct {
	forward func(context.Context, *peerpb.ForwardRequest) *peerpb.ForwardResponse
	confirm func(context.Context, *peerpb.ConfirmRequest) *peerpb.ConfirmResponse
}

func (h *handler) Forward(ctx context.Context, r *peerpb.ForwardRequest) *peerpb.ForwardResponse {
	if h.forward != nil {
		return h.forward(ctx, r)
	}
	return &peerpb.ForwardResponse{Code: peerpb.Code_CODE_OK, Results: r.GetBatch(), LeaderId: string(peer.From(ctx))}
}

func (h *handler) Confirm(ctx context.Context, r *peerpb.ConfirmRequest) *peerpb.ConfirmResponse {
	if h.confirm != nil {
		return h.confirm(ctx, r)
	}
	return &peerpb.ConfirmResponse{Ok: true, Term: r.GetTerm()}
}

func (*handler) ReadIndex(_ context.Context, r *peerpb.ReadIndexRequest) *peerpb.ReadIndexResponse {
	return &peerpb.ReadIndexResponse{Code: peerpb.Code_CODE_OK, Index: r.GetTerm() + 1}
}

func (*handler) Status(ctx context.Context, _ *peerpb.StatusRequest) *peerpb.StatusResponse {
	return &peerpb.StatusResponse{NodeId: "seen", Name: string(peer.From(ctx))}
}

func (*handler) Join(_ context.Context, r *peerpb.JoinRequest) *peerpb.JoinResponse {
	return &peerpb.JoinResponse{Code: peerpb.Code_CODE_NOT_LEADER, LeaderId: r.GetNodeId()}
}

func (*handler) Agree(_ context.Context, r *peerpb.AgreeRequest) *peerpb.AgreeResponse {
	return &peerpb.AgreeResponse{Code: peerpb.Code_CODE_REFUSED, NodeIds: r.GetMembers(), Expect: r.GetExpect()}
}

func (*handler) Remove(_ context.Context, r *peerpb.RemoveRequest) *peerpb.RemoveResponse {
	return &peerpb.RemoveResponse{Code: peerpb.Code_CODE_LEADS, LeaderId: r.GetNodeId()}
}

func (*handler) Transfer(_ context.Context, r *peerpb.TransferRequest) *peerpb.TransferResponse {
	return &peerpb.TransferResponse{Code: peerpb.Code_CODE_NO_SUCCESSOR, LeaderId: r.GetTo()}
}

func (*handler) Autopilot(ctx context.Context, _ *peerpb.AutopilotRequest) *peerpb.AutopilotResponse {
	return &peerpb.AutopilotResponse{Code: peerpb.Code_CODE_OK, LeaderId: string(peer.From(ctx))}
}

// addresses is what peers of a test know of each other's whereabouts.
type addresses struct {
	mu sync.Mutex
	of map[registry.NodeID]string
}

func newAddresses() *addresses { return &addresses{of: map[registry.NodeID]string{}} }

func (a *addresses) set(node registry.NodeID, addr string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.of[node] = addr
}

func (a *addresses) resolve(node registry.NodeID) (string, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	addr, ok := a.of[node]
	return addr, ok
}

// open starts a peer of cluster 1, epoch 1, and notes its address.
func (a *addresses) open(t *testing.T, node registry.NodeID, h peer.Handler, change ...func(*peer.Config)) *peer.Network {
	t.Helper()
	cfg := peer.Config{
		Node:      node,
		Epoch:     1,
		ClusterID: func() string { return cluster },
		Address:   "127.0.0.1:0",
		Resolve:   a.resolve,
		Handler:   h,
		Logger:    slog.New(slog.DiscardHandler),
	}
	for _, f := range change {
		f(&cfg)
	}
	n := peer.New(cfg)
	n.SetTimings(soon/4, time.Nanosecond, 0)
	if err := n.Open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("close of %s: %v", node, err)
		}
	})
	a.set(node, n.Addr())
	return n
}

func inCluster(id string) func(*peer.Config) {
	return func(c *peer.Config) { c.ClusterID = func() string { return id } }
}

func atEpoch(epoch uint64) func(*peer.Config) {
	return func(c *peer.Config) { c.Epoch = epoch }
}

// within returns a context for something that ought to work at once.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

const soon = 10 * time.Second

// skipNeeds skips a test that needs what this machine does not give, and says so.
func skipNeeds(t *testing.T, what string) {
	t.Helper()
	line := fmt.Sprintf("SKIPPED %s: needs %s", t.Name(), what)
	if os.Getenv("LOOKUPD_FAULTS") == "require" {
		t.Fatal(line)
	}
	fmt.Println(line) // go test hides what a skip says
	t.Skip(line)
}

// eventually polls until f returns nil.
func eventually(t *testing.T, f func() error) {
	t.Helper()
	deadline := time.Now().Add(soon)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still: %v", err)
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal(err)
		}
	}
}

func dialRaw(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(soon)); err != nil {
		t.Fatal(err)
	}
	return c
}

// ends fails unless the other side closes c.
func ends(t *testing.T, c net.Conn) {
	t.Helper()
	_, err := io.Copy(io.Discard, c)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		t.Fatal("the connection stays open")
	}
}

func forward(ctx context.Context, n *peer.Network, to registry.NodeID, batch string) (string, error) {
	resp, err := n.Forward(ctx, to, &peerpb.ForwardRequest{Batch: []byte(batch)})
	return string(resp.GetResults()), err
}
