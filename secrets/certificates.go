package secrets

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// endsSoon is how long before its end a certificate is worth a warning.
const endsSoon = 30 * 24 * time.Hour

// Files are the names of a peer's certificate files, all PEM.
type Files struct {
	Certificate string // the peer's, then intermediate ones if there are
	Key         string
	Authorities string // who may have signed other peers' certificates
}

// Given reports whether any file is named.
func (f Files) Given() bool { return f != Files{} }

// Certificates are what a peer shows and what it believes. They do not change.
type Certificates struct {
	own         tls.Certificate
	name        Name
	authorities *x509.CertPool
	ends        time.Time
	content     [sha256.Size]byte
}

// Load reads the files and makes sure that other peers with the same authorities
// would accept the certificate, as a client and as a server, at that time. While
// the clock is plainly wrong everything but the dates is checked.
func (f Files) Load(now time.Time) (*Certificates, error) {
	own, content, err := loadPair(f.Certificate, f.Key)
	if err != nil {
		return nil, err
	}
	ca, err := readPublic(f.Authorities)
	if err != nil {
		return nil, err
	}
	c := &Certificates{own: own, content: sha256.Sum256(bytes.Join([][]byte{content, ca}, []byte{0}))}
	if c.authorities, err = parseAuthorities(ca); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Authorities, err)
	}
	if err := c.examine(now); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Certificate, err)
	}
	return c, nil
}

// loadPair reads a certificate and its key, and returns what both files hold too.
func loadPair(certificate, key string) (pair tls.Certificate, content []byte, err error) {
	public, err := readPublic(certificate)
	if err != nil {
		return pair, nil, err
	}
	secret, err := readSecret(key)
	if err != nil {
		return pair, nil, err
	}
	if pair, err = tls.X509KeyPair(public, secret); err != nil {
		return pair, nil, fmt.Errorf("%s and %s: %w", certificate, key, err)
	}
	return pair, bytes.Join([][]byte{public, secret}, []byte{0}), nil
}

func parseAuthorities(text []byte) (*x509.CertPool, error) {
	pool, found := x509.NewCertPool(), false
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("holds a %s, want certificates only", block.Type)
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		if !certificate.IsCA {
			return nil, fmt.Errorf("%q is no authority's certificate", certificate.Subject)
		}
		pool.AddCert(certificate)
		found = true
	}
	if !found {
		return nil, errors.New("holds no certificate in PEM")
	}
	return pool, nil
}

// examine fills in what the own certificate says.
func (c *Certificates) examine(now time.Time) (err error) {
	if c.name, err = NameOf(c.own.Leaf); err != nil {
		return err
	}
	if c.name.Role != RolePeer {
		return fmt.Errorf("%s has the role %q, want %q", c.name, c.name.Role, RolePeer)
	}
	if isOff(now) {
		now = c.own.Leaf.NotBefore
	}
	chain := []*x509.Certificate{c.own.Leaf}
	for _, der := range c.own.Certificate[1:] {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		chain = append(chain, certificate)
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		paths, err := c.verify(chain, usage, now)
		if err != nil {
			return err
		}
		c.ends = lastEnd(paths)
	}
	return nil
}

// isOff reports whether the clock was never set, or set to nonsense.
func isOff(now time.Time) bool {
	const first, last = 2020, 2099
	return now.Year() < first || now.Year() > last
}

// lastEnd returns when the last path to an authority ends.
func lastEnd(paths [][]*x509.Certificate) (last time.Time) {
	for _, path := range paths {
		end := path[0].NotAfter
		for _, certificate := range path[1:] {
			if certificate.NotAfter.Before(end) {
				end = certificate.NotAfter
			}
		}
		if end.After(last) {
			last = end
		}
	}
	return last
}

func (c *Certificates) verify(chain []*x509.Certificate, usage x509.ExtKeyUsage, now time.Time) ([][]*x509.Certificate, error) {
	intermediates := x509.NewCertPool()
	for _, certificate := range chain[1:] {
		intermediates.AddCert(certificate)
	}
	return chain[0].Verify(x509.VerifyOptions{
		Roots: c.authorities, Intermediates: intermediates, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage},
	})
}

// Own returns the certificate to show.
func (c *Certificates) Own() tls.Certificate { return c.own }

// Name returns whose the own certificate is.
func (c *Certificates) Name() Name { return c.name }

// Ends returns when other peers cease to accept the own certificate.
func (c *Certificates) Ends() time.Time { return c.ends }

// Same reports whether both were loaded from the same bytes.
func (c *Certificates) Same(other *Certificates) bool { return c.content == other.content }

// Warning returns what an operator should know at that time, or "".
func (c *Certificates) Warning(now time.Time) string {
	switch left := c.ends.Sub(now); {
	case isOff(now):
		return "the clock cannot be right: certificates may seem expired or not yet valid, and peers refuse each other"
	case left <= 0:
		return "the certificate of this peer has ended: others refuse it, replace the file"
	case left < endsSoon:
		return "the certificate of this peer ends soon: replace the file"
	}
	return ""
}

// Check returns the name in the chain that the other side of a connection has
// shown for usage, its own certificate first. The error says why it is not a
// peer of the own cluster.
func (c *Certificates) Check(chain []*x509.Certificate, usage x509.ExtKeyUsage, now time.Time) (Name, error) {
	if len(chain) == 0 {
		return Name{}, errors.New("it shows no certificate")
	}
	if _, err := c.verify(chain, usage, now); err != nil {
		return Name{}, err
	}
	name, err := NameOf(chain[0])
	switch {
	case err != nil:
		return Name{}, err
	case name.Role != RolePeer:
		return Name{}, fmt.Errorf("it shows a certificate of %s, want the role %q", name, RolePeer)
	case name.Cluster != c.name.Cluster:
		return Name{}, fmt.Errorf("it shows a certificate of %s, this peer's is of the cluster %q", name, c.name.Cluster)
	}
	return name, nil
}
