package cluster

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

// TestGossipWarningsAreBounded: each packet of a stranger makes memberlist warn.
func TestGossipWarningsAreBounded(t *testing.T) {
	var logged bytes.Buffer
	l := stdLogger(slog.New(slog.NewTextHandler(&logged, nil)), 3)
	for range 1000 {
		l.Printf("[WARN] memberlist: msg type (%s) not supported", strings.Repeat("x", 10_000))
	}
	if n := strings.Count(logged.String(), "\n"); n < 3 || n > 30 { // as many seconds as a slow machine needs
		t.Errorf("%d lines", n)
	}
	if n := logged.Len(); n > 30*500 {
		t.Errorf("%d bytes", n)
	}
}
