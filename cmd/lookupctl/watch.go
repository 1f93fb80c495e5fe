package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

// watchUsually is how often --watch looks if it does not say.
const watchUsually = 2 * time.Second

// watchable gives a command that shows something --watch.
func (o *options) watchable(cmd *cobra.Command) *cobra.Command {
	var every time.Duration
	flag := cmd.Flags().VarPF((*interval)(&every), "watch", "", "show it again and again, until it is interrupted; =5s says how often")
	flag.NoOptDefVal = watchUsually.String()
	once := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if every == 0 {
			return once(cmd, args)
		}
		return o.watch(cmd.Context(), every, func() error { return once(cmd, args) })
	}
	return cmd
}

// interval is a duration above 0.
type interval time.Duration

// String implements pflag.Value; "" keeps a default that is none out of the help.
func (i *interval) String() string {
	if *i == 0 {
		return ""
	}
	return time.Duration(*i).String()
}

// Type implements pflag.Value.
func (*interval) Type() string { return "duration" }

// Set implements pflag.Value.
func (i *interval) Set(text string) error {
	const least = 100 * time.Millisecond // a slip of the finger must not load a peer
	d, err := time.ParseDuration(text)
	if err == nil && d < least {
		err = fmt.Errorf("less than %v", least)
	}
	*i = interval(d)
	return err
}

// watch shows what show prints until ctx ends, on a terminal always in the same
// place. What goes wrong is shown too, and tried again.
func (o *options) watch(ctx context.Context, every time.Duration, show func() error) error {
	out, talk := o.out, o.err
	defer func() { o.out, o.err = out, talk }()
	for {
		var text bytes.Buffer
		o.out, o.err = &text, &text
		err := show()
		var usage usageError
		var exit exitError
		switch {
		case errors.As(err, &usage):
			return err
		case errors.As(err, &exit) && exit.message == "": // only a code, for scripts
		case err != nil && ctx.Err() == nil:
			fmt.Fprintf(&text, "lookupctl: %v\n", err)
		}
		if ctx.Err() != nil {
			return nil
		}
		if o.outTerminal {
			fmt.Fprintf(out, "\x1b[H\x1b[2J%s, every %v\n\n", time.Now().Format(time.TimeOnly), every)
		}
		if _, err := out.Write(text.Bytes()); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(every):
		}
	}
}
