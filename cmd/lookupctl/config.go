package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lookupd/lookupd/httpapi"
)

const (
	configPath   = "/v1/config"
	logLevelPath = "/v1/log-level"
)

var logLevels = []string{"debug", "info", "warn", "error", "fatal"}

func newConfig(o *options) *cobra.Command {
	cmd := group("config", "Shows the settings of a peer, or checks a file of them")
	cmd.AddCommand(
		&cobra.Command{
			Use: "show [NAME...]", Short: "Shows every setting of a peer with where its value comes from, or those of some flags", ValidArgsFunction: noFiles,
			RunE: func(cmd *cobra.Command, args []string) error { return o.showConfig(cmd.Context(), args) },
		},
		&cobra.Command{
			Use: "validate FILE [-FLAG...]", Short: "Says all that is wrong with a file of settings, without a peer",
			Long: "Says all that is wrong with a file of settings, without a peer: the lookupd beside lookupctl, or on PATH,\n" +
				"reads it as if started with that file, and the flags after it, alone. An unknown key is an error.",
			Example:            "  lookupctl config validate /etc/lookupd/lookupd.toml\n  lookupctl config validate lookupd.toml -insecure",
			DisableFlagParsing: true, // they are lookupd's
			RunE:               func(cmd *cobra.Command, args []string) error { return o.validateConfig(cmd, args) },
		},
	)
	return cmd
}

// noFiles completes nothing.
func noFiles(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveNoFileComp
}

func (o *options) showConfig(ctx context.Context, names []string) error {
	var c httpapi.Settings
	a, err := o.document(ctx, configPath, "settings", &c)
	if err != nil {
		return err
	}
	if len(names) == 0 && o.output == formatJSON {
		o.printJSON(a)
		return nil
	}
	var chosen []httpapi.Setting
	for _, s := range c.Settings {
		if len(names) == 0 || slices.ContainsFunc(names, func(name string) bool { return flagName(name) == s.Name }) {
			chosen = append(chosen, s)
		}
	}
	for _, name := range names {
		if !slices.ContainsFunc(chosen, func(s httpapi.Setting) bool { return s.Name == flagName(name) }) {
			return fmt.Errorf("%s has no setting %q; lookupctl config show -o name lists them", a.address, name)
		}
	}
	if o.output == formatJSON {
		return o.printAsJSON(chosen)
	}
	o.sentence("%s, version %s", c.SeenBy, c.Version)
	l := listing{columns: columns("SETTING", "VALUE", "ORIGIN")}
	for _, s := range chosen {
		l.add(s.Name, s.Value, s.Origin)
	}
	o.print(l)
	return nil
}

// flagName is the flag of a name as it may stand on a command line or in a file.
func flagName(name string) string {
	return strings.ReplaceAll(strings.TrimLeft(name, "-"), "_", "-")
}

// validateConfig has lookupd judge: no other program knows which settings it
// takes.
func (o *options) validateConfig(cmd *cobra.Command, args []string) error {
	if slices.ContainsFunc(args, func(arg string) bool { return arg == "-h" || arg == "--help" }) {
		return cmd.Help()
	}
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		return usageError{fmt.Errorf("%s wants FILE, then flags of lookupd", cmd.CommandPath())}
	}
	lookupd, err := findLookupd()
	if err != nil {
		return err
	}
	check := exec.CommandContext(cmd.Context(), lookupd, append([]string{"-check-config", "-config", args[0]}, args[1:]...)...)
	check.Env = withoutSettings(os.Environ())
	check.Stdout, check.Stderr = io.Discard, o.err
	var exit *exec.ExitError
	switch err := check.Run(); {
	case errors.As(err, &exit):
		return exitError{code: exitFailed}
	case err != nil:
		return fmt.Errorf("%s: %w", lookupd, err)
	}
	fmt.Fprintf(o.out, "%s is good.\n", args[0])
	return nil
}

// withoutSettings leaves out what would be taken for a setting: the file is to be
// judged alone.
func withoutSettings(environ []string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(entry string) bool { return strings.HasPrefix(entry, "LOOKUPD_") })
}

// findLookupd looks next to this executable, then on PATH.
func findLookupd() (string, error) {
	if self, err := os.Executable(); err == nil {
		if found, err := exec.LookPath(filepath.Join(filepath.Dir(self), "lookupd")); err == nil {
			return found, nil
		}
	}
	found, err := exec.LookPath("lookupd")
	if err != nil {
		return "", fmt.Errorf("lookupd is neither next to lookupctl nor on PATH: build both with make: %w", err)
	}
	return found, nil
}

func newLogLevel(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "log-level [LEVEL]",
		Short: "Shows or changes what a peer logs, until it is restarted",
		Long:  "Shows or changes what a peer logs, until it is restarted: " + strings.Join(logLevels, ", ") + ".",
		Args:  atMost("LEVEL"),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return logLevels, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return o.showConfig(cmd.Context(), []string{"log-level"})
			}
			return o.setLogLevel(cmd.Context(), args[0])
		},
	}
}

func (o *options) setLogLevel(ctx context.Context, level string) error {
	var l httpapi.LogLevel
	a, err := o.changeDocument(ctx, http.MethodPut, logLevelPath+"?level="+url.QueryEscape(level), "a log level", &l)
	if err != nil {
		return err
	}
	if o.output == formatJSON {
		o.printJSON(a)
	} else {
		fmt.Fprintf(o.out, "%s logs from %s on, before from %s on; a restart ends that.\n", a.address, l.Level, l.Before)
	}
	return nil
}
