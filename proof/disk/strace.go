package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/lookupd/lookupd/supervisor"
)

// attachWithin bounds the time until strace holds every thread of a peer.
const attachWithin = 20 * time.Second

// tracer is an strace that changes what a running peer's syncs do.
type tracer struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when strace has ended
}

// attach makes strace inject what into the syncs of a running peer.
func attach(ctx context.Context, p *supervisor.Peer, what string) (*tracer, error) {
	dir, err := os.MkdirTemp("", "lookupd-strace-")
	if err != nil {
		return nil, err
	}
	t := &tracer{log: filepath.Join(dir, "log"), done: make(chan struct{})}
	t.cmd = exec.Command("strace", "-f", "-qq", "-p", strconv.Itoa(p.PID()), "-o", t.log,
		"-e", "trace=fdatasync,fsync", "-e", "signal=none", "-e", "inject=fdatasync,fsync:"+what)
	if err := t.cmd.Start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	go func() { // ends with strace
		_ = t.cmd.Wait() // strace ends as its tracee does
		close(t.done)
	}()
	ctx, cancel := context.WithTimeout(ctx, attachWithin)
	defer cancel()
	err = supervisor.Poll(ctx, func(context.Context) error { return traced(p.PID()) })
	if err != nil && p.Running() {
		return nil, errors.Join(fmt.Errorf("strace %s: %w", p.Name(), err), t.detach())
	}
	return t, nil
}

// traced returns nil if another process traces all threads of pid.
func traced(pid int) error {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(files) == 0 {
		return fmt.Errorf("no threads of %d: %w", pid, err)
	}
	for _, path := range files {
		status, err := os.ReadFile(path)
		if err == nil && bytes.Contains(status, []byte("TracerPid:\t0\n")) {
			return fmt.Errorf("%s is not traced", path)
		}
	}
	return nil
}

// detach lets go of the peer.
func (t *tracer) detach() error {
	if err := t.cmd.Process.Signal(syscall.SIGINT); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-t.done:
		return nil
	case <-time.After(attachWithin):
		// The kernel lets go of what a dead tracer held.
		return t.cmd.Process.Kill()
	}
}

// count returns how many syncs were changed, and forgets the log. A sync that was
// held when its process ended is not in it.
func (t *tracer) count() (int, error) {
	content, err := os.ReadFile(t.log)
	if err != nil {
		return 0, err
	}
	n := strings.Count(string(content), "INJECTED") + strings.Count(string(content), "DELAYED")
	return n, os.RemoveAll(filepath.Dir(t.log))
}
