package main

import (
	"context"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/lookupd/lookupd/cmd/internal/build"
)

// versionDocument is what version prints as JSON.
type versionDocument struct {
	Lookupctl string        `json:"lookupctl"`
	Go        string        `json:"go"`
	Peers     []peerVersion `json:"peers"`
}

type peerVersion struct {
	Name    string `json:"name"`
	Version string `json:"version"` // "" if it does not answer
}

func newVersion(o *options) *cobra.Command {
	var client bool
	cmd := &cobra.Command{
		Use: "version", Short: "Shows the versions of lookupctl and of each peer", Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.version(cmd.Context(), client) },
	}
	cmd.Flags().BoolVar(&client, "client", false, "only that of lookupctl; asks nobody")
	return cmd
}

func (o *options) version(ctx context.Context, client bool) error {
	v := versionDocument{Lookupctl: build.Version, Go: runtime.Version(), Peers: []peerVersion{}}
	var err error
	if !client {
		_, s, statusErr := o.statusDocument(ctx)
		err = statusErr
		for _, p := range s.Peers {
			v.Peers = append(v.Peers, peerVersion{peerName(p, s.Peers), p.Version})
		}
	}
	if o.output == formatJSON {
		if printErr := o.printAsJSON(v); printErr != nil {
			return printErr
		}
		return err
	}
	o.sentence("lookupctl %s (%s)", v.Lookupctl, v.Go)
	if client || err != nil {
		return err
	}
	l := listing{columns: columns("PEER", "VERSION")}
	for _, p := range v.Peers {
		l.add(p.Name, unknownIfEmpty(p.Version))
	}
	o.print(l)
	return nil
}

func unknownIfEmpty(version string) string {
	if version == "" {
		return "unknown: it is down"
	}
	return fmt.Sprint(version)
}
