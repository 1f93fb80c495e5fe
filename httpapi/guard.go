package httpapi

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"time"
)

// Paths that more than one place knows.
const (
	pprofPrefix = "/debug/pprof"
	v1Prefix    = "/v1/"
	livezPath   = "/livez"
	readyzPath  = "/readyz"
	metricsPath = "/metrics"
	lookupPath  = "/lookup"
)

// handler puts the guards before the routes. From the outside: panics and the
// log, TLS, other sites, the URL, the body.
func (s *Server) handler() http.Handler {
	crossOrigin := http.NewCrossOriginProtection()
	crossOrigin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.refuse(w, r, errCrossSite)
	}))
	return s.observe(s.requireTLS(crossOrigin.Handler(s.limitRequest(s.routes()))))
}

// observe logs and counts each request and answers for a handler that panics.
func (s *Server) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := s.cfg.Now()
		method, path, uri := r.Method, r.URL.Path, r.RequestURI // httprouter changes r when it redirects
		sw := &statusWriter{ResponseWriter: w}
		defer func() {
			if p := recover(); p != nil {
				s.recovered(sw, r, p)
			}
			took := s.cfg.Now().Sub(began)
			s.cfg.Counters.request(routeOf(path), sw.code(), took)
			if s.cfg.Logger.Enabled(r.Context(), slog.LevelDebug) {
				s.cfg.Logger.Debug("request", "method", clip(method), "uri", clip(uri),
					"status", sw.code(), "remote", r.RemoteAddr, "took", took)
			}
		}()
		next.ServeHTTP(sw, r)
	})
}

// recovered answers 500, or cuts the connection when an answer has begun: half
// an answer must not look like one.
func (s *Server) recovered(w *statusWriter, r *http.Request, p any) {
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(http.ErrAbortHandler)
	}
	s.cfg.Logger.Error("panic in an HTTP handler", "panic", fmt.Sprint(p), "uri", clip(r.RequestURI), "stack", string(debug.Stack()))
	if w.status != 0 {
		panic(http.ErrAbortHandler)
	}
	s.fail(w, r, errInternal)
}

// limitRequest refuses long URLs and big bodies. Hardly a route reads a body, so
// it is read here and dropped, as nsqlookupd does before it answers.
func (s *Server) limitRequest(next http.Handler) http.Handler {
	limits := s.cfg.Limits
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.RequestURI) > limits.URLBytes {
			s.refuse(w, r, errURLTooLong)
			return
		}
		if r.ContentLength > limits.BodyBytes {
			s.refuse(w, r, errBodyTooBig)
			return
		}
		if r.ContentLength == 0 { // -1: nobody knows
			next.ServeHTTP(w, r)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, limits.BodyBytes)
		if !strings.HasPrefix(r.URL.Path, pprofPrefix) && r.URL.Path != importPath {
			var tooBig *http.MaxBytesError
			if _, err := io.Copy(io.Discard, r.Body); errors.As(err, &tooBig) {
				s.refuse(w, r, errBodyTooBig)
				return
			} else if err != nil {
				s.refuse(w, r, errInvalidRequest)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// refuse ends the connection with an error that a proper client never sees.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, e apiError) {
	w.Header().Set("Connection", "close")
	s.cfg.Counters.refusedOne(strings.ToLower(e.message))
	s.bad.warn(s.cfg.Logger, s.cfg.Now(), "HTTP request refused",
		"why", e.message, "method", clip(r.Method), "uri", clip(r.RequestURI), "remote", r.RemoteAddr)
	if strings.HasPrefix(r.URL.Path, v1Prefix) {
		s.failV1(w, e, http.StatusText(e.status), hintTo(e))
		return
	}
	s.fail(w, r, e)
}

// statusWriter notes the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int // 0 until the answer begins
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *statusWriter) code() int {
	if w.status == 0 {
		return http.StatusOK // what net/http sends for a handler that wrote nothing
	}
	return w.status
}

// throttle lets through so many log lines a second and counts the others.
type throttle struct {
	perSecond int

	mu      sync.Mutex
	second  time.Time // when the current one began
	lines   int
	dropped int
}

func (t *throttle) warn(logger *slog.Logger, now time.Time, message string, args ...any) {
	t.mu.Lock()
	if now.Sub(t.second) >= time.Second {
		t.second, t.lines = now, 0
	}
	t.lines++
	if t.lines > t.perSecond {
		t.dropped++
		t.mu.Unlock()
		return
	}
	if t.dropped > 0 {
		args = append(args, "not_logged", t.dropped)
		t.dropped = 0
	}
	t.mu.Unlock()
	logger.Warn(message, args...)
}

// clip cuts what came from a client to what a log line may hold; the log
// handler quotes it.
func clip(s string) string {
	const limit = 128
	if len(s) > limit {
		return s[:limit] + "..."
	}
	return s
}
