package main

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

// producersDocument is one page of GET /v1/producers.
type producersDocument struct {
	Producers []producerDocument `json:"producers"`
	Next      string             `json:"next,omitempty"`
}

type producerDocument struct {
	ID               string            `json:"id"`
	RemoteAddress    string            `json:"remote_address"`
	Hostname         string            `json:"hostname"`
	BroadcastAddress string            `json:"broadcast_address"`
	TCPPort          int               `json:"tcp_port"`
	HTTPPort         int               `json:"http_port"`
	Version          string            `json:"version"`
	TopologyZone     string            `json:"topology_zone"`
	TopologyRegion   string            `json:"topology_region"`
	Sessions         []sessionDocument `json:"sessions"`
}

type sessionDocument struct {
	ID            string   `json:"id"`
	Peer          string   `json:"peer"`
	State         string   `json:"state"`
	EndsInSeconds *float64 `json:"ends_in_seconds,omitempty"`
	LastPing      *float64 `json:"last_ping_seconds,omitempty"`
	Pending       int      `json:"pending,omitempty"`
}

func newProducers(o *options) *cobra.Command {
	var prefix, state string
	cmd := &cobra.Command{
		Use: "producers", Short: "Lists the producers with the peers that hold their sessions", Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := o.allProducers(cmd.Context(), prefix, state)
			if err != nil {
				return err
			}
			return o.printProducers(d)
		},
	}
	cmd.Flags().StringVar(&prefix, "prefix", "", "only those whose address begins so")
	cmd.Flags().StringVar(&state, "state", "", "only those with a session that is open, suspended or orphan")
	return o.watchable(cmd)
}

// allProducers reads all pages.
func (o *options) allProducers(ctx context.Context, prefix, state string) (all producersDocument, err error) {
	values := url.Values{"limit": {"1000"}}
	if prefix != "" {
		values.Set("prefix", prefix)
	}
	if state != "" {
		values.Set("state", state)
	}
	for {
		var page producersDocument
		a, err := o.document(ctx, o.read("/v1/producers", values), "a list of producers", &page)
		if err != nil {
			return all, err
		}
		if all.Producers == nil {
			o.printAge(a)
		}
		all.Producers = append(all.Producers, page.Producers...)
		if page.Next == "" {
			return all, nil
		}
		values.Set("after", page.Next)
	}
}

func (o *options) printProducers(d producersDocument) error {
	if o.output == formatJSON {
		return o.printAsJSON(d)
	}
	l := listing{columns: columns("PRODUCER", "HTTP PORT", "HOST NAME", "VERSION", "SESSIONS", "+REMOTE ADDRESS", "+ZONE", "+REGION")}
	for _, p := range d.Producers {
		l.add(p.ID, p.HTTPPort, p.Hostname, p.Version, p.sessions(), p.RemoteAddress, p.TopologyZone, p.TopologyRegion)
	}
	o.print(l)
	return nil
}

// sessions names the peers, and what is wrong with a session.
func (p producerDocument) sessions() string {
	var parts []string
	for _, s := range p.Sessions {
		if s.State == "open" {
			parts = append(parts, s.Peer)
		} else {
			parts = append(parts, s.Peer+" ("+s.State+")")
		}
	}
	return strings.Join(parts, ", ")
}

func (p producerDocument) httpAddress() string {
	return net.JoinHostPort(p.BroadcastAddress, strconv.Itoa(p.HTTPPort))
}

func newProducer(o *options) *cobra.Command {
	cmd := group("producer", "Shows a producer")
	cmd.AddCommand(&cobra.Command{
		Use: "show ADDRESS", Short: "Shows a producer, by its broadcast address and TCP port, with its sessions", Args: exactly("ADDRESS"),
		ValidArgsFunction: o.live(findProducers),
		RunE:              func(cmd *cobra.Command, args []string) error { return o.showProducer(cmd.Context(), args[0]) },
	})
	return cmd
}

func (o *options) showProducer(ctx context.Context, id string) error {
	d, err := o.allProducers(ctx, id, "")
	if err != nil {
		return err
	}
	for _, p := range d.Producers {
		if p.ID != id {
			continue
		}
		if o.output == formatJSON {
			return o.printAsJSON(p)
		}
		o.sentence("%s: host %s, HTTP port %d, version %s, comes from %s", p.ID, p.Hostname, p.HTTPPort, p.Version, p.RemoteAddress)
		l := listing{columns: columns("PEER", "STATE", "LAST PING", "ENDS IN", "PENDING", "+SESSION")}
		for _, s := range p.Sessions {
			l.add(s.Peer, s.State, inSeconds(s.LastPing), inSeconds(s.EndsInSeconds), s.Pending, s.ID)
		}
		o.print(l)
		return nil
	}
	return fmt.Errorf("no producer %q; lookupctl producers lists them", id)
}

func inSeconds(s *float64) string {
	if s == nil {
		return "-"
	}
	return strconv.FormatFloat(*s, 'f', 1, 64) + "s"
}
