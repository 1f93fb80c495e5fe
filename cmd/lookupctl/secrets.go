package main

import (
	"fmt"
	"path/filepath"
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
	cmd := &cobra.Command{
		Use:   "init DIR",
		Short: "Makes an authority, a certificate for all peers of a cluster and a gossip key",
		Long: `Makes an authority, a certificate for all peers of a cluster and a gossip key, as
files that only their owner reads, in DIR. Nothing is overwritten.

Copy DIR to each peer, without ` + secrets.AuthorityKeyFile + `: whoever has that one can make more peers.`,
		Args: exactly("DIR"),
		RunE: func(_ *cobra.Command, args []string) error { return o.initSecrets(args[0], cluster, ifAbsent) },
	}
	cmd.Flags().StringVar(&cluster, "cluster", secrets.DefaultCluster, "name of the cluster in the certificate; peers of another refuse it")
	cmd.Flags().BoolVar(&ifAbsent, "if-absent", false, "succeed and change nothing if DIR holds secrets already")
	return cmd
}

func (o *options) initSecrets(dir, cluster string, ifAbsent bool) error {
	if !secrets.ValidCluster(cluster) {
		return usageError{fmt.Errorf("--cluster %q: want 1 to 63 of a-z, 0-9, and - inside", cluster)}
	}
	there, err := secrets.Exist(dir)
	if err != nil {
		return err
	}
	if there && ifAbsent {
		fmt.Fprintf(o.err, "%s holds secrets already; nothing was changed.\n", dir)
		return nil
	}
	if err := secrets.Create(dir, cluster, time.Now()); err != nil {
		return err
	}
	path := func(name string) string { return filepath.Join(dir, name) }
	fmt.Fprintf(o.err, "Made %s. Copy it to each peer, without %s: keep that one where no peer runs.\nFlags of each peer:\n",
		dir, secrets.AuthorityKeyFile)
	fmt.Fprintf(o.out, "-peer-tls-cert=%s -peer-tls-key=%s -peer-tls-root-ca-file=%s -gossip-key-file=%s\n",
		path(secrets.CertificateFile), path(secrets.KeyFile), path(secrets.AuthorityFile), path(secrets.GossipKeyFile))
	return nil
}
