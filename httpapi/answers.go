package httpapi

import (
	"encoding/json"
	"net/http"
	"sync"

	"github.com/lookupd/lookupd/store"
)

// answers keeps what was rendered for the routes that all consumers ask. Nothing
// in it is ever wrong: an answer is sent again only while the state has not
// changed where it was read. When there is no room for a new one, all go.
type answers struct {
	room int // bytes

	kept sync.Map // by key: *answer

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

func (k *answers) get(key string) (*answer, bool) {
	a, ok := k.kept.Load(key)
	if !ok {
		return nil, false
	}
	return a.(*answer), true
}

func (k *answers) add(key string, a *answer) {
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
	var (
		shown any
		a     answer
	)
	err = s.view(w, info, func(v *store.View) error {
		shown, err = read(v)
		a.index, _ = v.Applied()
		a.footprint = v.Footprint()
		return err
	})
	if err != nil {
		return err
	}
	if a.body, err = json.Marshal(shown); err != nil {
		return err
	}
	s.answers.add(key, &a)
	writeBytes(w, http.StatusOK, a.body)
	return nil
}
