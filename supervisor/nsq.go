package supervisor

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// NSQPorts are the ports of an nsqd.
type NSQPorts struct{ TCP, HTTP int }

// NSQDConfig describes an nsqd.
type NSQDConfig struct {
	Name      string
	Path      string // of the nsqd executable
	Dir       string // takes the data directory and the log
	Ports     NSQPorts
	Host      string   // on which it listens, "" for Loopback
	Wrap      []string // as in Spec
	Lookupds  []string // V1 addresses
	Args, Env []string
}

// NewNSQD adds an nsqd to the group, without starting it.
func (g *Group) NewNSQD(c NSQDConfig) (*Process, error) {
	data := filepath.Join(c.Dir, c.Name)
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, fmt.Errorf("nsqd %s: %w", c.Name, err)
	}
	host := cmp.Or(c.Host, Loopback)
	args := []string{
		"-data-path", data,
		"-tcp-address", hostPort(host, c.Ports.TCP),
		"-http-address", hostPort(host, c.Ports.HTTP),
		"-broadcast-address", host,
	}
	for _, address := range c.Lookupds {
		args = append(args, "-lookupd-tcp-address", address)
	}
	return g.NewProcess(Spec{
		Name: c.Name, Path: c.Path, Args: append(args, c.Args...), Wrap: c.Wrap, Env: c.Env,
		Log:   filepath.Join(c.Dir, c.Name+".log"),
		Ready: func(ctx context.Context) error { return WantOK(ctx, "http://"+hostPort(host, c.Ports.HTTP)+"/ping") },
	}), nil
}

// NSQAdminConfig describes an nsqadmin.
type NSQAdminConfig struct {
	Name     string
	Path     string // of the nsqadmin executable
	Dir      string // takes the log
	Port     int
	Lookupds []string // HTTP addresses
	Args     []string // further flags
}

// NewNSQAdmin adds an nsqadmin to the group, without starting it.
func (g *Group) NewNSQAdmin(c NSQAdminConfig) *Process {
	args := []string{"-http-address", Address(c.Port)}
	for _, address := range c.Lookupds {
		args = append(args, "-lookupd-http-address", address)
	}
	return g.NewProcess(Spec{
		Name: c.Name, Path: c.Path, Args: append(args, c.Args...),
		Log:   filepath.Join(c.Dir, c.Name+".log"),
		Ready: func(ctx context.Context) error { return WantOK(ctx, "http://"+Address(c.Port)+"/ping") },
	})
}
