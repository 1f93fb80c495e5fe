package peer_test

import (
	"errors"
	"fmt"
	"sync/atomic"
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
	p, _ := countedPipelineTo(t, 0, resp, err)
	return p
}

// countedPipelineTo also counts what arrives. What was answered is not sent again
// within repeat.
func countedPipelineTo(t *testing.T, repeat time.Duration, resp *raft.AppendEntriesResponse, err error) (raft.AppendPipeline, *follower) {
	t.Helper()
	a := newAddresses()
	withTerm := func(c *peer.Config) { c.Term = func() uint64 { return 1 } }
	leader := a.open(t, "a-00000001", &handler{}, withTerm)
	leader.SetRepeat(repeat)
	f := &follower{Network: a.open(t, "b-00000002", &handler{}, withTerm)}
	go func() {
		for {
			select {
			case rpc := <-f.Transport().Consumer():
				f.arrived.Add(1)
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
	return p, f
}

// follower counts raft's requests.
type follower struct {
	*peer.Network
	arrived atomic.Int64
}

// empty is what raft sends when there is no new entry; change may set what differs.
func empty(change ...func(*raft.AppendEntriesRequest)) *raft.AppendEntriesRequest {
	r := &raft.AppendEntriesRequest{
		Term: 1, RPCHeader: raft.RPCHeader{Addr: []byte("a-00000001")},
		PrevLogEntry: 7, PrevLogTerm: 1, LeaderCommitIndex: 7,
	}
	for _, f := range change {
		f(r)
	}
	return r
}

func send(p raft.AppendPipeline) error { return sendThis(p, empty()) }

func sendThis(p raft.AppendPipeline, request *raft.AppendEntriesRequest) error {
	_, err := p.AppendEntries(request, new(raft.AppendEntriesResponse))
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

// An empty request is not sent again once it was answered; one that says anything
// else is.
func TestPipelineWithholdsRepetitions(t *testing.T) {
	p, f := countedPipelineTo(t, time.Hour, &raft.AppendEntriesResponse{Term: 1, Success: true}, nil)
	arrive := func(what string, want int64, request *raft.AppendEntriesRequest) {
		t.Helper()
		before := f.arrived.Load()
		if err := sendThis(p, request); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		for range want {
			select {
			case <-p.Consumer():
			case <-time.After(30 * time.Second):
				t.Fatalf("%s: no answer", what)
			}
		}
		if got := f.arrived.Load() - before; got != want {
			t.Errorf("%s: %d requests arrived, want %d", what, got, want)
		}
	}
	arrive("the first", 1, empty())
	for range 100 {
		arrive("a repetition", 0, empty())
	}
	entry := func(r *raft.AppendEntriesRequest) { r.Entries = []*raft.Log{{Index: 8, Term: 1}} }
	arrive("an entry", 1, empty(entry))
	arrive("an entry again", 1, empty(entry))
	for what, change := range map[string]func(*raft.AppendEntriesRequest){
		"a commit":         func(r *raft.AppendEntriesRequest) { r.LeaderCommitIndex++ },
		"a longer log":     func(r *raft.AppendEntriesRequest) { r.PrevLogEntry++ },
		"another last one": func(r *raft.AppendEntriesRequest) { r.PrevLogTerm++ },
		"another term":     func(r *raft.AppendEntriesRequest) { r.Term++ },
	} {
		arrive("what was, before "+what, 1, empty(func(r *raft.AppendEntriesRequest) { r.LeaderCommitIndex = 1 }))
		arrive("what was", 1, empty())
		arrive(what, 1, empty(change))
		arrive(what+" again", 0, empty(change))
	}
}

// What was not answered yet may be lost, so it is sent again; and what was is
// repeated now and then, so that a follower that is gone, or was and has forgotten
// what is committed, is noticed.
func TestPipelineRepeats(t *testing.T) {
	const repeat = 20 * time.Millisecond
	p, f := countedPipelineTo(t, repeat, &raft.AppendEntriesResponse{Term: 1, Success: true}, nil)
	go func() {
		for {
			select {
			case <-p.Consumer():
			case <-t.Context().Done():
				return
			}
		}
	}()
	began := time.Now()
	eventually(t, func() error {
		if err := send(p); err != nil {
			t.Fatal(err)
		}
		if n := f.arrived.Load(); n < 5 {
			return fmt.Errorf("%d arrived", n)
		}
		return nil
	})
	if took := time.Since(began); took < 3*repeat { // the first two may be under way together
		t.Errorf("five arrived within %v", took)
	}
	_ = f.Close()
	eventually(t, func() error {
		if send(p) == nil {
			return errors.New("the pipeline goes on without a follower")
		}
		return nil
	})
}
