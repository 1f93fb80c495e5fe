package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/lookupd/lookupd/cluster"
)

// statusWithin bounds /v1/status, which asks the other peers.
const statusWithin = 2 * time.Second

// routes puts lookupd's own routes beside nsqlookupd's, which get every other
// path as it came.
func (s *Server) routes() http.Handler {
	own, legacy := s.own(), s.legacy()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isOwn(r.URL.Path) {
			own.ServeHTTP(w, r)
			return
		}
		legacy.ServeHTTP(w, r)
	})
}

func isOwn(path string) bool {
	switch path {
	case livezPath, readyzPath, metricsPath:
		return true
	}
	return strings.HasPrefix(path, v1Prefix)
}

func (s *Server) own() *http.ServeMux {
	mux := http.NewServeMux()
	get := func(path string, h http.HandlerFunc) {
		mux.HandleFunc("GET "+path, h) // HEAD too
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Allow", "GET, HEAD")
			s.failV1(w, errMethodNotAllowed, r.Method+" is not possible here", "use GET")
		})
	}
	get(livezPath, livez)
	get(readyzPath, s.readyz)
	get("/v1/status", s.status)
	get("/v1/producers", s.endpointV1(s.withToken(func(w http.ResponseWriter, r *http.Request) error {
		s.producers(w, r)
		return nil
	})))
	get("/v1/check", s.endpointV1(s.check))
	get("/v1/autopilot", s.endpointV1(s.autopilot))
	admin := func(method, path string, h endpoint) {
		mux.Handle(method+" "+path, s.admin(s.longer(s.endpointV1(h))))
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Allow", method)
			s.failV1(w, errMethodNotAllowed, r.Method+" is not possible here", "use "+method)
		})
	}
	admin(http.MethodDelete, "/v1/peers/{name}", s.removePeer)
	admin(http.MethodPost, "/v1/leader/transfer", s.transferLeader)
	admin(http.MethodGet, "/v1/snapshot", s.saveSnapshot)
	admin(http.MethodPost, importPath, s.importNames)
	if s.cfg.Process != nil {
		admin(http.MethodGet, "/v1/config", s.showConfig)
		admin(http.MethodPut, "/v1/log-level", s.setLogLevel)
		admin(http.MethodGet, "/v1/logs", s.logs)
		admin(http.MethodGet, "/v1/bundle", s.bundle)
	}
	if s.cfg.Metrics != nil {
		get(metricsPath, s.cfg.Metrics.ServeHTTP)
	}
	mux.HandleFunc(v1Prefix, func(w http.ResponseWriter, r *http.Request) {
		s.failV1(w, errNotFound, "there is no route "+clip(r.URL.Path), "docs/http.md lists the routes of this version")
	})
	return mux
}

// livez never depends on the cluster: restarting a peer brings no quorum back.
func livez(w http.ResponseWriter, _ *http.Request) { writeText(w, http.StatusOK, "ok\n") }

// readyz says whether this peer may get requests. A lost quorum does not count,
// unless ?quorum is given: without a peer behind the service no nsqd could
// connect and no stale read be served.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	var body strings.Builder
	status := http.StatusOK
	line := func(good bool, sign, text string) {
		if good {
			sign = "[+]"
		} else if sign == "[-]" {
			status = http.StatusServiceUnavailable
		}
		fmt.Fprintf(&body, "%s%s\n", sign, text)
	}
	line(true, "", "state ok") // it is loaded before this server opens
	if err := s.cfg.Cluster.Ready(); err != nil {
		line(false, "[-]", "caught up failed: no read barrier completed since the start")
	} else {
		line(true, "", "caught up ok")
	}
	if s.stopping.Load() {
		line(false, "[-]", "stopping")
	}
	strict := r.URL.Query().Has("quorum")
	if lost := s.noQuorum(strict); lost == "" {
		line(true, "", "quorum ok")
	} else if strict {
		line(false, "[-]", lost)
	} else {
		line(false, "[!]", lost)
	}
	writeText(w, status, body.String())
}

// noQuorum returns "" or what is wrong. The strict form runs a read barrier.
func (s *Server) noQuorum(strict bool) string {
	if lost := s.cfg.Cluster.NoQuorumSince(); lost > 0 {
		return fmt.Sprintf("no quorum for %v", lost.Round(time.Second))
	}
	if !strict {
		return ""
	}
	_, err := s.awaitQuorum()
	if err != nil && !errors.Is(err, cluster.ErrNotReady) { // which has a line of its own
		return "no quorum: " + err.Error()
	}
	return ""
}

func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), statusWithin)
	defer cancel()
	status, err := s.cfg.Cluster.Status(ctx)
	if err != nil {
		s.refuseV1(w, r, err)
		return
	}
	s.mark(w, cluster.ReadInfo{Index: status.Index, Leader: status.Leader})
	writeDocument(w, status)
}

// endpointV1 is a handler under /v1/ whose error becomes the answer.
func (s *Server) endpointV1(h endpoint) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			s.refuseV1(w, r, err)
		}
	}
}

// refuseV1 answers with err.
func (s *Server) refuseV1(w http.ResponseWriter, r *http.Request, err error) {
	answer, known := answerTo(err)
	if !known {
		s.cfg.Logger.Error("HTTP request failed", "uri", clip(r.RequestURI), "err", err)
	}
	s.failV1(w, answer, messageOf(err, answer), hintTo(answer))
}

// messageOf is what an error says beside its code, which the answer has anyway.
func messageOf(err error, answer apiError) string {
	return strings.TrimPrefix(err.Error(), answer.message+": ")
}

func (s *Server) failV1(w http.ResponseWriter, e apiError, message, hint string) {
	if e.status == http.StatusServiceUnavailable {
		s.unavailable(w)
	}
	writeJSON(w, e.status, errorJSON{Code: e.message, Message: message, Hint: hint, Leader: s.cfg.Cluster.Leader()})
}

func writeText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text)) // the client is gone
}

// routeOf names the route of a path for metrics: one of a fixed set.
func routeOf(path string) string {
	switch path {
	case "/ping", "/info", lookupPath, "/topics", "/channels", "/nodes", "/debug",
		"/topic/create", "/topic/delete", "/topic/tombstone", "/channel/create", "/channel/delete",
		livezPath, readyzPath, metricsPath, "/v1/status", "/v1/producers", "/v1/check", "/v1/autopilot", "/v1/leader/transfer",
		"/v1/snapshot", importPath, "/v1/config", "/v1/log-level", "/v1/logs", "/v1/bundle":
		return path
	}
	if strings.HasPrefix(path, "/v1/peers/") {
		return "/v1/peers"
	}
	if strings.HasPrefix(path, pprofPrefix) {
		return pprofPrefix
	}
	return "other"
}
