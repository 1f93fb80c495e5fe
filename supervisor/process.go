package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Errors of Process's methods.
var (
	// ErrRunning: what was asked needs a process that does not run.
	ErrRunning = errors.New("process is running")
	// ErrNotRunning: what was asked needs a running process.
	ErrNotRunning = errors.New("process is not running")
	// ErrExited: the process ended while something waited for it.
	ErrExited = errors.New("process exited")
)

// logTail is how much of a log an error message quotes, in bytes.
const logTail = 2048

// Spec describes a program to run.
type Spec struct {
	Name string
	Path string // of the executable
	Args []string
	// Wrap is a command that runs the executable in its own place, such as
	// nsenter; path and arguments are added to it.
	Wrap []string
	Env  []string // added to the parent's environment
	Dir  string   // working directory, "" for the parent's
	Log  string   // file that takes stdout and stderr, appended to
	// Ready returns nil once the process does its work. nil: as soon as it runs.
	Ready func(context.Context) error
}

// Process is a program that runs at most once at a time and may be started
// again after it ended. All methods may be called from any goroutine.
type Process struct {
	group *Group

	mu    sync.Mutex
	spec  Spec
	child *child // of the last start, nil before the first
}

// child is one run of a process.
type child struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended and err is set
	err  error
}

// NewProcess adds a process to the group, without starting it.
func (g *Group) NewProcess(spec Spec) *Process {
	p := &Process{group: g, spec: spec}
	g.add(p)
	return p
}

// Name returns the name that the spec gave.
func (p *Process) Name() string { return p.spec.Name }

// LogPath returns the file that holds the output of all runs.
func (p *Process) LogPath() string { return p.spec.Log }

// SetArgs changes the arguments of the next start.
func (p *Process) SetArgs(args []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spec.Args = args
}

// Start runs the program. It does not wait until it is ready.
func (p *Process) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.child.running() {
		return fmt.Errorf("start %s: %w", p.spec.Name, ErrRunning)
	}
	log, err := openLog(p.spec.Log)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.spec.Name, err)
	}
	defer log.Close() // the child has its own handle

	words := slices.Concat(p.spec.Wrap, []string{p.spec.Path}, p.spec.Args)
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Dir = p.spec.Dir
	cmd.Env = append(os.Environ(), p.spec.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = childAttributes()
	if err := p.group.start(cmd); err != nil {
		return fmt.Errorf("start %s: %w", p.spec.Name, err)
	}
	c := &child{cmd: cmd, done: make(chan struct{})}
	go c.wait()
	p.child = c
	return nil
}

func openLog(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
}

// wait collects the child's end; it returns when the child is gone.
func (c *child) wait() {
	c.err = c.cmd.Wait()
	close(c.done)
}

func (c *child) running() bool {
	if c == nil {
		return false
	}
	select {
	case <-c.done:
		return false
	default:
		return true
	}
}

func (p *Process) current() *child {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.child
}

// Running reports whether the process runs.
func (p *Process) Running() bool { return p.current().running() }

// PID returns the process id of the last start, 0 if there was none.
func (p *Process) PID() int {
	if c := p.current(); c != nil {
		return c.cmd.Process.Pid
	}
	return 0
}

// Exited returns a channel that is closed when the current run has ended. It is
// nil, and so never ready, before the first start.
func (p *Process) Exited() <-chan struct{} {
	if c := p.current(); c != nil {
		return c.done
	}
	return nil
}

// ExitCode returns the exit code of the last run: -1 while it runs, when a
// signal ended it, or before the first.
func (p *Process) ExitCode() int {
	c := p.current()
	if c == nil || c.running() {
		return -1
	}
	return c.cmd.ProcessState.ExitCode()
}

// EndedBy returns the signal that ended the last run; nil while it runs, when it
// ended by itself, or before the first.
func (p *Process) EndedBy() os.Signal {
	c := p.current()
	if c == nil || c.running() {
		return nil
	}
	if status, ok := c.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return status.Signal()
	}
	return nil
}

// Kill ends the process with SIGKILL and waits until it is gone. It is no error
// if it does not run.
func (p *Process) Kill() error {
	c := p.current()
	if !c.running() {
		return nil
	}
	if err := c.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", p.spec.Name, err)
	}
	<-c.done
	return nil
}

// Signal sends a signal to the running process.
func (p *Process) Signal(sig os.Signal) error {
	c := p.current()
	if !c.running() {
		return fmt.Errorf("signal %s: %w", p.spec.Name, ErrNotRunning)
	}
	return c.cmd.Process.Signal(sig)
}

// Stop ends the process with SIGTERM, and with SIGKILL if it still runs after
// timeout, which is an error. It waits until the process is gone.
func (p *Process) Stop(timeout time.Duration) error {
	c := p.current()
	if !c.running() {
		return nil
	}
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", p.spec.Name, err)
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-c.done:
		return nil
	case <-timer.C:
		return errors.Join(fmt.Errorf("stop %s: still runs %v after SIGTERM", p.spec.Name, timeout), p.Kill())
	}
}

// WaitReady polls until the process is ready, has exited or ctx ends. The error
// holds the last reason and the end of the log.
func (p *Process) WaitReady(ctx context.Context) error {
	c := p.current()
	if !c.running() {
		return p.describe(ErrNotRunning)
	}
	if p.spec.Ready == nil {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with ctx
		select {
		case <-c.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	err := Poll(ctx, p.spec.Ready)
	if err == nil {
		return nil
	}
	if !c.running() {
		err = fmt.Errorf("%w: %v", ErrExited, c.err)
	}
	return p.describe(err)
}

// describe adds the process and the end of its log to err.
func (p *Process) describe(err error) error {
	return fmt.Errorf("%s: %w\n%s", p.spec.Name, err, p.LogTail())
}

// LogTail returns the end of the log, "" if there is none.
func (p *Process) LogTail() string {
	file, err := os.Open(p.spec.Log)
	if err != nil {
		return ""
	}
	defer file.Close()
	if size, err := file.Seek(0, io.SeekEnd); err == nil {
		_, _ = file.Seek(max(0, size-logTail), io.SeekStart)
	}
	tail, _ := io.ReadAll(io.LimitReader(file, logTail))
	return string(tail)
}
