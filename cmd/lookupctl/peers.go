package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lookupd/lookupd/cluster"
)

// operateTimeout is the least that a change of the cluster gets: a peer answers
// within 20 s.
const operateTimeout = 25 * time.Second

func newPeers(o *options) *cobra.Command {
	return o.watchable(&cobra.Command{
		Use: "peers", Short: "Lists the peers", Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.peers(cmd.Context()) },
	})
}

func newPeer(o *options) *cobra.Command {
	cmd := group("peer", "Shows or removes a peer")
	cmd.AddCommand(
		&cobra.Command{
			Use: "show NAME", Short: "Shows all that is known of a peer", Args: exactly("NAME"), ValidArgsFunction: o.live(findPeers),
			RunE: func(cmd *cobra.Command, args []string) error { return o.showPeer(cmd.Context(), args[0]) },
		},
		newPeerRemove(o, "remove NAME"),
	)
	return cmd
}

func newPeerRemove(o *options, use string) *cobra.Command {
	var dryRun, force bool
	cmd := &cobra.Command{
		Use:   use,
		Short: "Takes a peer out of the cluster, for good",
		Long: "Takes a peer out of the cluster, for good: its id never comes back. Says before what the cluster may\n" +
			"lose then, and is refused when those that stay could commit nothing. A leader hands over first.\n" +
			"Without --yes it asks.",
		Args: exactly("NAME"), ValidArgsFunction: o.live(findPeers),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.removePeer(cmd.Context(), args[0], dryRun, force)
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would be")
	cmd.Flags().BoolVar(&force, "force", false, "although those that stay have no quorum: the cluster stands still until they are back")
	return cmd
}

func (o *options) statusDocument(ctx context.Context) (answer, cluster.Status, error) {
	var s cluster.Status
	a, err := o.document(ctx, "/v1/status", "a status", &s)
	return a, s, err
}

func (o *options) peers(ctx context.Context) error {
	a, s, err := o.statusDocument(ctx)
	if err != nil {
		return err
	}
	if o.output == formatJSON {
		o.printJSON(a)
		return nil
	}
	l := listing{columns: columns("NAME", "ROLE", "HEALTH", "LAG", "VERSION", "SESSIONS", "HTTP", "+PEER", "+ID", "+FREE DISK")}
	for _, p := range s.Peers {
		l.add(peerName(p, s.Peers), p.Role, o.painted(string(p.Health)), lag(p), p.Version, sessions(p), p.HTTPAddress, p.Address, p.ID, mebibytes(p.FreeDisk))
	}
	o.print(l)
	return nil
}

func mebibytes(n uint64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%d MiB", n>>20)
}

func (o *options) showPeer(ctx context.Context, name string) error {
	a, s, err := o.statusDocument(ctx)
	if err != nil {
		return err
	}
	var names []string
	for _, p := range s.Peers {
		names = append(names, peerName(p, s.Peers))
		if p.Name != name && string(p.ID) != name {
			continue
		}
		if o.output == formatJSON {
			return o.printAsJSON(p)
		}
		l := listing{columns: columns("WHAT", "VALUE")}
		l.add("name", p.Name)
		l.add("id", p.ID)
		l.add("role", p.Role)
		l.add("never votes", p.NonVoter)
		l.add("health", strings.TrimSpace(fmt.Sprint(p.Health, " ", p.Error)))
		l.add("lag", lag(p))
		l.add("version", p.Version)
		l.add("peer address", p.Address)
		l.add("http address", p.HTTPAddress)
		l.add("sessions", sessions(p))
		l.add("free disk", mebibytes(p.FreeDisk))
		if p.Security != nil {
			l.add("peer port with mutual TLS", p.Security.PeerTLS)
			l.add("gossip with a key", p.Security.GossipKey)
			l.add("these ports off loopback", p.Security.Exposed)
		}
		l.add("as seen by", s.SeenBy)
		o.print(l)
		return nil
	}
	return fmt.Errorf("%s knows no peer %q; there are %s", a.address, name, strings.Join(names, ", "))
}

func (o *options) removePeer(ctx context.Context, name string, dryRun, force bool) error {
	o.timeout = max(o.timeout, operateTimeout)
	var plan cluster.Removal
	a, err := o.changeDocument(ctx, http.MethodDelete, removalPath(name, force, true), "a removal", &plan)
	if err != nil {
		return err
	}
	if dryRun {
		if o.output == formatJSON {
			o.printJSON(a)
		} else {
			fmt.Fprintln(o.out, plan.Sentence)
		}
		return nil
	}
	if o.output != formatJSON {
		fmt.Fprintln(o.out, plan.Sentence)
	}
	if err := o.confirmed(ctx, fmt.Sprintf("Remove %s (%s)?", plan.Name, plan.ID)); err != nil {
		return err
	}
	var done cluster.Removal
	// By id: another peer of that name may have come meanwhile.
	a, err = o.changeDocument(ctx, http.MethodDelete, removalPath(string(plan.ID), force, false), "a removal", &done)
	if err != nil {
		return err
	}
	if o.output == formatJSON {
		o.printJSON(a)
		return nil
	}
	if done.HandedOverTo != "" {
		fmt.Fprintf(o.out, "It led; %s leads now.\n", done.HandedOverTo)
	}
	fmt.Fprintf(o.out, "Removed %s. It stops by itself, with exit code 3; to take it in again, start it with an empty -data-path and -join.\n", done.Name)
	return nil
}

func removalPath(peer string, force, dryRun bool) string {
	path := "/v1/peers/" + url.PathEscape(peer)
	var flags []string
	if force {
		flags = append(flags, "force")
	}
	if dryRun {
		flags = append(flags, "dry_run")
	}
	if len(flags) == 0 {
		return path
	}
	return path + "?" + strings.Join(flags, "&")
}

// changeDocument is document for a request that changes something.
func (o *options) changeDocument(ctx context.Context, method, path, of string, into any) (answer, error) {
	a, err := o.change(ctx, method, path, nil)
	if err != nil {
		return a, err
	}
	if a.status != http.StatusOK {
		return a, a.failure()
	}
	return a, a.decode(of, into)
}
