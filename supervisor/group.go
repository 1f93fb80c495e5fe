package supervisor

import (
	"errors"
	"os/exec"
	"runtime"
	"sync"
	"time"
)

// ErrClosed: the group is closed and starts nothing more.
var ErrClosed = errors.New("supervisor is closed")

// stopTimeout is how long Close lets a child end by itself; lookupd promises 5 s.
const stopTimeout = 7 * time.Second

// Group owns child processes. All methods may be called from any goroutine.
type Group struct {
	spawns chan spawn
	ended  chan struct{} // closed when the spawning goroutine is gone

	mu        sync.Mutex
	closed    bool
	processes []*Process
}

// spawn asks the spawning goroutine to start a command.
type spawn struct {
	cmd *exec.Cmd
	err chan<- error
}

// NewGroup returns an empty group; Close ends what was started in it.
func NewGroup() *Group {
	g := &Group{spawns: make(chan spawn), ended: make(chan struct{})}
	go g.spawnLoop()
	return g
}

// spawnLoop starts all children from one thread that lives as long as the
// group: the kernel sends the parent-death signal when the thread that forked
// ends, and Go ends threads when it likes.
func (g *Group) spawnLoop() {
	defer close(g.ended)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for s := range g.spawns {
		s.err <- s.cmd.Start()
	}
}

// start runs cmd as a child of the group.
func (g *Group) start(cmd *exec.Cmd) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return ErrClosed
	}
	result := make(chan error, 1)
	g.spawns <- spawn{cmd: cmd, err: result}
	return <-result
}

// add makes p one of those that Close ends.
func (g *Group) add(p *Process) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.processes = append(g.processes, p)
}

// Close stops all children at once, first politely, then by force, and waits
// for them. It may be called again.
func (g *Group) Close() error {
	return g.end(func(p *Process) error { return p.Stop(stopTimeout) })
}

// KillAll is Close without the polite part.
func (g *Group) KillAll() error {
	return g.end((*Process).Kill)
}

func (g *Group) end(stop func(*Process) error) error {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		<-g.ended
		return nil
	}
	g.closed = true
	processes := g.processes
	g.mu.Unlock()

	errs := make([]error, len(processes))
	var wait sync.WaitGroup
	for i, p := range processes {
		wait.Go(func() { errs[i] = stop(p) })
	}
	wait.Wait()
	close(g.spawns)
	<-g.ended
	return errors.Join(errs...)
}
