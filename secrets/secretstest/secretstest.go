// Package secretstest makes certificates for tests, wrong ones too.
package secretstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lookupd/lookupd/secrets"
)

// Cluster is the name in certificates for which a test gives no other.
const Cluster = "test"

// Authority signs certificates.
type Authority struct {
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate
}

// NewAuthority makes one of its own key.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{key: newKey(t)}
	template := newTemplate()
	template.Subject = pkix.Name{CommonName: "authority of " + t.Name()}
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign
	a.certificate = sign(t, template, template, a.key, a.key)
	return a
}

// PEM returns the authorities' certificates.
func PEM(authorities ...*Authority) []byte {
	var all []byte
	for _, a := range authorities {
		all = append(all, encode("CERTIFICATE", a.certificate.Raw)...)
	}
	return all
}

// Pair is a certificate with its key.
type Pair struct{ Certificate, Key []byte } // PEM

// TLS returns the pair as crypto/tls wants it.
func (p Pair) TLS(t testing.TB) tls.Certificate {
	t.Helper()
	c, err := tls.X509KeyPair(p.Certificate, p.Key)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Issue signs a certificate of any peer of Cluster, or what the changes make of
// it.
func (a *Authority) Issue(t testing.TB, changes ...func(*x509.Certificate)) Pair {
	t.Helper()
	return issue(t, a, changes)
}

// SelfSigned is Issue without an authority.
func SelfSigned(t testing.TB, changes ...func(*x509.Certificate)) Pair {
	t.Helper()
	return issue(t, nil, changes)
}

func issue(t testing.TB, a *Authority, changes []func(*x509.Certificate)) Pair {
	t.Helper()
	template, key := newTemplate(), newKey(t)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	For(secrets.Name{Cluster: Cluster, Role: secrets.RolePeer})(template)
	for _, change := range changes {
		change(template)
	}
	parent, signer := template, key
	if a != nil {
		parent, signer = a.certificate, a.key
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return Pair{Certificate: encode("CERTIFICATE", sign(t, template, parent, key, signer).Raw), Key: encode("PRIVATE KEY", der)}
}

// For gives a certificate these names.
func For(names ...secrets.Name) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.URIs = nil
		for _, name := range names {
			c.URIs = append(c.URIs, name.URI())
		}
	}
}

// URIs gives a certificate these names, valid or not.
func URIs(t testing.TB, texts ...string) func(*x509.Certificate) {
	t.Helper()
	var uris []*url.URL
	for _, text := range texts {
		uri, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		uris = append(uris, uri)
	}
	return func(c *x509.Certificate) { c.URIs = uris }
}

// Valid makes a certificate valid from and to so long from now.
func Valid(from, to time.Duration) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.NotBefore, c.NotAfter = time.Now().Add(from), time.Now().Add(to) }
}

// Usage gives a certificate these uses.
func Usage(usages ...x509.ExtKeyUsage) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.ExtKeyUsage = usages }
}

// Write puts a pair and authorities into files.
func Write(t testing.TB, dir string, pair Pair, authorities []byte) secrets.Files {
	t.Helper()
	files := secrets.Files{
		Certificate: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"), Authorities: filepath.Join(dir, "ca.pem"),
	}
	Replace(t, files.Authorities, authorities)
	Replace(t, files.Certificate, pair.Certificate)
	Replace(t, files.Key, pair.Key)
	return files
}

// Replace writes a file that only its owner reads, and that nobody sees in part.
func Replace(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// GossipKey returns a new key as it stands in a file, with its line's end.
func GossipKey() string {
	key := make([]byte, secrets.GossipKeyBytes)
	_, _ = rand.Read(key) // never fails
	return base64.StdEncoding.EncodeToString(key) + "\n"
}

// WriteGossipKeys puts keys into a file of dir.
func WriteGossipKeys(t testing.TB, dir string, keys ...string) (path string) {
	t.Helper()
	path = filepath.Join(dir, "gossip.key")
	Replace(t, path, []byte(strings.Join(keys, "")))
	return path
}

func newTemplate() *x509.Certificate {
	const bits = 120
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), bits)) // never fails
	c := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: "test"}}
	Valid(-time.Hour, time.Hour)(c)
	return c
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t testing.TB, template, parent *x509.Certificate, of, by *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, of.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// Host makes a certificate one for servers of these names and of 127.0.0.1.
func Host(names ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.URIs, c.DNSNames, c.IPAddresses = nil, names, []net.IP{net.IPv4(127, 0, 0, 1)}
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
}

// WriteServer puts a server's pair into files.
func WriteServer(t testing.TB, dir string, pair Pair) secrets.ServerFiles {
	t.Helper()
	files := secrets.ServerFiles{Certificate: filepath.Join(dir, "http.pem"), Key: filepath.Join(dir, "http-key.pem")}
	Replace(t, files.Certificate, pair.Certificate)
	Replace(t, files.Key, pair.Key)
	return files
}
