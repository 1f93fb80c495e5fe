package httpapi

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net/http"
	"sync"
	"time"
)

const (
	mostTokens = 8           // in one file
	tokensAge  = time.Second // after which the file is read again
)

// ReadTokens returns the tokens in a file, one a line; empty lines do not count.
// It fails with ErrBadToken or the error of the file.
func ReadTokens(path string) (all [][]byte, err error) {
	text, err := readTokenFile(path, mostTokens*longestToken)
	if err != nil {
		return nil, err
	}
	for line := range bytes.Lines(text) {
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		if err := checkToken(path, line); err != nil {
			return nil, err
		}
		all = append(all, line)
	}
	if len(all) == 0 || len(all) > mostTokens {
		return nil, fmt.Errorf("%w in %s: it holds %d, want 1 to %d, one a line", ErrBadToken, path, len(all), mostTokens)
	}
	return all, nil
}

// tokens are those that open the registry.
type tokens struct {
	path string

	mu     sync.Mutex
	read   time.Time // when the file was read last; zero before
	hashes [][sha256.Size]byte
}

// accept reports whether a token is one of them. With an error those from before
// count on: to lose a file must open nothing, and cut no consumer off.
func (t *tokens) accept(token []byte, now time.Time) (ok bool, err error) {
	t.mu.Lock()
	if t.read.IsZero() || now.Sub(t.read) > tokensAge {
		t.read = now
		var all [][]byte
		if all, err = ReadTokens(t.path); err == nil {
			t.hashes = nil
			for _, token := range all {
				t.hashes = append(t.hashes, sha256.Sum256(token))
			}
		}
	}
	hashes := t.hashes
	t.mu.Unlock()
	got, same := sha256.Sum256(token), 0
	for _, want := range hashes { // all of them: the time must not tell which was nearly right
		same |= subtle.ConstantTimeCompare(want[:], got[:])
	}
	return same == 1, err
}

// withToken serves only callers with a token for lookups, if there are such tokens,
// and admins.
func (s *Server) withToken(h endpoint) endpoint {
	if s.tokens == nil {
		return h
	}
	return func(w http.ResponseWriter, r *http.Request) error {
		if !s.mayLookup(r) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="lookupd"`)
			s.cfg.Counters.refusedOne("unauthorized")
			s.bad.warn(s.cfg.Logger, s.cfg.Now(), "HTTP request refused", "why", errUnauthorized.message,
				"method", clip(r.Method), "uri", clip(r.RequestURI), "remote", r.RemoteAddr)
			return errUnauthorized
		}
		return h(w, r)
	}
}

func (s *Server) mayLookup(r *http.Request) bool {
	if token, brought := bearer(r); brought {
		ok, err := s.tokens.accept(token, s.cfg.Now())
		if err != nil {
			s.bad.warn(s.cfg.Logger, s.cfg.Now(), "lookup tokens cannot be read, those from before count", "err", err)
		}
		if ok {
			return true
		}
	}
	return s.adminBy(r) != ""
}
