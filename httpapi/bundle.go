package httpapi

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"runtime/pprof"
	"strings"
	"time"
)

// bundle answers with what somebody needs who is to find out what ails this
// peer, as a tar.gz. It holds no secret: the settings name files, and nobody logs
// what is in them.
func (s *Server) bundle(w http.ResponseWriter, r *http.Request) error {
	select {
	case s.bundles <- struct{}{}: // one at a time: a heap profile stops the process for a moment
		defer func() { <-s.bundles }()
	default:
		return fmt.Errorf("%w: another bundle is being made", errOverloaded)
	}
	w.Header().Set("Content-Type", "application/gzip")
	w.Header().Set("Content-Disposition", fmt.Sprintf(`attachment; filename="lookupd-%s.tar.gz"`, s.ownName()))
	if r.Method == http.MethodHead {
		return nil
	}
	if err := s.writeBundle(r.Context(), w); err != nil {
		s.cfg.Logger.Warn("support bundle not sent to its end", "err", err, "remote", r.RemoteAddr)
		panic(http.ErrAbortHandler) // a part must not look like the whole
	}
	return nil
}

// bundlePart is a file of the bundle.
type bundlePart struct {
	name string
	make func(context.Context, *bytes.Buffer) error
}

func (s *Server) bundleParts() []bundlePart {
	profile := func(name string, debug int) func(context.Context, *bytes.Buffer) error {
		return func(_ context.Context, b *bytes.Buffer) error { return pprof.Lookup(name).WriteTo(b, debug) }
	}
	return []bundlePart{
		{"status.json", func(ctx context.Context, b *bytes.Buffer) error {
			ctx, cancel := context.WithTimeout(ctx, statusWithin)
			defer cancel()
			status, err := s.cfg.Cluster.Status(ctx)
			return orIndented(b, status, err)
		}},
		{"check.json", func(ctx context.Context, b *bytes.Buffer) error {
			check, _, err := s.latestCheck(ctx)
			return orIndented(b, check, err)
		}},
		{"autopilot.json", func(ctx context.Context, b *bytes.Buffer) error {
			ctx, cancel := context.WithTimeout(ctx, statusWithin)
			defer cancel()
			state, err := s.cfg.Cluster.AutopilotState(ctx)
			return orIndented(b, state, err)
		}},
		{"config.json", func(_ context.Context, b *bytes.Buffer) error { return orIndented(b, s.settings(), nil) }},
		{"metrics.txt", s.bundleMetrics},
		{"goroutines.txt", profile("goroutine", 1)}, // 1: one entry per stack, however many have it
		{"heap.pprof", profile("heap", 0)},
		{"log.txt", func(_ context.Context, b *bytes.Buffer) error {
			lines, _ := s.cfg.Process.Log().Last(mostLogLines)
			b.WriteString(strings.Join(lines, ""))
			return nil
		}},
	}
}

// writeBundle makes one part after the other. What cannot be made is told in
// errors.txt: a bundle is asked for when something is wrong.
func (s *Server) writeBundle(ctx context.Context, w http.ResponseWriter) error {
	zipped := gzip.NewWriter(w)
	archive := tar.NewWriter(zipped)
	at := time.Now() // for people, as in the log
	write := func(name string, content []byte) error {
		header := &tar.Header{Name: "lookupd-" + s.ownName() + "/" + name, Mode: 0o600, Size: int64(len(content)), ModTime: at}
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
		_, err := archive.Write(content)
		return err
	}
	var failed bytes.Buffer
	for _, part := range s.bundleParts() {
		var content bytes.Buffer
		if err := part.make(ctx, &content); err != nil {
			fmt.Fprintf(&failed, "%s: %v\n", part.name, err)
			continue
		}
		if err := write(part.name, content.Bytes()); err != nil {
			return err
		}
	}
	if failed.Len() > 0 {
		if err := write("errors.txt", failed.Bytes()); err != nil {
			return err
		}
	}
	if err := archive.Close(); err != nil {
		return err
	}
	return zipped.Close()
}

// orIndented writes a document, or returns the error that came in its place.
func orIndented(b *bytes.Buffer, document any, err error) error {
	if err != nil {
		return err
	}
	encoder := json.NewEncoder(b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(document)
}

// bundleMetrics is what GET /metrics answers.
func (s *Server) bundleMetrics(ctx context.Context, b *bytes.Buffer) error {
	if s.cfg.Metrics == nil {
		return errNotFound
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "/metrics", nil)
	if err != nil {
		return err
	}
	s.cfg.Metrics.ServeHTTP(bufferedAnswer{http.Header{}, b}, request)
	return nil
}

// bufferedAnswer is an http.ResponseWriter of which only the body counts.
type bufferedAnswer struct {
	header http.Header
	body   *bytes.Buffer
}

// Header implements http.ResponseWriter.
func (a bufferedAnswer) Header() http.Header { return a.header }

// WriteHeader implements http.ResponseWriter.
func (bufferedAnswer) WriteHeader(int) {}

// Write implements http.ResponseWriter.
func (a bufferedAnswer) Write(p []byte) (int, error) { return a.body.Write(p) }
