// Command lookupctl is the operator's command line of lookupd: it shows a
// cluster (status), asks it as consumers do (lookup) and runs one on this
// machine to play with (dev).
//
// It keeps no state and decides nothing about the health of a cluster: the
// sentence and the state come from the peer that is asked.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], streams{out: os.Stdout, err: os.Stderr}, os.Getenv)
	stop()
	os.Exit(code)
}
