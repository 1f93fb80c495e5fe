package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// errNothingOpen: a job needs what no job before it has opened.
var errNothingOpen = errors.New("nothing is open to do this with")

// answer is a result or an error, on its way to the parent.
type answer struct {
	Result Result
	Error  string `json:",omitempty"`
}

// child is the state of a load process.
type child struct {
	pool     *pool
	stopPing context.CancelFunc
	etcd     *etcdClients
}

// Serve does jobs from in until it ends.
func Serve(ctx context.Context, in io.Reader, out io.Writer) error {
	jobs := make(chan Job)
	decoder := json.NewDecoder(in)
	go func() {
		defer close(jobs)
		for {
			var job Job
			if decoder.Decode(&job) != nil {
				return
			}
			select {
			case jobs <- job:
			case <-ctx.Done():
				return
			}
		}
	}()
	c := &child{}
	defer c.close()
	encoder := json.NewEncoder(out)
	for job := range jobs {
		result, err := c.do(ctx, job)
		a := answer{Result: result}
		if err != nil {
			a.Error = err.Error()
		}
		if err := encoder.Encode(a); err != nil {
			return fmt.Errorf("the parent is gone: %w", err)
		}
	}
	return nil
}

func (c *child) do(ctx context.Context, job Job) (Result, error) {
	switch {
	case job.Get != nil:
		return job.Get.run(), nil
	case job.Connect != nil:
		return c.connect(ctx, job.Connect), nil
	case job.Dial != nil:
		c.close()
		etcd, err := dialEtcd(ctx, job.Dial)
		c.etcd = etcd
		return Result{}, err
	case job.Declare != nil && c.pool != nil:
		return c.pool.declare(job.Declare), nil
	case job.Register != nil && c.pool != nil:
		return c.pool.register(ctx, job.Register), nil
	case job.Fill != nil && c.etcd != nil:
		return c.etcd.fill(ctx, job.Fill), nil
	case job.Range != nil && c.etcd != nil:
		return c.etcd.ask(ctx, job.Range), nil
	case job.Put != nil && c.etcd != nil:
		return c.etcd.put(ctx, job.Put), nil
	}
	return Result{}, errNothingOpen
}

// connect opens the sessions that later jobs use.
func (c *child) connect(ctx context.Context, job *Connect) Result {
	c.close()
	pool, result := openPool(ctx, job)
	ctx, c.stopPing = context.WithCancel(ctx)
	c.pool = pool
	go pool.ping(ctx)
	return result
}

func (c *child) close() {
	if c.pool != nil {
		c.stopPing()
		for _, s := range c.pool.sessions {
			s.Close()
		}
		c.pool = nil
	}
	if c.etcd != nil {
		c.etcd.close()
		c.etcd = nil
	}
}

// Main is the life of a load process; it returns its exit code. It ends with
// its parent, even in the middle of a job.
func Main() int {
	in, out := io.Pipe()
	go func() {
		_, _ = io.Copy(out, os.Stdin)
		os.Exit(0)
	}()
	if err := Serve(context.Background(), in, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		return 1
	}
	return 0
}
