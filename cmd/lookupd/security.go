package main

import (
	"math"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/secrets"
)

// What protects the peer and gossip ports, and what happens without it.

// secretFiles names the flags, in the order in which they are told.
func (o *options) secretFiles() []struct{ name, path string } {
	return []struct{ name, path string }{
		{"peer-tls-cert", o.certificates.Certificate},
		{"peer-tls-key", o.certificates.Key},
		{"peer-tls-root-ca-file", o.certificates.Authorities},
	}
}

// checkSecrets makes sure that what is given can be used, and that a port off
// loopback has what protects it, or that the operator does without.
func (o *options) checkSecrets(fault func(name, format string, args ...any)) {
	if o.certificates.Given() {
		o.checkCertificates(fault)
	}
	if o.httpCertificate.Given() {
		o.checkHTTPCertificate(fault)
	}
	if o.gossipKeyFile != "" {
		if _, err := secrets.LoadGossipKeys(o.gossipKeyFile); err != nil {
			fault("gossip-key-file", "%w", err)
		}
	}
	const advice = "make both with lookupctl secrets init and copy them to each peer, or keep the port in a trusted network and give -insecure"
	if o.insecure {
		return
	}
	if isOpen(o.peerAddress) && !o.certificates.Given() {
		fault("peer-address", "%s is not loopback: it needs -peer-tls-cert, -peer-tls-key and -peer-tls-root-ca-file: %s", o.peerAddress, advice)
	}
	if isOpen(o.gossipAddress) && o.gossipKeyFile == "" {
		fault("gossip-address", "%s is not loopback: it needs -gossip-key-file: %s", o.gossipAddress, advice)
	}
}

func (o *options) checkCertificates(fault func(name, format string, args ...any)) {
	whole := true
	for _, f := range o.secretFiles() {
		if f.path == "" {
			fault(f.name, "is not given, and the others of -peer-tls-cert, -peer-tls-key and -peer-tls-root-ca-file are: all three or none")
			whole = false
		}
	}
	if !whole {
		return
	}
	if _, err := o.certificates.Load(time.Now()); err != nil {
		fault("peer-tls-cert", "%w", err)
	}
}

func (o *options) checkHTTPCertificate(fault func(name, format string, args ...any)) {
	switch {
	case o.httpCertificate.Key == "":
		fault("http-tls-key", "is not given, and -http-tls-cert is: both or none")
	case o.httpCertificate.Certificate == "":
		fault("http-tls-cert", "is not given, and -http-tls-key is: both or none")
	default:
		if _, err := o.httpCertificate.Load(time.Now()); err != nil {
			fault("http-tls-cert", "%w", err)
		}
	}
}

// isOpen reports whether others than this host may reach an address.
func isOpen(address string) bool {
	host, _, err := splitAddress(address)
	return err == nil && !isLoopback(host)
}

// unprotected says what a port off loopback lacks, "" for nothing.
func (o *options) unprotected() string {
	var missing []string
	if isOpen(o.peerAddress) && !o.certificates.Given() {
		missing = append(missing, "certificates")
	}
	if isOpen(o.gossipAddress) && o.gossipKeyFile == "" {
		missing = append(missing, "gossip key")
	}
	return strings.Join(missing, ", ")
}

// security is what the other peers are told of how the ports between them are
// protected here. It is called once the node is open.
func (d *daemon) security() cluster.Security {
	told := cluster.Security{
		Exposed: isOpen(d.o.peerAddress) || isOpen(d.o.gossipAddress),
		PeerTLS: d.o.certificates.Given(), GossipKey: d.o.gossipKeyFile != "",
	}
	if ends, ok := d.node.CertificateEnds(); ok {
		told.CertificateEnds = ends.Unix()
	}
	if d.shown != nil {
		told.HTTPCertificateEnds = d.shown.current.Load().Ends().Unix()
	}
	return told
}

// registerSecurity shows what an alert on security needs.
func (d *daemon) registerSecurity(reg prometheus.Registerer) {
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "lookupd_insecure", Help: "1 if the peer or gossip port is off loopback without certificates or key.",
	}, func() float64 { return boolean(d.o.unprotected() != "") }))
	if !d.o.certificates.Given() {
		return
	}
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "lookupd_certificate_expiry_timestamp_seconds", Help: "When others cease to accept the certificate of a listener.",
		ConstLabels: prometheus.Labels{"listener": "peer"},
	}, func() float64 {
		ends, ok := d.node.CertificateEnds()
		if !ok {
			return math.NaN()
		}
		return float64(ends.Unix())
	}))
}
