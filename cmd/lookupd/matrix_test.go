package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/lookupd/lookupd/secrets"
	"github.com/lookupd/lookupd/secrets/secretstest"
	"github.com/lookupd/lookupd/supervisor"
)

// TestCertificatesAtAllPorts shows a whole peer each of these certificates at each
// of its ports. Only one of the role peer, of this cluster and of its authority gets
// a byte through, and that at the peer port alone. (Package peer shows the same
// certificates, and more, to the handshake behind TLS.)
func TestCertificatesAtAllPorts(t *testing.T) {
	dir := t.TempDir()
	authority, other := secretstest.NewAuthority(t), secretstest.NewAuthority(t)
	files := secretstest.Write(t, dir, authority.Issue(t), secretstest.PEM(authority))
	server := secretstest.WriteServer(t, dir, authority.Issue(t, secretstest.Host("localhost")))
	free, err := supervisor.FreePorts(2) // the node tells the ports that it advertises, not those that it got
	if err != nil {
		t.Fatal(err)
	}
	peerPort, gossipPort := supervisor.Address(free[0]), supervisor.Address(free[1])
	o := loopbackOptions(t, dir+"/data", "-peer-address="+peerPort, "-gossip-address="+gossipPort,
		"-peer-tls-cert="+files.Certificate, "-peer-tls-key="+files.Key, "-peer-tls-root-ca-file="+files.Authorities,
		"-gossip-key-file="+secretstest.WriteGossipKeys(t, dir, secretstest.GossipKey()),
		"-http-tls-cert="+server.Certificate, "-http-tls-key="+server.Key, "-admin-cidr=192.0.2.0/24")
	d, err := startDaemon(t, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.stop(); err != nil {
			t.Error(err)
		}
	})
	in := func(cluster, role, node string) func(*x509.Certificate) {
		return secretstest.For(secrets.Name{Cluster: cluster, Role: role, Node: node})
	}
	show := func(p secretstest.Pair) *tls.Config { return &tls.Config{Certificates: []tls.Certificate{p.TLS(t)}} }
	unproven := authority.Issue(t).TLS(t)
	unproven.PrivateKey = other.Issue(t).TLS(t).PrivateKey
	for name, c := range map[string]struct {
		config *tls.Config
		peer   bool // gets through at the peer port
	}{
		"a peer's":                 {show(authority.Issue(t)), true},
		"that peer's":              {show(authority.Issue(t, in(secretstest.Cluster, "peer", "b"))), true},
		"R2 none":                  {&tls.Config{}, false},
		"R2 another authority's":   {show(other.Issue(t)), false},
		"R2 self-signed":           {show(secretstest.SelfSigned(t)), false},
		"R2 expired":               {show(authority.Issue(t, secretstest.Valid(-2*time.Hour, -time.Minute))), false},
		"R2 not yet valid":         {show(authority.Issue(t, secretstest.Valid(time.Minute, time.Hour))), false},
		"R2 another role":          {show(authority.Issue(t, in(secretstest.Cluster, "client", ""))), false},
		"R2 another cluster's":     {show(authority.Issue(t, in("other", "peer", ""))), false},
		"R2 no name":               {show(authority.Issue(t, secretstest.For())), false},
		"R2 the HTTP port's":       {show(authority.Issue(t, secretstest.Host("localhost"))), false},
		"R2 without its key":       {&tls.Config{Certificates: []tls.Certificate{unproven}}, false},
		"R2 names of two clusters": {show(authority.Issue(t, secretstest.URIs(t, "lookupd://test/peer", "lookupd://other/peer"))), false},
	} {
		t.Run(name, func(t *testing.T) {
			c.config.InsecureSkipVerify = true // what the peer shows is not in question
			if err := through(t, peerPort, c.config); (err == nil) != c.peer {
				t.Errorf("peer port: %v", err)
			}
			for port, address := range map[string]string{"V1": d.tcp.Addr().String(), "gossip": gossipPort} {
				if err := through(t, address, c.config); err == nil {
					t.Errorf("%s port: a byte gets through", port)
				}
			}
			// HTTPS is for everybody, and a certificate makes nobody an admin.
			if status, asked := askOverTLS(t, d.http.Addr().String(), c.config); !strings.HasPrefix(status, "HTTP/1.1 403") || asked {
				t.Errorf("HTTP port: %s, asks for a certificate: %t", status, asked)
			}
		})
	}
}

// through returns nil if the other side, after a TLS handshake, takes a byte and
// waits for more.
func through(t *testing.T, address string, config *tls.Config) error {
	t.Helper()
	raw, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if err := raw.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	c := tls.Client(raw, config)
	if err := c.Handshake(); err != nil {
		return err
	}
	if _, err := c.Write([]byte{0}); err != nil {
		return err
	}
	const waits = 2 * time.Second // below the limit on handshakes
	if err := raw.SetReadDeadline(time.Now().Add(waits)); err != nil {
		t.Fatal(err)
	}
	_, err = c.Read(make([]byte, 1))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil
	case err == nil:
		return fmt.Errorf("an answer to one byte")
	}
	return err
}

// askOverTLS sends a request for an admin route; asked is whether the other side
// wanted to see a certificate.
func askOverTLS(t *testing.T, address string, config *tls.Config) (status string, asked bool) {
	t.Helper()
	config = config.Clone()
	shown := config.Certificates
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		asked = true
		if len(shown) > 0 {
			return &shown[0], nil
		}
		return &tls.Certificate{}, nil
	}
	raw, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if err := raw.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	c := tls.Client(raw, config)
	if _, err := io.WriteString(c, "GET /v1/config HTTP/1.1\r\nHost: "+address+"\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	status, _, _ = strings.Cut(string(answer), "\r\n")
	return status, asked
}
