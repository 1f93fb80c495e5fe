package main

import (
	"context"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// levelFatal is above every level that lookupd logs at: it silences the rest.
const levelFatal = slog.LevelError + 4

var levels = map[string]slog.Level{
	"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError, "fatal": levelFatal,
}

// logFormats are what -log-format takes.
var logFormats = []string{"nsq", "text", "json"}

// nsqHandler writes NSQ's line, with slog's attributes after the message:
//
//	[lookupd] 2026/01/31 22:13:39.123456 INFO: session closed producer=n17:4150
type nsqHandler struct {
	mu     *sync.Mutex // guards w
	w      io.Writer
	prefix string
	level  slog.Leveler
	attrs  string // encoded, each with a blank before it
	group  string // "a.b." before keys
}

func newLogger(w io.Writer, prefix string, level slog.Leveler) *slog.Logger {
	return slog.New(nsqHandler{mu: new(sync.Mutex), w: w, prefix: prefix, level: level})
}

func (h nsqHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level.Level() }

func (h nsqHandler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(h.prefix)
	b.WriteString(r.Time.Format("2006/01/02 15:04:05.000000 "))
	switch {
	case r.Level >= levelFatal:
		b.WriteString("FATAL")
	case r.Level == slog.LevelWarn:
		b.WriteString("WARNING")
	default:
		b.WriteString(r.Level.String())
	}
	b.WriteString(": ")
	b.WriteString(r.Message)
	b.WriteString(h.attrs)
	r.Attrs(func(a slog.Attr) bool {
		writeAttr(&b, h.group, a)
		return true
	})
	b.WriteByte('\n')
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := io.WriteString(h.w, b.String())
	return err
}

func (h nsqHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	var b strings.Builder
	b.WriteString(h.attrs)
	for _, a := range attrs {
		writeAttr(&b, h.group, a)
	}
	h.attrs = b.String()
	return h
}

func (h nsqHandler) WithGroup(name string) slog.Handler {
	if name != "" {
		h.group += name + "."
	}
	return h
}

func writeAttr(b *strings.Builder, group string, a slog.Attr) {
	v := a.Value.Resolve()
	if a.Equal(slog.Attr{}) {
		return
	}
	if v.Kind() == slog.KindGroup {
		if a.Key != "" {
			group += a.Key + "."
		}
		for _, member := range v.Group() {
			writeAttr(b, group, member)
		}
		return
	}
	text := v.String()
	if v.Kind() == slog.KindTime {
		text = v.Time().Format(time.RFC3339Nano)
	}
	if text == "" || !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r == '"' || r == '=' || !strconv.IsPrint(r) }) {
		text = strconv.Quote(text)
	}
	b.WriteByte(' ')
	b.WriteString(group)
	b.WriteString(a.Key)
	b.WriteByte('=')
	b.WriteString(text)
}
