package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lookupd/lookupd/secrets"
)

func newSecrets(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "secrets",
		Short: "Makes the certificates and the key that peers need off loopback",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newSecretsInit(o))
	return cmd
}

func newSecretsInit(o *options) *cobra.Command {
	var cluster string
	var ifAbsent bool
	var http []string
	cmd := &cobra.Command{
		Use:   "init DIR",
		Short: "Makes an authority, a certificate for all peers of a cluster and a gossip key",
		Long: `Makes an authority, a certificate for all peers of a cluster and a gossip key, as
files that only their owner reads, in DIR. Nothing is overwritten. With --http it
also makes a certificate for HTTPS on the HTTP port, signed by the same authority.

Copy DIR to each peer, without ` + secrets.AuthorityKeyFile + `: whoever has that one can make more peers.`,
		Args: exactly("DIR"),
		RunE: func(_ *cobra.Command, args []string) error { return o.initSecrets(args[0], cluster, http, ifAbsent) },
	}
	cmd.Flags().StringVar(&cluster, "cluster", secrets.DefaultCluster, "name of the cluster in the certificate; peers of another refuse it")
	cmd.Flags().StringSliceVar(&http, "http", nil, "`hosts` by which clients call the peers, DNS names and IP addresses, with commas: makes a certificate for HTTPS that names all of them")
	cmd.Flags().BoolVar(&ifAbsent, "if-absent", false, "succeed and change nothing if DIR holds secrets already")
	return cmd
}

func (o *options) initSecrets(dir, cluster string, http []string, ifAbsent bool) error {
	if !secrets.ValidCluster(cluster) {
		return usageError{fmt.Errorf("--cluster %q: want 1 to 63 of a-z, 0-9, and - inside", cluster)}
	}
	hosts, err := secrets.ParseHosts(http)
	if err != nil {
		return usageError{fmt.Errorf("--http: %w", err)}
	}
	there, missing, err := secrets.Exist(dir, hosts)
	if err != nil {
		return err
	}
	if there && ifAbsent && len(missing) > 0 {
		return fmt.Errorf("%s holds a part of the secrets alone, %s lacking: put that there, or empty it if no peer uses what it holds",
			dir, strings.Join(missing, " and "))
	}
	if there && ifAbsent {
		fmt.Fprintf(o.err, "%s holds secrets already; nothing was changed.\n", dir)
		return nil
	}
	if err := secrets.Create(dir, cluster, hosts, time.Now()); err != nil {
		return err
	}
	path := func(name string) string { return filepath.Join(dir, name) }
	fmt.Fprintf(o.err, "Made %s. Copy it to each peer, without %s: keep that one where no peer runs.\nFlags of each peer:\n",
		dir, secrets.AuthorityKeyFile)
	fmt.Fprintf(o.out, "-peer-tls-cert=%s -peer-tls-key=%s -peer-tls-root-ca-file=%s -gossip-key-file=%s\n",
		path(secrets.CertificateFile), path(secrets.KeyFile), path(secrets.AuthorityFile), path(secrets.GossipKeyFile))
	if len(http) > 0 {
		fmt.Fprintf(o.out, "-http-tls-cert=%s -http-tls-key=%s\n", path(secrets.HTTPCertificateFile), path(secrets.HTTPKeyFile))
		fmt.Fprintf(o.err, "Clients by HTTPS need %s: lookupctl --ca-file, nsqadmin -http-client-tls-root-ca-file, SSL_CERT_FILE for nsqd.\n", path(secrets.AuthorityFile))
	}
	return nil
}
