package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

var (
	// ErrMissing: this machine lacks something that a network needs.
	ErrMissing = errors.New("no network of its own")
	// ErrOutside: the process has no network of its own.
	ErrOutside = errors.New("this process has no network of its own")
)

// insideEnv is set in a process that has a network of its own. Its value tells
// the process what it is to do there.
const insideEnv = "LOOKUPD_OWN_NETWORK"

// commandTimeout bounds each command that changes the network.
const commandTimeout = 30 * time.Second

// Missing returns nil if this machine can give a process a network of its own,
// and otherwise an ErrMissing that says what it lacks. It tries it out, in a
// process of its own.
func Missing() error {
	for _, program := range []string{"unshare", "nsenter", "mount", "ip", "tc", "iptables"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%w: the program %s is not there", ErrMissing, program)
		}
	}
	const try = `mount -t tmpfs none /run && ip link add name sw0 type bridge && ip link add name v0 type veth peer name v1 &&
		iptables -w -I INPUT -m statistic --mode random --probability 0.3 -m comment --comment x -j DROP &&
		iptables -w -I INPUT -p tcp -j REJECT --reject-with tcp-reset && tc qdisc add dev v0 root tbf rate 1mbit burst 16kbit latency 400ms`
	wrap := Wrap()
	if err := run(wrap[0], append(wrap[1:], "sh", "-c", try)...); err != nil {
		return fmt.Errorf("%w: needs root, and namespaces with bridges, veth, iptables and tbf: %w", ErrMissing, err)
	}
	return nil
}

// Wrap returns the command that runs another one with namespaces of its own, in
// which New works if the variable of Env is set. The process id stays.
func Wrap() []string { return []string{"unshare", "--net", "--mount"} }

// Env returns the variable that makes a wrapped process know that it is inside,
// and what it is to do there.
func Env(task string) string { return insideEnv + "=" + task }

// Inside returns the task that Env named, "" in a process that is not inside.
func Inside() string { return os.Getenv(insideEnv) }

// Enter gives the program a network of its own: outside it replaces the process
// by the same program with the same arguments inside, where Enter returns the
// network. So call it first thing in main. It returns an ErrMissing if the
// machine cannot; the program then goes on outside.
func Enter() (*Network, error) {
	if Inside() != "" {
		return New()
	}
	if err := Missing(); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMissing, err)
	}
	words := append(Wrap(), self)
	path, err := exec.LookPath(words[0])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMissing, err)
	}
	// Exec returns only if it failed.
	err = syscall.Exec(path, append(words, os.Args[1:]...), append(os.Environ(), Env("enter")))
	return nil, fmt.Errorf("%w: exec %s: %w", ErrMissing, path, err)
}

// run runs a command, to its end: what is half done is hard to undo. Its error
// holds what the command said.
func run(name string, args ...string) error {
	_, err := output(name, args...)
	return err
}

func output(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	const shown = 300
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %.*s", name, strings.Join(args, " "), err, shown, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}
