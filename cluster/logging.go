package cluster

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
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
// "[WARN] memberlist: " prefixes.
func stdLogger(l *slog.Logger) *log.Logger { return log.New(lineWriter{l}, "", 0) }

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
	if to > slog.LevelDebug && (routine[msg] || s.repeated(msg, args)) {
		to = slog.LevelDebug
	}
	s.log.Log(context.Background(), to, msg, args...)
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

type lineWriter struct{ log *slog.Logger }

func (w lineWriter) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	level := slog.LevelDebug
	for prefix, l := range map[string]slog.Level{"[WARN] ": slog.LevelWarn, "[ERR] ": slog.LevelWarn, "[ERROR] ": slog.LevelWarn} {
		if rest, ok := strings.CutPrefix(text, prefix); ok {
			text, level = rest, l
		}
	}
	w.log.Log(context.Background(), level, strings.TrimPrefix(text, "memberlist: "))
	return len(line), nil
}
