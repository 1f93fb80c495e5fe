package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// addAliases adds, hidden, the words that operators of Consul and etcd have in
// their fingers.
func addAliases(root *cobra.Command, o *options) {
	renamed := func(c *cobra.Command, use string) *cobra.Command {
		c.Use = use
		return c
	}
	raft := group("raft", "Consul's words")
	raft.AddCommand(renamed(newPeers(o), "list-peers"), withID(newPeerRemove(o, "remove-peer [NAME]"), true), withID(newTransfer(o, "transfer-leader [NAME]"), false))
	pilot := group("autopilot", "Consul's words")
	pilot.AddCommand(newAutopilotState(o), renamed(newAutopilotConfig(o), "get-config"),
		instead("set-config", "these are flags of lookupd, such as -cleanup-dead-peers; lookupctl autopilot config shows them"))
	operator := group("operator", "Consul's words")
	operator.AddCommand(raft, pilot)

	member := group("member", "etcd's words")
	member.AddCommand(renamed(newPeers(o), "list"), newPeerRemove(o, "remove NAME"), instead("add", "start the new peer with -join=<the others>; it joins and votes by itself"),
		instead("promote", "a new peer votes by itself once it has kept up for 10 s; lookupctl autopilot state shows when"))
	endpoint := group("endpoint", "etcd's words")
	endpoint.AddCommand(renamed(newStatus(o), "health"), renamed(newStatus(o), "status"))

	for _, c := range []*cobra.Command{
		renamed(newPeers(o), "members"), operator, member, endpoint, renamed(newLogs(o), "monitor"),
		newTransfer(o, "move-leader [NAME]"), newTransfer(o, "step-down"),
		instead("join", "start the new peer with -join=<the others>"),
		instead("defrag", "nothing needs it: each start makes the state anew, and snapshots cut the log"),
		instead("compaction", "nothing needs it: snapshots cut the log by themselves"),
		instead("leave", "a peer that is stopped stays a member; lookupctl peer remove NAME takes it out for good"),
	} {
		root.AddCommand(hidden(c))
	}
}

func hidden(c *cobra.Command) *cobra.Command {
	c.Hidden = true
	return c
}

// withID also takes the peer as -id, as Consul does.
func withID(c *cobra.Command, needed bool) *cobra.Command {
	var id string
	c.Flags().StringVar(&id, "id", "", "the peer, by name or id")
	run := c.RunE
	c.Args = func(_ *cobra.Command, args []string) error {
		if len(args) > 1 || needed && len(args) == 0 && id == "" {
			return usageError{fmt.Errorf("%s wants one NAME, or -id=NAME", c.CommandPath())}
		}
		return nil
	}
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if id != "" {
			args = []string{id}
		}
		return run(cmd, args)
	}
	return c
}

// instead is a word that has no equal here, and says what to do.
func instead(use, advice string) *cobra.Command {
	return &cobra.Command{
		Use: use, Hidden: true, DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usageError{fmt.Errorf("there is no %q: %s", cmd.CommandPath(), advice)}
		},
	}
}
