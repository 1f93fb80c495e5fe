package peer_test

import (
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/lookupd/lookupd/peer"
)

// Raft's sender must not wait for ever once raft has stopped listening: as it
// does after the first answer that is no success.
func TestPipelineEndsWithItsListener(t *testing.T) {
	for name, answer := range map[string]struct {
		resp *raft.AppendEntriesResponse
		err  error
	}{
		"refused":    {&raft.AppendEntriesResponse{Term: 1}, nil},
		"newer term": {&raft.AppendEntriesResponse{Term: 2, Success: true}, nil},
		"failed":     {&raft.AppendEntriesResponse{}, errors.New("no disk")},
	} {
		t.Run(name, func(t *testing.T) {
			p := pipelineTo(t, answer.resp, answer.err)
			go func() { <-p.Consumer() }() // and no more, as raft

			ended := make(chan int)
			go func() {
				sent := 0
				for send(p) == nil {
					sent++
				}
				ended <- sent
			}()
			select {
			case sent := <-ended:
				t.Logf("ended after %d requests", sent)
			case <-time.After(30 * time.Second):
				t.Fatal("the sender waits for ever")
			}
		})
	}
}

// pipelineTo opens a pipeline to a follower that gives each request this answer.
func pipelineTo(t *testing.T, resp *raft.AppendEntriesResponse, err error) raft.AppendPipeline {
	t.Helper()
	_, p, _ := recordedPipelineTo(t, resp, err)
	return p
}

// recordedPipelineTo also returns the network with the pipeline, and what arrives.
func recordedPipelineTo(t *testing.T, resp *raft.AppendEntriesResponse, err error) (*peer.Network, raft.AppendPipeline, <-chan *raft.AppendEntriesRequest) {
	t.Helper()
	a := newAddresses()
	withTerm := func(c *peer.Config) { c.Term = func() uint64 { return 1 } }
	leader := a.open(t, "a-00000001", &handler{}, withTerm)
	follower := a.open(t, "b-00000002", &handler{}, withTerm)
	arrived := make(chan *raft.AppendEntriesRequest, 10_000)
	go func() {
		for {
			select {
			case rpc := <-follower.Transport().Consumer():
				arrived <- rpc.Command.(*raft.AppendEntriesRequest)
				rpc.Respond(resp, err)
			case <-t.Context().Done():
				return
			}
		}
	}()
	var p raft.AppendPipeline
	eventually(t, func() (err error) { // the handshake's limit is short in tests
		p, err = leader.Transport().AppendEntriesPipeline("b-00000002", "b-00000002")
		return err
	})
	t.Cleanup(func() { _ = p.Close() })
	return leader, p, arrived
}

// send sends what raft does: entries that follow entry 7, which is committed.
func send(p raft.AppendPipeline, entries ...*raft.Log) error {
	_, err := p.AppendEntries(&raft.AppendEntriesRequest{
		Term: 1, RPCHeader: raft.RPCHeader{Addr: []byte("a-00000001")},
		PrevLogEntry: 7, PrevLogTerm: 1, LeaderCommitIndex: 7, Entries: entries,
	}, new(raft.AppendEntriesResponse))
	return err
}

func TestPipelineGoesOn(t *testing.T) {
	p := pipelineTo(t, &raft.AppendEntriesResponse{Term: 1, Success: true}, nil)
	const requests = 1000
	done := make(chan bool)
	go func() {
		for range requests {
			<-p.Consumer()
		}
		close(done)
	}()
	for range requests {
		if err := send(p); err != nil {
			t.Fatal(err)
		}
	}
	<-done
	for range 2 {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
}

// When connections are replaced pipelines end one at a time: raft leaves the
// follower of one that ended alone for a while, and needs a majority meanwhile.
func TestPipelinesAreRecycledInTurn(t *testing.T) {
	leader, first, _ := recordedPipelineTo(t, success, nil)
	leader.SetRenewal(time.Hour, 0, 0)
	second, err := leader.Transport().AppendEntriesPipeline("b-00000002", "b-00000002")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = second.Close() })
	leader.Recycle()
	if err := send(first); !errors.Is(err, peer.ErrRecycled) {
		t.Error("the first one:", err)
	}
	if err := send(second); err != nil {
		t.Error("the second one:", err)
	}
	leader.SetRenewal(0, 0, 0) // its time has come
	if err := send(second); !errors.Is(err, peer.ErrRecycled) {
		t.Error("the second one, later:", err)
	}
}
