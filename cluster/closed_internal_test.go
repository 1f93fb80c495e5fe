package cluster

import (
	"context"
	"log/slog"
	"testing"

	"github.com/lookupd/lookupd/peer/peerpb"
)

// The peer port serves before raft is there, and raft's restore may take long:
// a call must neither crash the peer nor get an answer that rests on nothing. A
// term of 0, above all, would be a false yes.
func TestCallsBeforeOpenAreRefused(t *testing.T) {
	h, ctx := handler{New(Config{Name: "a", Logger: slog.New(slog.DiscardHandler)})}, context.Background()
	if answer := h.Confirm(ctx, &peerpb.ConfirmRequest{Term: 5}); answer.Ok {
		t.Error("Confirm: yes")
	}
	if answer := h.ReadIndex(ctx, &peerpb.ReadIndexRequest{}); answer.Code == peerpb.Code_CODE_OK {
		t.Error("ReadIndex: an index")
	}
	if answer := h.Forward(ctx, &peerpb.ForwardRequest{}); answer.Code != peerpb.Code_CODE_NOT_LEADER {
		t.Error("Forward:", answer.Code)
	}
	if answer := h.Join(ctx, &peerpb.JoinRequest{}); answer.Code == peerpb.Code_CODE_OK {
		t.Error("Join:", answer.Code)
	}
	if answer := h.Agree(ctx, &peerpb.AgreeRequest{}); answer.Code == peerpb.Code_CODE_OK {
		t.Error("Agree:", answer.Code)
	}
	if answer := h.Status(ctx, &peerpb.StatusRequest{}); answer.LeaderId != "" {
		t.Error("Status: leader", answer.LeaderId)
	}
}
