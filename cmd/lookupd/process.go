package main

import (
	"flag"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/lookupd/lookupd/httpapi"
	"github.com/lookupd/lookupd/logring"
)

// What operators may see and change of a process that runs: see httpapi.Config.

// Bounds of the log lines that are kept in memory.
const (
	keptLogLines = 5000
	keptLogBytes = 2 << 20
)

// journal is the daemon's log, with what can be asked of it and changed while it
// runs.
type journal struct {
	*slog.Logger
	level *slog.LevelVar // of all that is logged, raft's and memberlist's lines too
	ring  *logring.Ring
}

// newJournal writes to w, and keeps the latest lines.
func newJournal(w io.Writer, o *options) *journal {
	j := &journal{level: new(slog.LevelVar), ring: logring.New(keptLogLines, keptLogBytes)}
	j.level.Set(levels[strings.ToLower(o.logLevel)])
	w = io.MultiWriter(j.ring, w) // the ring first: it never fails
	switch options := (&slog.HandlerOptions{Level: j.level}); o.logFormat {
	case "text":
		j.Logger = slog.New(slog.NewTextHandler(w, options))
	case "json":
		j.Logger = slog.New(slog.NewJSONHandler(w, options))
	default:
		j.Logger = newLogger(w, o.logPrefix, j.level)
	}
	return j
}

func (j *journal) levelName() string {
	for name, level := range levels {
		if level == j.level.Level() {
			return name
		}
	}
	return j.level.Level().String()
}

// Log implements httpapi's process.
func (d *daemon) Log() *logring.Ring { return d.log.ring }

// SetLogLevel implements httpapi's process. That the level has changed is logged
// at whichever of both levels tells more.
func (d *daemon) SetLogLevel(name, who string) (before string, err error) {
	level, known := levels[strings.ToLower(name)]
	before = d.log.levelName()
	switch {
	case !known:
		return before, fmt.Errorf("%w %.80q", httpapi.ErrUnknownLevel, name)
	case level < d.log.level.Level():
		d.log.level.Set(level)
		d.log.Info("log level changed", "from", before, "to", name, "by", who)
	default:
		d.log.Info("log level changed", "from", before, "to", name, "by", who)
		d.log.level.Set(level)
	}
	return before, nil
}

// Settings implements httpapi's process: the values are those that count now.
func (d *daemon) Settings() []httpapi.Setting {
	settings := d.o.settings()
	for i, s := range settings {
		if level := d.log.levelName(); s.Name == "log-level" && !strings.EqualFold(s.Value, level) {
			settings[i].Value, settings[i].Origin = level, "PUT /v1/log-level"
		}
	}
	return settings
}

// settings returns every value with its origin. Not one is a secret: those are
// in files.
func (o *options) settings() (all []httpapi.Setting) {
	o.flags.VisitAll(func(f *flag.Flag) {
		if !isCommand(f.Name) {
			all = append(all, httpapi.Setting{Name: f.Name, Value: f.Value.String(), Origin: o.origin(f.Name)})
		}
	})
	return all
}
