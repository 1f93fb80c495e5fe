package httpapi

import (
	"encoding/json"
	"net/http"
	"sync"

	"github.com/lookupd/lookupd/store"
)

// answers keeps what was rendered for the routes that all consumers ask. Nothing
// in it is ever wrong: an answer is sent again only while the state has not
// changed where it was read. When there is no room for a new one, all go; what is
// larger than all of the room is not kept.
type answers struct {
	room int // bytes

	kept sync.Map // by key: *answer

	rendering sync.Mutex           // guards what follows
	running   map[string]*rendered // by key, at most one at a time
	forming   map[string]*rendered // by key: the next, which all that come now share

	mu   sync.Mutex // held to add
	used int        // guarded by mu
}

// answer is the body of a 200.
type answer struct {
	body      []byte
	index     uint64 // of the state that it was rendered from
	footprint store.Footprint
}

// Keys of answers that are not of one topic. No topic has such a name.
const (
	topicsKey = "/topics"
	nodesKey  = "/nodes"
)

// size is about what an answer takes.
func (a *answer) size() int {
	const besides = 200 // the map's entry
	return len(a.body) + 4*len(a.footprint) + besides
}

func newAnswers(room int) *answers {
	return &answers{room: room, running: map[string]*rendered{}, forming: map[string]*rendered{}}
}

func (k *answers) get(key string) (*answer, bool) {
	a, ok := k.kept.Load(key)
	if !ok {
		return nil, false
	}
	return a.(*answer), true
}

func (k *answers) add(key string, a *answer) {
	if len(key)+a.size() > k.room {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if old, ok := k.get(key); ok {
		if old.index > a.index { // whoever rendered that began later
			return
		}
		k.used -= old.size()
	} else {
		k.used += len(key)
	}
	k.used += a.size()
	if k.used > k.room {
		k.kept.Clear()
		k.used = 0
		return
	}
	k.kept.Store(key, a)
}

// rendered is what becomes of one rendering.
type rendered struct {
	done   chan struct{} // closed when the rest is set
	answer *answer
	err    error
}

// share returns what render makes, or another's call that has not begun yet: so
// whoever has waited until the state may be read gets what was read later. One
// call for each key is under way, or each reader of a large list that changes
// all the time would have one of its own in memory.
func (k *answers) share(key string, render func() (*answer, error)) *rendered {
	k.rendering.Lock()
	if next := k.forming[key]; next != nil {
		k.rendering.Unlock()
		<-next.done
		return next
	}
	next := &rendered{done: make(chan struct{}), err: errInternal} // if render panics
	before := k.running[key]
	k.forming[key] = next
	k.rendering.Unlock()
	if before != nil {
		<-before.done
	}
	k.rendering.Lock()
	delete(k.forming, key)
	k.running[key] = next
	k.rendering.Unlock()
	defer func() {
		k.rendering.Lock()
		delete(k.running, key)
		k.rendering.Unlock()
		close(next.done)
	}()
	next.answer, next.err = render()
	return next
}

// answer sends the JSON of what read returns, or what was rendered before if that
// is the same still.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, how readHow, key string, read func(*store.View) (any, error)) error {
	info, err := s.await(r, how)
	if err != nil {
		return err
	}
	if a, ok := s.answers.get(key); ok && s.cfg.Cluster.Unchanged(a.footprint, a.index) {
		s.cfg.Counters.renderedHit.Inc()
		info.Index = max(info.Index, a.index)
		s.mark(w, info)
		writeBytes(w, http.StatusOK, a.body)
		return nil
	}
	s.cfg.Counters.renderedMiss.Inc()
	// From here on whoever asks for the same may get what this one renders.
	shared := s.answers.share(key, func() (*answer, error) { return s.render(key, read) })
	if shared.answer != nil {
		info.Index = max(info.Index, shared.answer.index)
	}
	s.mark(w, info)
	if shared.err != nil {
		return shared.err
	}
	writeBytes(w, http.StatusOK, shared.answer.body)
	return nil
}

// render makes the answer, or takes what was made while it waited for its turn.
// With an error from read the answer has no body.
func (s *Server) render(key string, read func(*store.View) (any, error)) (*answer, error) {
	if a, ok := s.answers.get(key); ok && s.cfg.Cluster.Unchanged(a.footprint, a.index) {
		return a, nil
	}
	var shown any
	a := &answer{}
	err := s.cfg.Cluster.View(func(v *store.View) (err error) {
		shown, err = read(v)
		a.index, _ = v.Applied()
		a.footprint = v.Footprint()
		return err
	})
	if err == nil {
		a.body, err = json.Marshal(shown)
	}
	if err == nil {
		s.answers.add(key, a)
	}
	return a, err
}
