package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/registry"
)

func newStatus(o *options) *cobra.Command {
	var local, quiet bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Says whether the cluster is well, and what may break next",
		Long: "Says whether the cluster is well, and what may break next.\n" +
			"Exit codes: 0 healthy, 3 not healthy, 4 no quorum, 1 no peer answers.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if quiet {
				o.out = io.Discard
			}
			if local {
				return o.localStatus(cmd.Context())
			}
			return o.status(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&local, "local", false, "only whether the peer itself serves: 0 if so, 3 if not; for health checks of containers")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print nothing, the exit code says it")
	return o.watchable(cmd)
}

// localStatus shows the peer's own readiness, which does not depend on others.
func (o *options) localStatus(ctx context.Context) error {
	a, err := o.get(ctx, "/readyz")
	if err != nil {
		return err
	}
	fmt.Fprintf(o.out, "%s\n", bytes.TrimSpace(a.body))
	if a.status != http.StatusOK {
		return exitError{code: exitUnhealthy}
	}
	return nil
}

func (o *options) status(ctx context.Context) error {
	a, s, err := o.statusDocument(ctx)
	if err != nil {
		return err
	}
	if o.output == formatJSON {
		o.printJSON(a)
	} else {
		o.printStatus(s)
	}
	switch s.State {
	case cluster.StateHealthy:
		return nil
	case cluster.StateNoQuorum:
		return exitError{code: exitNoQuorum}
	}
	return exitError{code: exitUnhealthy}
}

func (o *options) printStatus(s cluster.Status) {
	line := s.Sentence
	if s.Leader != "" {
		line += fmt.Sprintf("   leader %s (term %d)", s.Leader, s.Term)
	}
	o.sentence("%s   index %d   %s, %s", line, s.Index, plural(s.Counts.Producers, "producer"), plural(s.Counts.Topics, "topic"))
	l := listing{columns: columns("NAME", "ROLE", "HEALTH", "LAG", "LAST CONTACT", "VERSION", "SESSIONS", "", "+HTTP", "+PEER", "+ID")}
	for _, p := range s.Peers {
		l.add(peerName(p, s.Peers), p.Role, o.painted(string(p.Health)), lag(p), lastContact(p, s), p.Version, sessions(p), nextStep(p, s), p.HTTPAddress, p.Address, p.ID)
	}
	o.print(l)
}

// peerName is the name, or the full id where two peers have one name.
func peerName(p cluster.PeerStatus, all []cluster.PeerStatus) string {
	for _, other := range all {
		if other.Name == p.Name && other.ID != p.ID {
			return string(p.ID)
		}
	}
	return p.Name
}

func lag(p cluster.PeerStatus) string {
	if p.Health != cluster.HealthOK {
		return "-"
	}
	return strconv.FormatUint(p.Lag, 10)
}

func lastContact(p cluster.PeerStatus, s cluster.Status) string {
	if p.Name == s.SeenBy || p.LastContactMS < 0 {
		return "-"
	}
	d := time.Duration(p.LastContactMS) * time.Millisecond
	if d < time.Second {
		return d.String()
	}
	return d.Truncate(time.Second).String() + " ago"
}

// sessions is how many the peer has, or how many it left behind.
func sessions(p cluster.PeerStatus) string {
	text := strconv.Itoa(p.Sessions)
	if p.Orphans > 0 {
		end := (time.Duration(p.OrphansEndMS) * time.Millisecond).Truncate(time.Second)
		orphans := fmt.Sprintf("%s, end in %s", plural(p.Orphans, "orphan"), end)
		if p.Sessions == 0 {
			return orphans
		}
		text += " + " + orphans
	}
	return text
}

// upgradeNext returns the peer to restart next in an upgrade, the leader last, ""
// if there is none or not now: all must be well, and the cluster bear its absence.
// What the peer that was started last runs is taken for the new version.
func upgradeNext(s cluster.Status) (next registry.NodeID) {
	if s.State != cluster.StateHealthy || s.Tolerance == 0 || len(s.Peers) == 0 {
		return ""
	}
	latest := slices.MinFunc(s.Peers, func(a, b cluster.PeerStatus) int { return cmp.Compare(a.UptimeMS, b.UptimeMS) })
	for _, p := range s.Peers {
		switch {
		case p.Version == latest.Version:
		case p.Role != cluster.RoleLeader:
			return p.ID
		default:
			next = p.ID
		}
	}
	return next
}

// nextStep is what to do about a peer that is down, or whose turn it is in an
// upgrade.
func nextStep(p cluster.PeerStatus, s cluster.Status) string {
	if p.Health == cluster.HealthOK {
		if p.ID == upgradeNext(s) {
			return "-> upgrade it next"
		}
		return ""
	}
	step := "-> restart it"
	if p.Role != cluster.RoleJoining && s.State != cluster.StateNoQuorum {
		step += ", or: lookupctl peer remove " + peerName(p, s.Peers)
	}
	if p.Error != "" {
		step += fmt.Sprintf(" (%s)", p.Error)
	}
	return step
}

// newTable returns a table without lines, as a terminal and awk like it.
func newTable(columns ...string) table.Writer {
	t := table.NewWriter()
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft = ""
	style.Box.PaddingRight = "  "
	t.SetStyle(style)
	t.SuppressTrailingSpaces()
	header := make(table.Row, len(columns))
	for i, c := range columns {
		header[i] = c
	}
	t.AppendHeader(header)
	return t
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}
