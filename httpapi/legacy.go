package httpapi

import (
	"net/http"
	"net/http/pprof"

	"github.com/julienschmidt/httprouter"

	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
)

// neverTombstoned is Go's zero time in Unix nanoseconds, as nsqlookupd shows it.
const neverTombstoned = -6795364578871345152

// mostDebugs is how many answers of /debug are under way at once.
const mostDebugs = 2

// endpoint is a handler whose error becomes the answer.
type endpoint func(w http.ResponseWriter, r *http.Request) error

func (s *Server) endpoint(h endpoint) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			s.fail(w, r, err)
		}
	})
}

// legacy routes what nsqlookupd serves, through the router that nsqlookupd
// uses: redirects, Allow headers and 405s are that router's.
func (s *Server) legacy() http.Handler {
	router := httprouter.New()
	router.NotFound = s.endpoint(func(http.ResponseWriter, *http.Request) error { return errNotFound })
	router.MethodNotAllowed = s.endpoint(func(http.ResponseWriter, *http.Request) error { return errMethodNotAllowed })

	router.HandlerFunc(http.MethodGet, "/ping", ping)
	for path, h := range map[string]endpoint{
		"/info":     s.info,
		lookupPath:  s.withToken(s.lookup),
		"/topics":   s.withToken(s.topics),
		"/channels": s.channels, // without a token: nsqd asks it before it makes a topic, and has none
		"/nodes":    s.withToken(s.nodes),
		"/debug":    s.withToken(s.debug),
	} {
		router.Handler(http.MethodGet, path, s.endpoint(h))
	}
	for path, h := range map[string]endpoint{
		"/topic/create":    s.createTopic,
		"/topic/delete":    s.deleteTopic,
		"/topic/tombstone": s.tombstone,
		"/channel/create":  s.createChannel,
		"/channel/delete":  s.deleteChannel,
	} {
		router.Handler(http.MethodPost, path, s.endpoint(s.withToken(h)))
	}

	router.Handler(http.MethodGet, pprofPrefix, s.admin(http.HandlerFunc(pprof.Index)))
	router.Handler(http.MethodGet, pprofPrefix+"/cmdline", s.admin(http.HandlerFunc(pprof.Cmdline)))
	router.Handler(http.MethodGet, pprofPrefix+"/profile", s.admin(http.HandlerFunc(pprof.Profile)))
	router.Handler(http.MethodGet, pprofPrefix+"/symbol", s.admin(http.HandlerFunc(pprof.Symbol)))
	router.Handler(http.MethodPost, pprofPrefix+"/symbol", s.admin(http.HandlerFunc(pprof.Symbol)))
	for _, profile := range []string{"heap", "goroutine", "block", "threadcreate"} {
		router.Handler(http.MethodGet, pprofPrefix+"/"+profile, s.admin(pprof.Handler(profile)))
	}
	return router
}

// ping is the one answer without a word about NSQ's content type.
func ping(w http.ResponseWriter, _ *http.Request) {
	_, _ = w.Write([]byte("OK")) // the client is gone
}

func (s *Server) info(w http.ResponseWriter, _ *http.Request) error {
	writeJSON(w, http.StatusOK, infoJSON{Version: s.cfg.Version})
	return nil
}

func (s *Server) lookup(w http.ResponseWriter, r *http.Request) error {
	topic, how, err := s.topicRead(r)
	if err != nil {
		return err
	}
	if !registry.ValidName(topic) { // such a topic is never there
		err = s.read(w, r, how, func(*store.View) error { return errTopicNotFound })
	} else {
		err = s.answer(w, r, how, topic, func(v *store.View) (any, error) {
			found, ok := v.Topic(topic)
			if !ok {
				return nil, errTopicNotFound
			}
			return topicOf(found), nil
		})
	}
	return err
}

func (s *Server) channels(w http.ResponseWriter, r *http.Request) error {
	topic, how, err := s.topicRead(r)
	if err != nil {
		return err
	}
	// nsqd asks this before a topic's first message, cannot ask for stale, and
	// goes on without channels after an error: their messages would be lost.
	how.fallBack = !how.asked
	var channels []string
	err = s.read(w, r, how, func(v *store.View) error {
		if registry.ValidName(topic) {
			channels = v.Channels(topic)
		}
		return nil
	})
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, channelsJSON{Channels: append([]string{}, channels...)})
	return nil
}

func (s *Server) topics(w http.ResponseWriter, r *http.Request) error {
	how, err := s.howToRead(r.URL.Query())
	if err != nil {
		return err
	}
	return s.answer(w, r, how, topicsKey, func(v *store.View) (any, error) {
		return topicsJSON{Topics: v.Topics()}, nil
	})
}

func (s *Server) nodes(w http.ResponseWriter, r *http.Request) error {
	how, err := s.howToRead(r.URL.Query())
	if err != nil {
		return err
	}
	return s.answer(w, r, how, nodesKey, func(v *store.View) (any, error) {
		return nodesOf(v.Nodes()), nil
	})
}

func (s *Server) debug(w http.ResponseWriter, r *http.Request) error {
	how, err := s.howToRead(r.URL.Query())
	if err != nil {
		return err
	}
	select {
	case s.debugs <- struct{}{}:
		defer func() { <-s.debugs }()
	default:
		return errOverloaded
	}
	var (
		producers     []registry.ProducerInfo
		registrations []registry.Registration
	)
	err = s.read(w, r, how, func(v *store.View) error {
		producers, registrations = v.Producers(), v.Registrations()
		return nil
	})
	if err != nil {
		return err
	}
	answer := make(map[string][]debugJSON)
	for _, p := range producers {
		answer["client::"] = append(answer["client::"], s.debugOf(p, false))
	}
	for _, g := range registrations {
		key := "topic:" + g.Topic + ":"
		if g.Channel != "" {
			key = "channel:" + g.Topic + ":" + g.Channel
		}
		answer[key] = append(answer[key], s.debugOf(g.Producer, g.Tombstoned))
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}

// debugOf is a producer as /debug shows it. Pings are known only to the peers
// that the producer is connected to, and no peer knows when a tombstone was
// set, only at which log index: 0 stands for both.
func (s *Server) debugOf(p registry.ProducerInfo, tombstoned bool) debugJSON {
	answer := debugJSON{
		BroadcastAddress: p.BroadcastAddress,
		Hostname:         p.Hostname,
		HTTPPort:         p.HTTPPort,
		ID:               p.RemoteAddress,
		TCPPort:          p.TCPPort,
		Tombstoned:       tombstoned,
		Version:          p.Version,
	}
	if !tombstoned {
		answer.TombstonedAt = neverTombstoned
	}
	if at, ok := s.cfg.Sessions.LastPing(p.ID()); ok {
		answer.LastUpdate = at.UnixNano()
	}
	return answer
}
