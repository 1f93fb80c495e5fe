// Command lookupctl is the operator's command line of lookupd: it shows a
// cluster (status, check, peers), asks it as consumers do (lookup), changes it
// (peer remove, leader transfer, topic and channel) and runs one on this
// machine to play with (dev).
//
// It keeps no state and decides nothing about the health of a cluster: the
// sentence, the state and the findings come from the peer that is asked. Only
// check adds what it alone can know: who answers from where it runs.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/mattn/go-isatty"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], streams{
		out: os.Stdout, err: os.Stderr, in: os.Stdin,
		interactive: isTerminal(os.Stdin), outTerminal: isTerminal(os.Stdout), errTerminal: isTerminal(os.Stderr),
	}, os.Getenv)
	stop()
	os.Exit(code)
}

// isTerminal asks the system: /dev/null is a character device too, and nobody
// answers there.
func isTerminal(f *os.File) bool { return isatty.IsTerminal(f.Fd()) }
