// Command lookupd is one peer of a persistent, replicated lookup cluster for
// NSQ. It takes nsqd's V1 registrations and answers nsqlookupd's HTTP API.
//
// This file knows arguments, signals and exit codes; daemon.go wires the parts
// together, options.go reads the settings.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/lookupd/lookupd/cmd/internal/build"
	"github.com/lookupd/lookupd/store"
)

// version never changes; only the linker may set it.
var version = build.Version

// Exit codes. Init systems must not restart after 2, 3 and 4.
const (
	exitStopped = 0
	exitFailed  = 1
	exitConfig  = 2
	exitRefused = 3 // the data directory is not this peer's, or not usable
	exitDamaged = 4 // the data are damaged
)

func main() {
	// Whatever lookupd creates is for its owner alone.
	syscall.Umask(0o077)
	os.Exit(run(os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}

func run(args, environ []string, stdout, stderr io.Writer) int {
	o, fs, err := parse(args, environ)
	switch {
	case errors.Is(err, flag.ErrHelp):
		printHelp(stdout, fs)
		return exitStopped
	case err != nil:
		for _, line := range strings.Split(err.Error(), "\n") {
			fmt.Fprintf(stderr, "lookupd: %s\n", line)
		}
		return exitConfig
	case o.version:
		fmt.Fprintf(stdout, "lookupd v%s (built w/%s)\n", version, runtime.Version())
		return exitStopped
	case o.printConfig:
		if err := o.print(stdout, fs); err != nil {
			fmt.Fprintf(stderr, "lookupd: %v\n", err)
			return exitFailed
		}
		return exitStopped
	case o.checkConfig:
		fmt.Fprintln(stdout, "The settings are good.")
		return exitStopped
	}
	log := newJournal(stderr, o)
	d := newDaemon(o, log, func(err error) {
		// Not log.Error alone: the process must end even if stderr blocks or
		// the disk hangs, and nothing may be written any more.
		time.AfterFunc(time.Second, func() { os.Exit(exitCode(err)) })
		log.Error("this peer must stop", "err", err)
		if next := nextStep(err); next != "" {
			log.Error("next: " + next)
		}
		os.Exit(exitCode(err))
	})
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	if err := d.start(); err != nil {
		log.Error("start failed", "err", err)
		if next := nextStep(err); next != "" {
			log.Error("next: " + next)
		}
		return exitCode(err)
	}
	d.ready()
	caught := <-signals
	log.Info("stopping", "signal", caught)
	notify(log.Logger, sd.SdNotifyStopping, "Stopping: hands over, ends open requests.")
	overdue := time.AfterFunc(o.stopTimeout, func() {
		log.Error("stop took too long", "stop-timeout", o.stopTimeout)
		os.Exit(exitFailed)
	})
	defer overdue.Stop()
	if err := d.stop(); err != nil {
		log.Error("stopped with errors", "err", err)
		return exitFailed
	}
	log.Info("stopped")
	return exitStopped
}

func exitCode(err error) int {
	switch {
	case errors.Is(err, store.ErrRefused):
		return exitRefused
	case errors.Is(err, store.ErrDamaged):
		return exitDamaged
	case errors.Is(err, store.ErrBadNodeName), errors.Is(err, errFewFiles):
		return exitConfig
	default:
		return exitFailed
	}
}

func printHelp(w io.Writer, fs *flag.FlagSet) {
	fmt.Fprintf(w, `lookupd %s: a persistent, replicated lookup cluster for NSQ, in nsqlookupd's place.

Without flags: one peer that is its own cluster, with its data in ./lookupd-data.
Three peers: lookupctl secrets init DIR, DIR copied to each, and the same line on each:
  lookupd -data-path=/var/lib/lookupd -bootstrap-expect=3 -join=host1,host2,host3 \
    -peer-tls-cert=DIR/peer.pem -peer-tls-key=DIR/peer-key.pem \
    -peer-tls-root-ca-file=DIR/ca.pem -gossip-key-file=DIR/gossip.key
One more, later: the same without -bootstrap-expect.

Every flag is also a variable (LOOKUPD_DATA_PATH) and a key of the TOML file
(data_path). A flag wins over the variable, the variable over the file.

`, version)
	ofLimits := limitFlags(new(limits))
	common := flag.NewFlagSet("lookupd", flag.ContinueOnError)
	fs.VisitAll(func(f *flag.Flag) {
		if ofLimits.Lookup(f.Name) == nil {
			common.Var(f.Value, f.Name, f.Usage)
		}
	})
	common.SetOutput(w)
	common.PrintDefaults()
	fmt.Fprint(w, "\nLimits on clients and other peers; a proper one never meets the defaults:\n\n")
	ofLimits.SetOutput(w)
	ofLimits.PrintDefaults()
}
