package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/lookupd/lookupd/cluster"
)

func newLeader(o *options) *cobra.Command {
	cmd := group("leader", "Shows or moves the leader")
	cmd.AddCommand(
		&cobra.Command{
			Use: "show", Short: "Prints the leader's name", Args: noArguments,
			RunE: func(cmd *cobra.Command, _ []string) error { return o.showLeader(cmd.Context()) },
		},
		newTransfer(o, "transfer [NAME]"),
	)
	return cmd
}

func newTransfer(o *options, use string) *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   use,
		Short: "Makes another voter the leader, and says how long writes paused",
		Args:  atMost("NAME"), ValidArgsFunction: o.live(findPeers),
		RunE: func(cmd *cobra.Command, args []string) error {
			to := ""
			if len(args) > 0 {
				to = args[0]
			}
			return o.transfer(cmd.Context(), to, dryRun)
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say who would be the leader")
	return cmd
}

func (o *options) showLeader(ctx context.Context) error {
	a, s, err := o.statusDocument(ctx)
	switch {
	case err != nil:
		return err
	case o.output == formatJSON:
		o.printJSON(a)
	case s.Leader == "":
		return exitError{exitNoQuorum, s.Sentence}
	default:
		fmt.Fprintln(o.out, s.Leader)
	}
	return nil
}

func (o *options) transfer(ctx context.Context, to string, dryRun bool) error {
	o.timeout = max(o.timeout, operateTimeout)
	path := "/v1/leader/transfer"
	values := url.Values{}
	if to != "" {
		values.Set("to", to)
	}
	if dryRun {
		values.Set("dry_run", "true")
	}
	if len(values) > 0 {
		path += "?" + values.Encode()
	}
	var t cluster.Transfer
	a, err := o.changeDocument(ctx, http.MethodPost, path, "a transfer", &t)
	if err != nil {
		return err
	}
	if o.output == formatJSON {
		o.printJSON(a)
	} else {
		fmt.Fprintln(o.out, t.Sentence)
	}
	return nil
}

func newAutopilot(o *options) *cobra.Command {
	cmd := group("autopilot", "Shows who may vote, and by which rules")
	cmd.AddCommand(newAutopilotState(o), newAutopilotConfig(o))
	return cmd
}

func newAutopilotConfig(o *options) *cobra.Command {
	return &cobra.Command{
		Use: "config", Short: "Shows the rules by which peers become voters", Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.autopilotConfig(cmd.Context()) },
	}
}

func newAutopilotState(o *options) *cobra.Command {
	return &cobra.Command{
		Use: "state", Short: "Shows what the leader thinks of each peer's fitness to vote", Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.autopilotState(cmd.Context()) },
	}
}

func (o *options) autopilotState(ctx context.Context) error {
	var s cluster.AutopilotState
	a, err := o.document(ctx, "/v1/autopilot", "autopilot's state", &s)
	if err != nil {
		return err
	}
	if o.output == formatJSON {
		o.printJSON(a)
		return nil
	}
	o.sentence("%s", s.Sentence)
	l := listing{columns: columns("NAME", "STATUS", "ROLE", "HEALTHY", "STABLE FOR", "LAST CONTACT", "LAST TERM", "LAST INDEX", "+ID")}
	for _, p := range s.Servers {
		role := string(p.Role)
		if p.NeverVotes {
			role += ", stays so"
		}
		l.add(p.Name, p.Status, role, p.Healthy, (time.Duration(p.StableMS) * time.Millisecond).Truncate(time.Second),
			milliseconds(p.LastContactMS), p.LastTerm, p.LastIndex, p.ID)
	}
	o.print(l)
	return nil
}

func milliseconds(ms int64) string {
	if ms < 0 {
		return "never"
	}
	return (time.Duration(ms) * time.Millisecond).String()
}

func (o *options) autopilotConfig(ctx context.Context) error {
	var s cluster.AutopilotState
	if _, err := o.document(ctx, "/v1/autopilot", "autopilot's state", &s); err != nil {
		return err
	}
	if o.output == formatJSON {
		return o.printAsJSON(s.Settings)
	}
	l := listing{columns: columns("SETTING", "VALUE", "MEANS")}
	l.add("CleanupDeadServers", strconv.FormatBool(s.Settings.CleanupDeadServers), "-cleanup-dead-peers; without it a dead peer stays until it is removed or replaced")
	l.add("LastContactThreshold", milliseconds(s.Settings.LastContactThresholdMS), "a peer that heard the leader longer ago is not healthy")
	l.add("MaxTrailingLogs", s.Settings.MaxTrailingLogs, "a peer that lacks more entries is not healthy")
	l.add("MinQuorum", s.Settings.MinQuorum, "-bootstrap-expect of the leader")
	l.add("ServerStabilizationTime", milliseconds(s.Settings.ServerStabilizationMS), "a new peer votes after so long in good health")
	o.print(l)
	return nil
}
