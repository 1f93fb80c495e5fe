package tcpproto

import (
	"log/slog"
	"maps"
	"sync"
	"time"
)

// complaints counts what bad clients did, by kind, and logs some of it. Kinds
// are a fixed set, never a client's words.
type complaints struct {
	log   *slog.Logger
	lines int // per second and kind

	mu     sync.Mutex
	counts map[string]uint64
	logged map[string]*logLine
}

type logLine struct {
	rate   bucket
	silent uint64 // not logged since the last line
}

func newComplaints(log *slog.Logger, lines int) *complaints {
	return &complaints{log: log, lines: lines, counts: make(map[string]uint64), logged: make(map[string]*logLine)}
}

func (c *complaints) add(kind, remote, what string) {
	c.mu.Lock()
	c.counts[kind]++
	line := c.logged[kind]
	if line == nil {
		line = &logLine{rate: newBucket(c.lines, c.lines)}
		c.logged[kind] = line
	}
	speak := line.rate.try(time.Now())
	silent := line.silent
	if speak {
		line.silent = 0
	} else {
		line.silent++
	}
	c.mu.Unlock()
	if speak {
		c.log.Warn("refused a client", "kind", kind, "remote", remote, "what", clientText(what), "not_logged", silent)
	}
}

func (c *complaints) all() map[string]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.counts)
}

// longestText is how much of a client's words goes into a log line.
const longestText = 128

// clientText is what a client said, in a length fit for a log line; the
// log's handler quotes it.
type clientText string

// LogValue makes the text only if the line is logged.
func (t clientText) LogValue() slog.Value {
	return slog.StringValue(string(t[:min(len(t), longestText)]))
}
