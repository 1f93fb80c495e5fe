package peer

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// teller tells followers of a commit that nothing else tells them of soon. A
// follower hears of it from the next request, and after a single write raft makes
// that one when CommitTimeout has passed. The teller sends it early: an empty
// request that says what the follower has acknowledged, and the commit index up to
// there. docs/adr/0010 has why that is safe.
type teller struct {
	transport *transport

	mu        sync.Mutex
	term      uint64 // in which this node leads
	committed uint64 // by it
	due       uint64 // what committed was when the timer was started; 0 while it is not running
	followers map[raft.ServerID]*followed
}

// followed is what a leader knows of a follower in one term.
type followed struct {
	target  raft.ServerAddress
	request raft.AppendEntriesRequest // of raft's, without entries
	// The last entry that the follower acknowledged: up to there its log is the
	// leader's.
	matched, matchedTerm uint64
	told                 uint64 // commit index in what was sent
	telling              bool   // a request of the teller is under way
}

// Committed says that this node, as the leader in term, has committed the entries
// up to index. Followers that raft does not tell of it soon are told. Any goroutine
// may call it.
func (n *Network) Committed(term, index uint64) {
	n.mu.Lock()
	t := n.transport
	n.mu.Unlock()
	if t == nil {
		return
	}
	t.teller.mu.Lock()
	defer t.teller.mu.Unlock()
	t.teller.beginLocked(term)
	if term == t.teller.term && index > t.teller.committed {
		t.teller.committed = index
		t.teller.startLocked()
	}
}

// beginLocked forgets earlier terms.
func (t *teller) beginLocked(term uint64) {
	if term > t.term {
		t.term, t.committed, t.followers = term, 0, map[raft.ServerID]*followed{}
	}
}

// startLocked starts the timer if it is not running.
func (t *teller) startLocked() {
	if t.due == 0 {
		t.due = t.committed
		time.AfterFunc(t.transport.network.timings.tell, t.look)
	}
}

// sent follows a request of raft's to a follower. Heartbeats tell nothing.
func (t *teller) sent(id raft.ServerID, target raft.ServerAddress, request *raft.AppendEntriesRequest) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.beginLocked(request.Term)
	if request.Term != t.term || isHeartbeat(request) {
		return
	}
	f := t.followers[id]
	if f == nil {
		f = &followed{}
		t.followers[id] = f
	}
	f.target, f.request = target, *request
	f.request.Entries = nil
	f.told = max(f.told, request.LeaderCommitIndex)
}

// acknowledged follows a request that had success.
func (t *teller) acknowledged(id raft.ServerID, request *raft.AppendEntriesRequest) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.followers[id]
	if f == nil || request.Term != t.term {
		return
	}
	index, term := request.PrevLogEntry, request.PrevLogTerm
	if n := len(request.Entries); n > 0 {
		index, term = request.Entries[n-1].Index, request.Entries[n-1].Term
	}
	if index > f.matched {
		f.matched, f.matchedTerm = index, term
	}
	t.checkLocked(f)
}

// checkLocked starts the timer if f is to be told something.
func (t *teller) checkLocked(f *followed) {
	if f.told < min(t.committed, f.matched) {
		t.startLocked()
	}
}

// look tells those who have not heard of what was committed when the timer was
// started. What is committed since then has its time, too.
func (t *teller) look() {
	t.mu.Lock()
	defer t.mu.Unlock()
	due := t.due
	t.due = 0
	if due < t.committed {
		t.startLocked()
	}
	for id, f := range t.followers {
		if index := min(due, t.committed, f.matched); f.told < index && !f.telling {
			t.tellLocked(id, f, index)
		}
	}
}

func (t *teller) tellLocked(id raft.ServerID, f *followed, index uint64) {
	request := f.request
	request.PrevLogEntry, request.PrevLogTerm, request.LeaderCommitIndex = f.matched, f.matchedTerm, index
	target := f.target
	f.telling = t.transport.network.start(func() {
		// Whether it arrives does not matter: raft's own requests go on.
		_ = t.transport.NetworkTransport.AppendEntries(id, target, &request, new(raft.AppendEntriesResponse))
		t.transport.closeBusy()
		t.mu.Lock()
		defer t.mu.Unlock()
		f.telling, f.told = false, max(f.told, index)
		t.checkLocked(f)
	})
}
