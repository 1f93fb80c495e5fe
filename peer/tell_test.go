package peer_test

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

var success = &raft.AppendEntriesResponse{Term: 1, Success: true}

// took waits for the answer to a request, and for the request as it arrived.
func took(t *testing.T, p raft.AppendPipeline, arrived <-chan *raft.AppendEntriesRequest) {
	t.Helper()
	select {
	case <-p.Consumer():
		<-arrived
	case <-time.After(30 * time.Second):
		t.Fatal("no answer")
	}
}

// A follower that no other request tells of a commit is told, once, and of no more
// than what it has acknowledged in that term.
func TestFollowerIsToldOfACommit(t *testing.T) {
	leader, p, arrived := recordedPipelineTo(t, success, nil)
	if err := send(p, &raft.Log{Index: 8, Term: 1}, &raft.Log{Index: 9, Term: 1}); err != nil {
		t.Fatal(err)
	}
	took(t, p, arrived)
	for _, step := range []struct {
		what        string
		term, index uint64
		want        uint64 // commit index that the follower is told, 0 for nothing
	}{
		{"what it knows", 1, 7, 0},
		{"a commit", 1, 8, 8},
		{"the same", 1, 8, 0},
		{"less", 1, 3, 0},
		{"more than it has", 1, 12, 9},
		{"still more", 1, 13, 0},
		{"a later term's", 2, 14, 0},
		{"the first term's, then", 1, 15, 0},
	} {
		leader.Committed(step.term, step.index)
		if step.want == 0 {
			continue // what is sent all the same arrives in place of the next
		}
		select {
		case r := <-arrived:
			if r.LeaderCommitIndex != step.want || r.PrevLogEntry != 9 || r.PrevLogTerm != 1 || r.Term != 1 || len(r.Entries) > 0 || len(r.Addr) == 0 {
				t.Errorf("%s: arrived: %+v", step.what, r)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("%s: nothing arrived", step.what)
		}
	}
	if err := send(p); err != nil {
		t.Fatal(err)
	}
	select {
	case r := <-arrived:
		if r.LeaderCommitIndex != 7 {
			t.Errorf("arrived at the end: %+v", r)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("nothing arrived at the end")
	}
}

// An entry that follows takes the commit along.
func TestRaftTellsFirst(t *testing.T) {
	leader, p, arrived := recordedPipelineTo(t, success, nil)
	leader.SetTell(time.Hour)
	for index := uint64(8); index < 20; index++ {
		if _, err := p.AppendEntries(&raft.AppendEntriesRequest{
			Term: 1, RPCHeader: raft.RPCHeader{Addr: []byte("a-00000001")},
			PrevLogEntry: index - 1, PrevLogTerm: 1, LeaderCommitIndex: index - 1, Entries: []*raft.Log{{Index: index, Term: 1}},
		}, new(raft.AppendEntriesResponse)); err != nil {
			t.Fatal(err)
		}
		took(t, p, arrived)
		leader.Committed(1, index)
	}
	for range 2 {
		leader.Look()
	}
	if r := <-arrived; r.LeaderCommitIndex != 19 {
		t.Errorf("told of %d first, of 12 commits of which raft tells of all but the last", r.LeaderCommitIndex)
	}
}

// A follower that did not acknowledge an entry is told nothing: its log may be
// another one up to there.
func TestNothingIsToldUnacknowledged(t *testing.T) {
	leader, p, arrived := recordedPipelineTo(t, &raft.AppendEntriesResponse{Term: 1}, nil)
	leader.SetTell(time.Nanosecond)
	if err := send(p, &raft.Log{Index: 8, Term: 1}); err != nil {
		t.Fatal(err)
	}
	took(t, p, arrived)
	for index := uint64(8); index < 100; index++ {
		leader.Committed(1, index)
	}
	select {
	case r := <-arrived:
		t.Errorf("arrived: %+v", r)
	case <-time.After(100 * time.Millisecond):
	}
}
