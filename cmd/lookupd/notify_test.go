package main

import (
	"io"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// systemd is told when the peer serves, and when it stops.
func TestNotify(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "notify")
	systemd, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer systemd.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	told := func() string {
		t.Helper()
		if err := systemd.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		var message [4096]byte
		n, err := systemd.Read(message[:])
		if err != nil {
			t.Fatal(err)
		}
		return string(message[:n])
	}

	code := make(chan int)
	go func() {
		code <- run([]string{
			"-data-path", filepath.Join(dir, "data"), "-tcp-address=127.0.0.1:0", "-http-address=127.0.0.1:0",
			"-peer-address=127.0.0.1:0", "-gossip-address=127.0.0.1:0",
		}, nil, io.Discard, io.Discard)
	}()
	if message := told(); !strings.HasPrefix(message, "READY=1\nSTATUS=Serves nsqds at 127.0.0.1:") {
		t.Errorf("at start: %q", message)
	}
	// This process has run's handler for it.
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if message := told(); !strings.HasPrefix(message, "STOPPING=1\nSTATUS=") {
		t.Errorf("at stop: %q", message)
	}
	if got := <-code; got != exitStopped {
		t.Errorf("exit code %d", got)
	}
}
