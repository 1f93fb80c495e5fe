package httpapi

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/session"
	"github.com/lookupd/lookupd/store"
)

// Page sizes of the lists under /v1/.
const (
	defaultPage = 200
	largestPage = 1000
)

// States of a session.
const (
	stateOpen      = "open"
	stateSuspended = "suspended" // silent for longer than the inactive time
	stateOrphan    = "orphan"    // its peer is gone, or was restarted
)

type (
	producersPageJSON struct {
		Producers []producerStateJSON `json:"producers"`
		Next      string              `json:"next,omitempty"` // ?after= of the next page
	}
	producerStateJSON struct {
		ID registry.ProducerID `json:"id"`
		producerJSON
		Sessions []sessionJSON `json:"sessions"`
	}
	sessionJSON struct {
		ID            string   `json:"id"`
		Peer          string   `json:"peer"`
		State         string   `json:"state"`
		EndsInSeconds *float64 `json:"ends_in_seconds,omitempty"` // of an orphan, as the leader counts
		LastPing      *float64 `json:"last_ping_seconds,omitempty"`
		Pending       int      `json:"pending,omitempty"` // changes that are not committed yet
	}
)

// page is what a request wants of a list.
type page struct {
	prefix, after, state string
	limit                int
}

func pageOf(values url.Values) (p page, err error) {
	p.prefix, _ = first(values, "prefix")
	p.after, _ = first(values, "after")
	p.state, _ = first(values, "state")
	switch p.state {
	case "", stateOpen, stateSuspended, stateOrphan:
	default:
		return p, errInvalidState
	}
	p.limit = defaultPage
	if text, ok := first(values, "limit"); ok {
		if p.limit, err = strconv.Atoi(text); err != nil || p.limit < 1 || p.limit > largestPage {
			return p, errInvalidLimit
		}
	}
	return p, nil
}

// producers lists who offers anything, with the sessions that keep it there.
func (s *Server) producers(w http.ResponseWriter, r *http.Request) {
	answer, err := s.listProducers(w, r)
	if err != nil {
		code, known := answerTo(err)
		if !known {
			s.cfg.Logger.Error("producers cannot be listed", "err", err)
		}
		s.failV1(w, code, messageOf(err, code), "GET /v1/producers?prefix=&state=open|suspended|orphan&after=&limit=200")
		return
	}
	writeJSON(w, http.StatusOK, answer)
}

func (s *Server) listProducers(w http.ResponseWriter, r *http.Request) (producersPageJSON, error) {
	answer := producersPageJSON{Producers: []producerStateJSON{}}
	values, err := parameters(r)
	if err != nil {
		return answer, err
	}
	how, err := s.howToRead(values)
	if err != nil {
		return answer, err
	}
	p, err := pageOf(values)
	if err != nil {
		return answer, err
	}
	known := s.sessionStates(r.Context())
	err = s.read(w, r, how, func(v *store.View) error {
		answer = producersPageJSON{Producers: []producerStateJSON{}}
		v.ProducersAfter(p.prefix, registry.ProducerID(p.after), func(info registry.ProducerInfo, sessions []registry.SessionState) bool {
			shown, any := known.render(info, sessions, p.state)
			if !any {
				return true
			}
			if len(answer.Producers) == p.limit {
				answer.Next = string(answer.Producers[p.limit-1].ID)
				return false
			}
			answer.Producers = append(answer.Producers, shown)
			return true
		})
		return nil
	})
	return answer, err
}

// sessionStates is what is known of sessions beside the state: which are
// orphans, by the leader's word, and what this peer hears on its own.
type sessionStates struct {
	orphans []cluster.OrphanGroup
	here    map[registry.SessionID]session.Status
}

func (s *Server) sessionStates(ctx context.Context) sessionStates {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Limits.AnswerWithin)
	defer cancel()
	known := sessionStates{orphans: s.cfg.Cluster.Orphans(ctx), here: map[registry.SessionID]session.Status{}}
	for _, status := range s.cfg.Sessions.Sessions() {
		known.here[status.ID] = status
	}
	return known
}

// render shows a producer; any is false if none of its sessions has the wanted
// state ("" = any).
func (k sessionStates) render(info registry.ProducerInfo, sessions []registry.SessionState, want string) (p producerStateJSON, any bool) {
	p = producerStateJSON{ID: info.ID(), producerJSON: producerOf(info), Sessions: []sessionJSON{}}
	any = want == ""
	for _, session := range sessions {
		shown := k.session(session)
		any = any || shown.State == want
		p.Sessions = append(p.Sessions, shown)
	}
	return p, any
}

func (k sessionStates) session(state registry.SessionState) sessionJSON {
	s := sessionJSON{ID: state.ID.String(), Peer: state.ID.Node.Name(), State: stateOpen}
	if state.Suspended {
		s.State = stateSuspended
	}
	for _, g := range k.orphans {
		if g.Has(state.ID) {
			s.State, s.EndsInSeconds = stateOrphan, seconds(g.EndsIn)
		}
	}
	if here, ok := k.here[state.ID]; ok {
		s.LastPing, s.Pending = seconds(here.PingAge), here.Pending
	}
	return s
}

func seconds(d time.Duration) *float64 {
	s := d.Round(time.Millisecond).Seconds()
	return &s
}

var _ sessions = (*session.Manager)(nil)
