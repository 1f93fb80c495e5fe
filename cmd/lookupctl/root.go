package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/lookupd/lookupd/cmd/internal/build"
	"github.com/lookupd/lookupd/cmd/internal/nearest"
	"github.com/lookupd/lookupd/httpapi"
)

// Exit codes.
const (
	exitOK        = 0
	exitFailed    = 1
	exitUsage     = 2
	exitUnhealthy = 3
	exitNoQuorum  = 4
)

const (
	defaultAddress = "127.0.0.1:4161"
	defaultTimeout = 5 * time.Second
)

// streams is what lookupctl writes, data to out and talk to err, and reads
// answers from.
type streams struct {
	out, err    io.Writer
	in          io.Reader
	interactive bool // in is a terminal
	outTerminal bool
	errTerminal bool
}

// options are those that all commands share.
type options struct {
	streams
	addresses []string
	output    string
	timeout   time.Duration
	stale     bool
	yes       bool   // do not ask
	noColor   bool   // as given
	color     bool   // words of health have colours
	caFile    string // "" for the system's authorities
	client    *http.Client
	tokenFile string // "" for none
	token     string // what is in it
}

// exitError ends lookupctl with a code of its own. An empty message prints nothing.
type exitError struct {
	code    int
	message string
}

func (e exitError) Error() string { return e.message }

// usageError is an error of the command line itself.
type usageError struct{ error }

// run executes one command line and returns the exit code.
func run(ctx context.Context, args []string, s streams, getenv func(string) string) int {
	root := newRoot(s, getenv)
	root.SetArgs(longOptions(args))
	cmd, err := root.ExecuteContextC(ctx)
	var exit exitError
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &exit):
		if exit.message != "" {
			fmt.Fprintln(s.err, "lookupctl: "+exit.message)
		}
		return exit.code
	case errors.As(err, &usage):
		fmt.Fprintf(s.err, "lookupctl: %v\nSee: %s --help\n", err, cmd.CommandPath())
		if cmd.Name() == checkName { // 2 would be an alarm about the cluster
			return checkUnknown
		}
		return exitUsage
	}
	fmt.Fprintf(s.err, "lookupctl: %v\n", err)
	return exitFailed
}

func newRoot(s streams, getenv func(string) string) *cobra.Command {
	o := &options{streams: s}
	root := &cobra.Command{
		Use:           "lookupctl",
		Short:         "Shows and runs lookupd clusters",
		Version:       build.Version, // of --version, which asks no peer
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          noArguments,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			return o.complete(getenv)
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usageError{explainFlag(cmd, err)} })

	flags := root.PersistentFlags()
	flags.StringSliceVarP(&o.addresses, "address", "a", nil,
		"HTTP address of a peer, repeatable; the next is tried when one fails (env LOOKUPD_ADDR; default "+defaultAddress+")")
	for _, alias := range []string{"lookupd-http-address", "endpoints"} {
		flags.StringSliceVar(&o.addresses, alias, nil, "same as --address")
		_ = flags.MarkHidden(alias) // fails for unknown flags only
	}
	flags.StringVarP(&o.output, "output", "o", formatTable, "table, wide, csv, name, or json: the peer's document, unchanged")
	flags.DurationVar(&o.timeout, "timeout", defaultTimeout, "limit for all requests of a command")
	flags.BoolVar(&o.stale, "stale", false, "take what a peer has, without asking the others")
	flags.BoolVarP(&o.yes, "yes", "y", false, "do not ask before a change")
	flags.BoolVar(&o.noColor, "no-color", false, "no colours, as where nobody sees them (env NO_COLOR)")
	flags.StringVar(&o.tokenFile, "token-file", "", "file with the token of the peers' -admin-token-file, or one for lookups (env LOOKUPD_TOKEN_FILE)")
	flags.StringVar(&o.caFile, "ca-file", "", "file with the authorities of the peers' certificates, for addresses that begin with https:// (env LOOKUPD_CA_FILE; default the system's)")
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp)) // fails for unknown flags only

	root.AddCommand(
		newStatus(o), newCheck(o), newPeers(o), newPeer(o), newLeader(o), newAutopilot(o),
		newLookup(o), newTopics(o), newTopic(o), newChannels(o), newChannel(o), newProducers(o), newProducer(o),
		newSnapshot(o), newRecover(o), newRaft(o), newConfig(o), newLogs(o), newLogLevel(o), newDebug(o),
		newVersion(o), newMan(o), newDev(o), newSecrets(o),
	)
	addAliases(root, o)
	return root
}

// complete fills in what the command line left open and checks it.
func (o *options) complete(getenv func(string) string) error {
	if len(o.addresses) == 0 {
		o.addresses = splitList(getenv("LOOKUPD_ADDR"))
	}
	if len(o.addresses) == 0 {
		o.addresses = []string{defaultAddress}
	}
	o.color = o.outTerminal && !o.noColor && getenv("NO_COLOR") == ""
	if !slices.Contains(formats, o.output) {
		return usageError{fmt.Errorf("--output %q: want one of %s", o.output, strings.Join(formats, ", "))}
	}
	if o.caFile == "" {
		o.caFile = getenv("LOOKUPD_CA_FILE")
	}
	var err error
	if o.client, err = newClient(o.caFile); err != nil {
		return usageError{fmt.Errorf("--ca-file: %w", err)}
	}
	if o.tokenFile == "" {
		o.tokenFile = getenv("LOOKUPD_TOKEN_FILE")
	}
	if o.tokenFile != "" {
		token, err := httpapi.ReadToken(o.tokenFile)
		if err != nil {
			return usageError{fmt.Errorf("--token-file: %w", err)}
		}
		o.token = string(token)
	}
	if o.timeout <= 0 {
		return usageError{fmt.Errorf("--timeout %v: must be above 0", o.timeout)}
	}
	return nil
}

func splitList(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
}

const typos = 2 // letters that may be wrong in what is named instead

// explainFlag names the flag that was meant, if it can be told.
func explainFlag(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return err
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { // those of the root too
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	if near := nearest.Of(unknown.GetSpecifiedName(), names, typos); near != "" {
		return fmt.Errorf("%w; did you mean --%s?", err, near)
	}
	return err
}

// noArguments and those below check positional arguments.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	message := fmt.Sprintf("unknown command %q for %q", args[0], cmd.CommandPath())
	cmd.SuggestionsMinimumDistance = typos
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		message += "; did you mean " + strings.Join(near, " or ") + "?"
	}
	return usageError{errors.New(message)}
}

// exactly wants one argument for each of these words.
func exactly(words ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != len(words) {
			return usageError{fmt.Errorf("%s wants %s, got %s", cmd.CommandPath(), strings.Join(words, " and "), plural(len(args), "argument"))}
		}
		return nil
	}
}

// atMost wants one argument or none.
func atMost(word string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			return usageError{fmt.Errorf("%s wants one %s at most, got %d", cmd.CommandPath(), word, len(args))}
		}
		return nil
	}
}

// atLeast wants one argument or more.
func atLeast(word string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usageError{fmt.Errorf("%s wants one %s or more", cmd.CommandPath(), word)}
		}
		return nil
	}
}

func wordsAfterFirst(use string) []string { return strings.Fields(use)[1:] }

// group is a command that only has sub-commands.
func group(use, short string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
}

// printAsJSON prints a part of a peer's document.
func (o *options) printAsJSON(v any) error {
	encoder := json.NewEncoder(o.out)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}
