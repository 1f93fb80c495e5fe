package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/lookupd/lookupd/supervisor"
)

// devOptions are those of dev and its sub-commands.
type devOptions struct {
	*options
	dir  string // "" for the default
	keep bool
	size devSize
}

func newDev(o *options) *cobra.Command {
	d := &devOptions{options: o}
	up := func(cmd *cobra.Command, _ []string) error {
		d.size.nsqdAsked = cmd.Flags().Changed("nsqd")
		return d.up(cmd.Context())
	}
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Runs a cluster on this machine, to try and to break",
		Long: "Runs real peers on loopback until Ctrl-C, three if --peers does not say otherwise, with nsqd and nsqadmin\n" +
			"when they are on PATH. --load adds simulated producers: sessions as nsqds have them, without messages.\n" +
			"From another terminal, the sub-commands kill, start and restart one of the processes.",
		Args: noArguments,
		RunE: up,
	}
	cmd.PersistentFlags().StringVar(&d.dir, "dir", "", "directory for data, logs and control; what is in it is used again (default: a new one, removed at the end)")
	upCmd := &cobra.Command{Use: "up", Short: "Same as dev alone", Args: noArguments, RunE: up}
	for _, c := range []*cobra.Command{cmd, upCmd} {
		c.Flags().BoolVar(&d.keep, "keep", false, "do not remove the data at the end")
		c.Flags().IntVar(&d.size.peers, "peers", devPeers, fmt.Sprintf("number of peers, 1 to %d", maxDevPeers))
		c.Flags().IntVar(&d.size.nsqds, "nsqd", devNSQDs, fmt.Sprintf("number of nsqds, 0 to %d, if nsqd is on PATH", maxDevNSQDs))
		c.Flags().IntVar(&d.size.load, "load", 0, fmt.Sprintf("number of simulated producers, 0 to %d", maxDevLoad))
	}
	cmd.AddCommand(upCmd,
		d.control("kill", "Kills a process as a power cut would, and measures what users saw"),
		d.control("start", "Starts a process that does not run"),
		d.control("restart", "Stops a process properly and starts it again"),
		d.control("logs", "Prints the end of a process' log, and where it is"),
	)
	return cmd
}

// control returns a sub-command that the running dev carries out.
func (d *devOptions) control(verb, short string) *cobra.Command {
	return &cobra.Command{
		Use:   verb + " NAME",
		Short: short,
		Args:  exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			message, err := callDev(cmd.Context(), d.socket(), verb, args[0])
			if err != nil {
				return err
			}
			fmt.Fprintln(d.out, message)
			return nil
		},
	}
}

// home is the directory that holds the control socket.
func (d *devOptions) home() string {
	if d.dir != "" {
		return d.dir
	}
	return filepath.Join(os.TempDir(), "lookupd-dev-"+strconv.Itoa(os.Getuid()))
}

func (d *devOptions) socket() string { return filepath.Join(d.home(), "control.sock") }

// up runs the cluster until ctx ends.
func (d *devOptions) up(ctx context.Context) (err error) {
	if err := d.size.validate(); err != nil {
		return usageError{err}
	}
	programs, err := findPrograms()
	if err != nil {
		return err
	}
	if programs.nsqd == "" && d.size.nsqdAsked && d.size.nsqds > 0 {
		return fmt.Errorf("%s is not on PATH, so --nsqd %d cannot be done; without --nsqd the rest runs", nsqdName, d.size.nsqds)
	}
	if err := makePrivate(d.home()); err != nil {
		return err
	}
	server, err := listenDev(ctx, d.socket())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.close()) }()

	data, remove, err := d.dataDir()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()

	group := supervisor.NewGroup()
	defer func() { err = errors.Join(err, group.Close()) }()
	c, err := newDevCluster(group, programs, data, d.size)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.stopLoad()) }()
	if err := c.start(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // Ctrl-C while starting
		}
		return err
	}
	fmt.Fprint(d.out, c.describe(ctx))
	server.serve(c)
	<-ctx.Done()
	fmt.Fprintln(d.err, "  stopping")
	return nil
}

// dataDir returns where data and logs go, and what to do with it at the end.
func (d *devOptions) dataDir() (dir string, remove func() error, err error) {
	keep := func() error { return nil }
	if d.dir != "" {
		return d.dir, keep, nil
	}
	dir, err = os.MkdirTemp(d.home(), "data-")
	if err != nil {
		return "", nil, err
	}
	if !d.keep {
		return dir, func() error { return os.RemoveAll(dir) }, nil
	}
	return dir, func() error {
		fmt.Fprintf(d.err, "  data kept in %s; lookupctl dev --dir %s goes on with it\n", dir, dir)
		return nil
	}, nil
}
