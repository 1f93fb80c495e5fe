package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/store"
)

// readHow is what a request wants of a read.
type readHow struct {
	consistency cluster.Consistency
	asked       bool // by the request, and not a default
	fallBack    bool // to a stale answer without a quorum
}

// topicRead takes the parameters of a read of one topic.
func (s *Server) topicRead(r *http.Request) (topic string, how readHow, err error) {
	values, err := parameters(r)
	if err != nil {
		return "", readHow{}, err
	}
	topic, ok := first(values, "topic")
	if !ok {
		return "", readHow{}, errMissingTopic
	}
	how, err = s.howToRead(values)
	return topic, how, err
}

func (s *Server) howToRead(values url.Values) (readHow, error) {
	word, asked := first(values, "consistency")
	switch {
	case !asked:
		return readHow{consistency: cluster.Linearizable, fallBack: s.cfg.OnNoQuorumStale}, nil
	case word == "linearizable":
		return readHow{consistency: cluster.Linearizable, asked: true}, nil
	case word == "stale":
		return readHow{consistency: cluster.Stale, asked: true}, nil
	}
	return readHow{}, errInvalidConsistency
}

// read calls fn with a view and marks the answer with the state that it shows.
func (s *Server) read(w http.ResponseWriter, r *http.Request, how readHow, fn func(*store.View) error) error {
	info, err := s.await(r, how)
	if err != nil {
		return err
	}
	return s.cfg.Cluster.View(func(v *store.View) error {
		info.Index, _ = v.Applied()
		s.mark(w, info)
		return fn(v)
	})
}

// await returns when the state may be read.
func (s *Server) await(r *http.Request, how readHow) (cluster.ReadInfo, error) {
	if how.consistency == cluster.Stale {
		return s.awaitStale(r.Context(), "asked")
	}
	info, err := s.awaitQuorum()
	if how.fallBack && isNoQuorum(err) {
		return s.awaitStale(r.Context(), "no_quorum")
	}
	return info, err
}

// awaitQuorum does not notice when the client goes away: nothing waits for long.
func (s *Server) awaitQuorum() (cluster.ReadInfo, error) {
	ctx := s.answerWithin.Next()
	select {
	case s.reads <- struct{}{}:
		defer func() { <-s.reads }()
	case <-ctx.Done():
		if s.cfg.Cluster.Leader() == "" {
			return cluster.ReadInfo{}, cluster.ErrNoQuorum // why the others take so long
		}
		return cluster.ReadInfo{}, cluster.ErrOverloaded
	}
	return s.cfg.Cluster.Await(ctx, cluster.Linearizable)
}

func (s *Server) awaitStale(ctx context.Context, reason string) (cluster.ReadInfo, error) {
	info, err := s.cfg.Cluster.Await(ctx, cluster.Stale)
	if err == nil {
		s.cfg.Counters.staleRead(reason)
	}
	return info, err
}

func isNoQuorum(err error) bool {
	answer, _ := answerTo(err)
	return err != nil && errors.Is(answer, errNoQuorum)
}

// parameters parses the query as strictly as nsqlookupd.
func parameters(r *http.Request) (url.Values, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, errInvalidRequest
	}
	return values, nil
}

// first returns the first value of a parameter; ok is false if there is none,
// not if it is empty.
func first(values url.Values, name string) (value string, ok bool) {
	all, ok := values[name]
	if !ok {
		return "", false
	}
	return all[0], true
}

// asked reports whether a parameter asks for something: it is there, without a
// value or with a true one. What is neither true nor false is refused: it must
// not be guessed whether a change was meant.
func asked(values url.Values, name string) (bool, error) {
	text, ok := first(values, name)
	if !ok || text == "" {
		return ok, nil
	}
	on, err := strconv.ParseBool(text)
	if err != nil {
		return false, fmt.Errorf("%w: %s=%.80q is neither true nor false", errInvalidRequest, name, text)
	}
	return on, nil
}
