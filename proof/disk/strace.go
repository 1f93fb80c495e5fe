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
	process *supervisor.Process
	log     string
}

// attach makes strace inject what into the syncs of a running peer. It is a child
// of the group, so that it does not outlive this process and hold the peer's.
func attach(ctx context.Context, g *supervisor.Group, p *supervisor.Peer, what string) (*tracer, error) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "lookupd-strace-")
	if err != nil {
		return nil, err
	}
	t := &tracer{log: filepath.Join(dir, "log")}
	t.process = g.NewProcess(supervisor.Spec{
		Name: "strace of " + p.Name(), Path: strace, Log: filepath.Join(dir, "output"),
		Args: []string{
			"-f", "-qq", "-p", strconv.Itoa(p.PID()), "-o", t.log,
			"-e", "trace=fdatasync,fsync", "-e", "signal=none", "-e", "inject=fdatasync,fsync:" + what,
		},
	})
	if err := t.process.Start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	ctx, cancel := context.WithTimeout(ctx, attachWithin)
	defer cancel()
	err = supervisor.Poll(ctx, func(context.Context) error {
		if !p.Running() { // its first sync was enough
			return nil
		}
		return traced(p.PID())
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("strace %s: %w: %s", p.Name(), err, t.process.LogTail()), t.detach())
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
	if err := t.process.Signal(syscall.SIGINT); err != nil && !errors.Is(err, supervisor.ErrNotRunning) && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-t.process.Exited():
		return nil
	case <-time.After(attachWithin):
		return t.process.Kill() // the kernel lets go of what a dead tracer held
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
