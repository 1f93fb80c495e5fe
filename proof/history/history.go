// Package history holds what clients asked and were answered in one round: the
// input of every check. It knows neither how clients talk nor what is right.
package history

import (
	"cmp"
	"encoding/json"
	"math"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/lookupd/lookupd/registry"
)

// Kind is an operation of a client.
type Kind uint8

// Kinds. Register and Unregister are V1's, on a Session; the others are HTTP's.
const (
	Register Kind = iota + 1
	Unregister
	CreateTopic
	DeleteTopic
	CreateChannel
	DeleteChannel
	Tombstone
	Lookup
	Channels
	Topics
	Nodes
	Backup // a snapshot that an operator saved: all of the registry
)

var kindNames = [...]string{
	Register: "register", Unregister: "unregister", CreateTopic: "create-topic", DeleteTopic: "delete-topic",
	CreateChannel: "create-channel", DeleteChannel: "delete-channel", Tombstone: "tombstone",
	Lookup: "lookup", Channels: "channels", Topics: "topics", Nodes: "nodes", Backup: "backup",
}

func (k Kind) String() string { return kindNames[k] }

// Reads reports whether the operation changes nothing.
func (k Kind) Reads() bool { return k >= Lookup }

// Outcome is what the client knows of its operation.
type Outcome uint8

// Outcomes.
const (
	OK       Outcome = iota + 1
	NotFound         // 404: of a lookup, or of the deletion of a channel
	Unknown          // a change that may be done, now or later
	Failed           // a read without an answer; a change that was never sent
)

var outcomeNames = [...]string{OK: "ok", NotFound: "not-found", Unknown: "unknown", Failed: "failed"}

func (o Outcome) String() string { return outcomeNames[o] }

// Forever is the Return of what never returned.
const Forever = math.MaxInt64

// Op is one operation. Times are nanoseconds since the round began.
type Op struct {
	Client         int
	Kind           Kind
	Outcome        Outcome
	Peer           string
	Session        int // number of its Session from 1, 0 for HTTP
	N              int // which change on that session it was, from 1
	Topic, Channel string
	Node           string // of a tombstone
	Call, Return   int64

	// Index is the log index that the answer rests on, 0 if none is known.
	Index uint64
	// Stale answers are marked so by the peer; they may be old.
	Stale bool
	// Unavailable: the change was answered E_UNAVAILABLE, so the peer still tries.
	Unavailable bool

	// What a read answered.
	Shown  registry.Topic
	Topics []string
	Nodes  []registry.Node
	Saved  *Saved `json:",omitempty"` // of a backup
}

// Saved is the rest of a backup.
type Saved struct {
	Shown         map[string]registry.Topic // all topics, as lookups show them
	Registrations []registry.Registration
	Sessions      map[registry.ProducerID][]registry.SessionState
}

// Answered reports whether the client was told a definite outcome.
func (o *Op) Answered() bool { return o.Outcome == OK || o.Outcome == NotFound }

// Session is one connection of a producer.
type Session struct {
	Number   int // from 1
	Producer registry.ProducerID
	Hostname string // unique, so that the log tells which session a command is of
	Peer     string
	Identify int64 // when IDENTIFY was sent
	// End is the earliest moment at which the peer can have ended it: the call of
	// its last answer.
	End int64
	// Alive: the connection was there to the end of the round.
	Alive bool
}

// Recorder collects operations. All methods may be called by any goroutine.
type Recorder struct {
	began time.Time

	mu       sync.Mutex
	ops      []*Op
	sessions []*Session
	reads    int // answered
}

// NewRecorder starts the round's clock.
func NewRecorder() *Recorder { return &Recorder{began: time.Now()} }

// Now is the time of the round.
func (r *Recorder) Now() int64 { return int64(time.Since(r.began)) }

// Add notes an operation that has ended; its fields must not change after.
func (r *Recorder) Add(op *Op) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops = append(r.ops, op)
	if op.Kind.Reads() && op.Answered() {
		r.reads++
	}
}

// Open notes a session that is about to identify itself and gives it its number.
// Its other fields are the caller's to change until the round has ended.
func (r *Recorder) Open(s *Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sessions = append(r.sessions, s)
	s.Number = len(r.sessions)
}

// History is what a round recorded.
type History struct {
	Ops      []*Op // by call
	Sessions []*Session
}

// History returns what was recorded. Call it when all clients have stopped.
func (r *Recorder) History() *History {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := &History{Ops: slices.Clone(r.ops), Sessions: slices.Clone(r.sessions)}
	slices.SortStableFunc(h.Ops, func(a, b *Op) int { return int(a.Call - b.Call) })
	return h
}

// Reads returns how many reads have been answered so far.
func (r *Recorder) Reads() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reads
}

// Floors returns, for each operation, the highest index that was answered before
// it was called.
func (h *History) Floors() map[*Op]uint64 {
	byReturn := slices.DeleteFunc(slices.Clone(h.Ops), func(op *Op) bool { return !op.Answered() || op.Stale })
	slices.SortFunc(byReturn, func(a, b *Op) int { return cmp.Compare(a.Return, b.Return) })
	floors := make(map[*Op]uint64, len(h.Ops))
	highest, returned := uint64(0), 0
	for _, op := range h.Ops {
		for ; returned < len(byReturn) && byReturn[returned].Return < op.Call; returned++ {
			highest = max(highest, byReturn[returned].Index)
		}
		floors[op] = highest
	}
	return floors
}

// Write saves h; Read reads it again. What explains a violation is kept so.
func (h *History) Write(path string) error {
	data, err := json.Marshal(h)
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}

// Read is the inverse of Write.
func Read(path string) (*History, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	h := new(History)
	return h, json.Unmarshal(data, h)
}
