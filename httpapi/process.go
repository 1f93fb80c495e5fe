package httpapi

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/lookupd/lookupd/logring"
)

// process is the running program, as this package shows it to operators. All
// methods may be called from any goroutine.
type process interface {
	// Settings returns every setting with where its value comes from. Secrets
	// are not among them: they are in files, and these are named.
	Settings() []Setting
	// SetLogLevel makes another level the lowest that is logged, by name, and
	// returns the one before. It logs that, with who did it: the line on each admin
	// request may be below the new level. Its error is ErrUnknownLevel.
	SetLogLevel(name, who string) (before string, err error)
	// Log returns where the latest log lines are.
	Log() *logring.Ring
}

// ErrUnknownLevel: there is no log level of that name.
var ErrUnknownLevel = errors.New("no log level")

// Setting is one of the process' settings.
type Setting struct {
	Name   string `json:"name"` // of the flag
	Value  string `json:"value"`
	Origin string `json:"origin"` // flag, environment NAME, file PATH, default, or PUT /v1/log-level
}

// Settings is the document of GET /v1/config.
type Settings struct {
	SeenBy   string    `json:"seen_by"` // name of the peer whose they are
	Version  string    `json:"version"`
	Settings []Setting `json:"settings"` // by name
}

// LogLevel is the document of PUT /v1/log-level.
type LogLevel struct {
	Level  string `json:"level"`
	Before string `json:"before"`
}

const (
	mostLogLines  = 10_000 // that a request can ask for
	usualLogLines = 100
	mostFollowers = 8 // at once
)

// ownName is the name of this peer.
func (s *Server) ownName() string { return s.cfg.Cluster.ID().Name() }

func (s *Server) settings() Settings {
	return Settings{SeenBy: s.ownName(), Version: s.cfg.Version, Settings: s.cfg.Process.Settings()}
}

func (s *Server) showConfig(w http.ResponseWriter, _ *http.Request) error {
	writeDocument(w, s.settings())
	return nil
}

func (s *Server) setLogLevel(w http.ResponseWriter, r *http.Request) error {
	values, err := parameters(r)
	if err != nil {
		return err
	}
	level, _ := first(values, "level")
	before, err := s.cfg.Process.SetLogLevel(level, s.adminBy(r)+" "+r.RemoteAddr)
	if err != nil {
		return err
	}
	writeDocument(w, LogLevel{Level: level, Before: before})
	return nil
}

// logs answers the latest lines of the log and, with follow, goes on until the
// client or this server ends.
func (s *Server) logs(w http.ResponseWriter, r *http.Request) error {
	values, err := parameters(r)
	if err != nil {
		return err
	}
	count := usualLogLines
	if text, asked := first(values, "lines"); asked {
		if count, err = strconv.Atoi(text); err != nil || count < 0 || count > mostLogLines {
			return fmt.Errorf("%w: %.80q is not from 0 to %d", errInvalidLines, text, mostLogLines)
		}
	}
	follow, err := asked(values, "follow")
	if err != nil {
		return err
	}
	if follow {
		select {
		case s.followers <- struct{}{}:
			defer func() { <-s.followers }()
		default:
			return fmt.Errorf("%w: %d follow the log already", errOverloaded, mostFollowers)
		}
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	lines, next := s.cfg.Process.Log().Last(count)
	if err := writeLines(w, lines); err == nil && follow && r.Method != http.MethodHead {
		s.follow(w, r, next)
	}
	return nil
}

// follow sends the lines from number next on as they come. Nobody waits for a
// client that reads too slowly: it misses lines, and is told how many.
func (s *Server) follow(w http.ResponseWriter, r *http.Request, next uint64) {
	for {
		lines, first, more := s.cfg.Process.Log().From(next)
		if lost := first - next; lost > 0 {
			lines = append([]string{fmt.Sprintf("... %d lines are lost: they came faster than they were read\n", lost)}, lines...)
			first--
		}
		next = first + uint64(len(lines))
		if err := writeLines(w, lines); err != nil {
			return // the client is gone
		}
		select {
		case <-more:
		case <-r.Context().Done():
			return
		case <-s.ending:
			return
		}
	}
}

// writeLines sends lines at once.
func writeLines(w http.ResponseWriter, lines []string) error {
	for _, line := range lines {
		if _, err := io.WriteString(w, line); err != nil {
			return err
		}
	}
	return http.NewResponseController(w).Flush()
}
