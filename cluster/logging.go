package cluster

import (
	"context"
	"io"
	"log"
	"log/slog"
	"strings"

	"github.com/hashicorp/go-hclog"
)

// The libraries' lines go through our handler under component=raft and
// component=gossip. What they call info is debug to our operators, who get a
// line of ours for each change of state.

// raftLogger returns an hclog logger that writes to log.
func raftLogger(log *slog.Logger) hclog.Logger {
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: "raft", Output: io.Discard, Level: hclog.Debug})
	l.RegisterSink(sink{log})
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

type sink struct{ log *slog.Logger }

// Accept implements hclog.SinkAdapter.
func (s sink) Accept(_ string, level hclog.Level, msg string, args ...any) {
	to := slog.LevelDebug
	switch level {
	case hclog.Warn:
		if to = slog.LevelWarn; routine[msg] {
			to = slog.LevelDebug
		}
	case hclog.Error:
		to = slog.LevelError
	}
	s.log.Log(context.Background(), to, msg, args...)
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
