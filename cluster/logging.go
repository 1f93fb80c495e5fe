package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/lookupd/lookupd/peer"
)

// The libraries' lines go through our handler under component=raft and
// component=gossip. What they call info is debug to our operators, who get a
// line of ours for each change of state.

// raftLogger returns an hclog logger that writes to log.
func raftLogger(log *slog.Logger) hclog.Logger {
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: "raft", Output: io.Discard, Level: hclog.Debug})
	l.RegisterSink(newSink(log))
	return l
}

// stdLogger returns a standard logger that reads the level from memberlist's
// "[WARN] memberlist: " prefixes. Whoever reaches the gossip port can make
// memberlist warn of each packet, so it passes on so many warnings a second.
func stdLogger(l *slog.Logger, perSecond int) *log.Logger {
	return log.New(&lineWriter{log: l, perSecond: perSecond}, "", 0)
}

// routine are warnings of raft's that belong to every start or change of leader,
// for which there is a line of ours.
var routine = map[string]bool{
	"heartbeat timeout reached, starting election":  true,
	"Election timeout reached, restarting election": true,
}

// repeatAfter is how often one warning about one peer is worth a line: while a
// peer is down raft repeats it several times a second.
const repeatAfter = time.Minute

// sink passes raft's lines on.
type sink struct {
	log *slog.Logger

	mu   sync.Mutex
	said map[string]time.Time // warnings, by text and peer
}

func newSink(log *slog.Logger) *sink {
	return &sink{log: log, said: map[string]time.Time{}}
}

// Accept implements hclog.SinkAdapter.
func (s *sink) Accept(_ string, level hclog.Level, msg string, args ...any) {
	to := slog.LevelDebug
	switch level {
	case hclog.Warn:
		to = slog.LevelWarn
	case hclog.Error:
		to = slog.LevelError
	}
	if to > slog.LevelDebug && (routine[msg] || recycled(args) || s.repeated(msg, args)) {
		to = slog.LevelDebug
	}
	s.log.Log(context.Background(), to, msg, args...)
}

// recycled reports whether a line is about a connection that was replaced.
func recycled(args []any) bool {
	return slices.ContainsFunc(args, func(arg any) bool {
		err, ok := arg.(error)
		return ok && errors.Is(err, peer.ErrRecycled)
	})
}

func (s *sink) repeated(msg string, args []any) bool {
	key := msg
	for i := 0; i+1 < len(args); i += 2 {
		if args[i] == "peer" || args[i] == "server-id" {
			key += fmt.Sprint(" ", args[i+1])
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.said[key]) < repeatAfter {
		return true
	}
	if len(s.said) > 256 {
		clear(s.said)
	}
	s.said[key] = time.Now()
	return false
}

// longestLine is how much of a line of memberlist's is passed on: it may hold
// what a stranger sent.
const longestLine = 256

type lineWriter struct {
	log       *slog.Logger
	perSecond int

	mu      sync.Mutex
	second  time.Time // when the current one began
	lines   int       // warnings in it
	dropped int       // since the last line
}

func (w *lineWriter) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	level := slog.LevelDebug
	for prefix, l := range map[string]slog.Level{"[WARN] ": slog.LevelWarn, "[ERR] ": slog.LevelWarn, "[ERROR] ": slog.LevelWarn} {
		if rest, ok := strings.CutPrefix(text, prefix); ok {
			text, level = rest, l
		}
	}
	text = strings.TrimPrefix(text, "memberlist: ")
	text = text[:min(len(text), longestLine)]
	if level == slog.LevelDebug {
		w.log.Debug(text)
		return len(line), nil
	}
	if speak, dropped := w.admit(time.Now()); speak {
		w.log.Log(context.Background(), level, text, "not_logged", dropped)
	}
	return len(line), nil
}

// admit says whether one more warning may be logged, and how many were not.
func (w *lineWriter) admit(now time.Time) (speak bool, dropped int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now.Sub(w.second) >= time.Second {
		w.second, w.lines = now, 0
	}
	w.lines++
	if w.lines > w.perSecond {
		w.dropped++
		return false, 0
	}
	dropped, w.dropped = w.dropped, 0
	return true, dropped
}
