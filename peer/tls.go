package peer

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/lookupd/lookupd/peer/peerpb"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/secrets"
)

// The first two bytes of a TLS connection.
const (
	tlsHandshake = 0x16
	tlsMajor     = 0x03
)

// proof is what the other side of a connection has shown. It is empty without
// certificates.
type proof struct {
	name  secrets.Name
	chain []*x509.Certificate
	by    *secrets.Certificates // that it was checked with
}

// checkNode makes sure that a certificate for one peer is shown by that peer.
func (p proof) checkNode(node registry.NodeID) error {
	if p.name.Node == "" || p.name.Node == node.Name() {
		return nil
	}
	return fmt.Errorf("%w: %w: %s shows a certificate of %s", ErrCertificate, ErrWrongPeer, node, p.name)
}

// tlsEnds makes connections secure with the certificates of the moment. A nil
// one leaves them as they are.
type tlsEnds struct {
	current atomic.Pointer[secrets.Certificates]
	watch   *secrets.Watch[*secrets.Certificates] // renewLoop's
}

func newTLSEnds(files secrets.Files) (*tlsEnds, error) {
	load := func() (*secrets.Certificates, error) { return files.Load(time.Now()) }
	certificates, err := load()
	if err != nil {
		return nil, err
	}
	e := &tlsEnds{watch: secrets.NewWatch(certificates, load)}
	e.current.Store(certificates)
	return e, nil
}

// server and client do the TLS handshake; the caller bounds it by a deadline or
// by closing c. Nothing is read or written after it unless the other side has
// shown a certificate of a peer of this cluster.
func (e *tlsEnds) server(c net.Conn) (net.Conn, proof, error) {
	return e.handshake(c, tls.Server, x509.ExtKeyUsageClientAuth)
}

func (e *tlsEnds) client(c net.Conn) (net.Conn, proof, error) {
	return e.handshake(c, tls.Client, x509.ExtKeyUsageServerAuth)
}

func (e *tlsEnds) handshake(c net.Conn, end func(net.Conn, *tls.Config) *tls.Conn, usage x509.ExtKeyUsage) (net.Conn, proof, error) {
	if e == nil {
		return c, proof{}, nil
	}
	p := proof{by: e.current.Load()}
	secured := end(c, &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{p.by.Own()},
		// A certificate names a role in a cluster and no host, so that peers may
		// change address. VerifyConnection does what crypto/tls leaves out then,
		// for both ends alike.
		ClientAuth:         tls.RequireAnyClientCert,
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) (err error) {
			p.chain = state.PeerCertificates
			if p.name, err = p.by.Check(p.chain, usage, time.Now()); err != nil {
				err = fmt.Errorf("%w: %w", ErrCertificate, err)
			}
			return err
		},
		// Who was let in once is asked again.
		SessionTicketsDisabled: true,
	})
	if err := secured.Handshake(); err != nil {
		return nil, proof{}, explainTLS(err)
	}
	return tlsConn{secured}, p, nil
}

// explainTLS says what an operator can do about the failures that are not
// plain from their text.
func explainTLS(err error) error {
	var record tls.RecordHeaderError
	switch {
	case errors.Is(err, ErrCertificate):
		return err
	case errors.As(err, &record) && strings.HasPrefix(string(record.RecordHeader[:]), helloMagic):
		return fmt.Errorf("%w: it is a peer without certificates: give it -peer-tls-cert, -peer-tls-key and -peer-tls-root-ca-file", ErrCertificate)
	}
	return fmt.Errorf("%w: %w", ErrHandshake, err)
}

// explainAlert says what an alert after the handshake means: only then does the
// side that listens look at a certificate.
func explainAlert(err error) error {
	var alert *net.OpError
	if errors.As(err, &alert) && alert.Op == "remote error" {
		return fmt.Errorf("it refuses the certificate of this peer, its log says why: %w", err)
	}
	return err
}

// tlsConn is closed at once, as TCP is: the alert that crypto/tls would send
// first may wait for a peer that reads nothing, and what is sent here has its
// length, so that nobody takes a cut for an end.
type tlsConn struct{ *tls.Conn }

// Close closes the TCP connection.
func (c tlsConn) Close() error { return c.NetConn().Close() }

// warnEvery is how often a certificate's end is worth a line.
const warnEvery = 24 * time.Hour

// renewLoop looks for new certificates and for connections that were made with
// old ones, until Disconnect.
func (n *Network) renewLoop() {
	tick := time.NewTicker(n.timings.renew)
	defer tick.Stop()
	for warned := (time.Time{}); ; {
		if now := time.Now(); now.Sub(warned) >= warnEvery {
			if warning := n.tls.current.Load().Warning(now); warning != "" {
				n.cfg.Logger.Warn(warning, "ends", n.tls.current.Load().Ends(), "file", n.cfg.Certificates.Certificate)
			}
			warned = now
		}
		select {
		case <-n.ctx.Done():
			return
		case <-tick.C:
		}
		n.renew()
		n.recycle()
	}
}

// renew takes in certificates that have changed.
func (n *Network) renew() {
	certificates, changed, err := n.tls.watch.Look()
	switch {
	case err != nil:
		n.cfg.Logger.Error("the certificates on disk cannot be used, those from before stay in use",
			"err", err, "ends", n.tls.current.Load().Ends())
	case changed:
		n.tls.current.Store(certificates)
		n.cfg.Logger.Info("certificates were read again; connections are replaced", "name", certificates.Name(), "ends", certificates.Ends())
	}
}

// recycle ends connections that are too old, or were made before the latest
// change of certificates. Those that this peer has dialled are replaced first
// and end when nothing is under way on them. Of the others, which their peers
// replace, those end whose peer would not be let in now.
func (n *Network) recycle() {
	left, raft := n.conns.recycle(n.tls.current.Load(), time.Now(), n.timings)
	if raft {
		n.transport.recycle()
	}
	for _, c := range left {
		n.cfg.Logger.Debug("closed a connection of an old certificate or age", "peer", c.node, "inbound", c.inbound)
		_ = c.Close() // whatever is under way on it
	}
}

// recycle retires connections. It returns those that must end now, and whether
// any that raft has dialled should.
func (cs *conns) recycle(current *secrets.Certificates, now time.Time, t timings) (left []*conn, raft bool) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for _, of := range cs.byNode {
		for c := range of {
			if c.inbound && c.overLocked(current, now, t.age) {
				left = append(left, c)
			}
			if c.inbound || !c.retireLocked(current, now, t.age) {
				continue
			}
			if now.Sub(c.due) > t.retire {
				left = append(left, c)
			}
			raft = raft || c.kind == peerpb.Kind_KIND_RAFT
		}
	}
	return left, raft
}

// overLocked reports whether a connection that came in must end. Its peer had
// time to replace it.
func (c *conn) overLocked(current *secrets.Certificates, now time.Time, age time.Duration) bool {
	if now.Sub(c.born) > age {
		return true
	}
	if c.proof.by != current {
		name, err := current.Check(c.proof.chain, x509.ExtKeyUsageClientAuth, now)
		if err != nil {
			return true
		}
		c.proof.by, c.proof.name = current, name
	}
	return false
}

// retireLocked reports whether a connection that was dialled is not to be used
// for anything new. That is so before its age makes the other side close it.
func (c *conn) retireLocked(current *secrets.Certificates, now time.Time, age time.Duration) bool {
	if !c.due.IsZero() {
		return true
	}
	if c.proof.by == current && now.Sub(c.born) < age-age/6 {
		return false
	}
	c.due = now
	c.retired.Store(true)
	return true
}
