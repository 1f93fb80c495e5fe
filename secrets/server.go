package secrets

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// ServerFiles are the names of the files of a certificate that is shown to
// clients, PEM.
type ServerFiles struct {
	Certificate string // the server's, then intermediate ones if there are
	Key         string
}

// Given reports whether any file is named.
func (f ServerFiles) Given() bool { return f != ServerFiles{} }

// ServerCertificate is what a server shows. It does not change.
type ServerCertificate struct {
	own     tls.Certificate
	content [sha256.Size]byte
}

// Load reads the files and makes sure that clients can accept the certificate at
// that time, if they trust whoever signed it. While the clock is plainly wrong
// dates do not count.
func (f ServerFiles) Load(now time.Time) (*ServerCertificate, error) {
	own, content, err := loadPair(f.Certificate, f.Key)
	if err != nil {
		return nil, err
	}
	if err := examineServer(own.Leaf, now); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Certificate, err)
	}
	return &ServerCertificate{own: own, content: sha256.Sum256(content)}, nil
}

func examineServer(leaf *x509.Certificate, now time.Time) error {
	allowed := func(u x509.ExtKeyUsage) bool { return u == x509.ExtKeyUsageServerAuth || u == x509.ExtKeyUsageAny }
	switch {
	case len(leaf.DNSNames)+len(leaf.IPAddresses) == 0:
		return errors.New("it names no host: clients want a DNS name or an IP address among the alternative names")
	case len(leaf.ExtKeyUsage) > 0 && !slices.ContainsFunc(leaf.ExtKeyUsage, allowed):
		return errors.New("servers may not use it")
	case isOff(now):
		return nil
	case now.After(leaf.NotAfter):
		return fmt.Errorf("it ended on %s", leaf.NotAfter.UTC().Format(time.DateTime))
	case now.Before(leaf.NotBefore):
		return fmt.Errorf("it is not valid before %s", leaf.NotBefore.UTC().Format(time.DateTime))
	}
	return nil
}

// Own returns the certificate to show.
func (c *ServerCertificate) Own() *tls.Certificate { return &c.own }

// Ends returns when clients cease to accept it.
func (c *ServerCertificate) Ends() time.Time { return c.own.Leaf.NotAfter }

// Same reports whether both were loaded from the same bytes.
func (c *ServerCertificate) Same(other *ServerCertificate) bool { return c.content == other.content }
