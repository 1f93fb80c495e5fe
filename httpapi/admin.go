package httpapi

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// Bounds of the admin token, in bytes.
const (
	shortestToken = 16
	longestToken  = 4096
)

// ErrBadToken: a token file holds no token that could keep anybody out.
var ErrBadToken = errors.New("no usable token")

// ReadToken returns the token in a file, without the white space round it. It
// fails with ErrBadToken or the error of the file.
func ReadToken(path string) ([]byte, error) {
	text, err := readTokenFile(path, longestToken)
	if err != nil {
		return nil, err
	}
	token := bytes.TrimSpace(text)
	return token, checkToken(path, token)
}

func readTokenFile(path string, longest int) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, int64(longest)+1))
	if err == nil && len(text) > longest {
		return nil, fmt.Errorf("%w in %s: it is longer than %d bytes", ErrBadToken, path, longest)
	}
	return text, err
}

func checkToken(path string, token []byte) error {
	switch {
	case len(token) < shortestToken:
		return fmt.Errorf("%w in %s: it is shorter than %d bytes", ErrBadToken, path, shortestToken)
	case bytes.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return fmt.Errorf("%w in %s: it must be one word of printable ASCII", ErrBadToken, path)
	}
	return nil
}

// admin serves only callers that may do what an operator does, and logs each
// call once, when it is answered or cut off.
func (s *Server) admin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		by := s.adminBy(r)
		if by == "" {
			s.refuse(w, r, errForbidden)
			return
		}
		sw := &statusWriter{ResponseWriter: w}
		method, uri, whole := r.Method, r.RequestURI, false
		defer func() { // who cuts a snapshot off has most of it, and must not go unseen
			attrs := []slog.Attr{
				slog.String("method", method), slog.String("uri", clip(uri)), slog.String("by", by),
				slog.String("remote", r.RemoteAddr), slog.Int("status", sw.code()),
			}
			if index := w.Header()[headerIndex]; len(index) > 0 {
				attrs = append(attrs, slog.String("index", index[0]))
			}
			if !whole {
				attrs = append(attrs, slog.Bool("cut_off", true))
			}
			s.cfg.Logger.LogAttrs(r.Context(), slog.LevelInfo, "admin request", attrs...)
		}()
		next.ServeHTTP(sw, r)
		whole = true
	})
}

// adminBy says by what right a caller is an operator: "token", or "network" if
// it comes from AdminCIDR and speaks to this peer by a name of its own. Without
// that test a web page could have its own name resolve to a loopback address
// (DNS rebinding); it cannot know the token. Nor may a proxy on this host lend
// its address to its clients. "" is no right.
func (s *Server) adminBy(r *http.Request) string {
	if s.hasToken(r) {
		return "token"
	}
	from, ok := remoteIP(r.RemoteAddr)
	within := func(p netip.Prefix) bool { return p.Contains(from) }
	if ok && !proxied(r) && slices.ContainsFunc(s.cfg.AdminCIDR, within) && s.ownHost(r.Host) {
		return "network"
	}
	return ""
}

// proxied reports whether a proxy says that it sends the request for another.
func proxied(r *http.Request) bool {
	return slices.ContainsFunc([]string{"Forwarded", "X-Forwarded-For", "X-Real-Ip", "Via"}, func(header string) bool {
		return r.Header[header] != nil
	})
}

// hasToken reads the file at each call that brings a token, so that a new one
// counts at once. A file that cannot be read any more lets nobody in.
func (s *Server) hasToken(r *http.Request) bool {
	presented, ok := bearer(r)
	if s.cfg.AdminTokenFile == "" || !ok {
		return false
	}
	token, err := ReadToken(s.cfg.AdminTokenFile)
	if err != nil {
		s.bad.warn(s.cfg.Logger, s.cfg.Now(), "admin token cannot be read", "err", err)
		return false
	}
	// Hashes have one length, and comparing them takes one time.
	want, got := sha256.Sum256(token), sha256.Sum256(presented)
	return subtle.ConstantTimeCompare(want[:], got[:]) == 1
}

// bearer returns the token that a request brings.
func bearer(r *http.Request) (token []byte, ok bool) {
	scheme, presented, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	return []byte(strings.TrimSpace(presented)), ok && strings.EqualFold(scheme, "Bearer")
}

func (s *Server) ownHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"), ".")
	if _, err := netip.ParseAddr(host); err == nil || strings.EqualFold(host, "localhost") {
		return true
	}
	return slices.ContainsFunc(s.cfg.AdminHosts, func(own string) bool { return own != "" && strings.EqualFold(own, host) })
}
