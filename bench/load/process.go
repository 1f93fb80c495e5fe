package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// Process is a load process, as its parent sees it. Its methods may be called
// from one goroutine at a time.
type Process struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *json.Decoder
}

// Start starts a load process, which ends with Close or with ctx.
func Start(ctx context.Context) (*Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, Role)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start a load process: %w", err)
	}
	return &Process{cmd: cmd, in: in, out: json.NewDecoder(out)}, nil
}

// Do has a job done. Operations that failed are counted in the result and are
// no error.
func (p *Process) Do(job Job) (Result, error) {
	if err := json.NewEncoder(p.in).Encode(job); err != nil {
		return Result{}, fmt.Errorf("load process: %w", err)
	}
	var a answer
	if err := p.out.Decode(&a); err != nil {
		return Result{}, fmt.Errorf("load process: %w", err)
	}
	if a.Error != "" {
		return Result{}, errors.New(a.Error)
	}
	return a.Result, nil
}

// Must is Do for jobs of which nothing may fail.
func (p *Process) Must(job Job) (Result, error) {
	r, err := p.Do(job)
	if err == nil && r.Failed > 0 {
		err = fmt.Errorf("%d operations failed: %s", r.Failed, r.FirstError)
	}
	return r, err
}

// Close ends the process and what it had open.
func (p *Process) Close() error {
	_ = p.in.Close()
	if err := p.cmd.Wait(); err != nil {
		return fmt.Errorf("load process: %w", err)
	}
	return nil
}
