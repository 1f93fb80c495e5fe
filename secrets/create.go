package secrets

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

// Lifetimes of what Create makes.
const (
	authorityYears = 10
	peerYears      = 2
	httpYears      = 2
	backdated      = time.Hour // other peers' clocks may be behind
)

// Names of the files that Create makes.
const (
	AuthorityFile    = "ca.pem"
	AuthorityKeyFile = "ca-key.pem" // no peer needs it
	CertificateFile  = "peer.pem"
	KeyFile          = "peer-key.pem"
	GossipKeyFile    = "gossip.key"

	HTTPCertificateFile = "http.pem" // these two only where hosts are named
	HTTPKeyFile         = "http-key.pem"
)

// ErrExists: Create overwrites nothing.
var ErrExists = errors.New("holds secrets already")

// Exist reports whether Create has made the files in dir, or some of them, and
// which of those that peers need are missing then: it was cut off, or somebody has
// taken them away. An empty file counts as missing.
func Exist(dir string, http Hosts) (there bool, missing []string, err error) {
	needed := []string{AuthorityFile, CertificateFile, KeyFile, GossipKeyFile}
	if !http.empty() {
		needed = append(needed, HTTPCertificateFile, HTTPKeyFile)
	}
	for _, name := range append(needed, AuthorityKeyFile) {
		info, err := os.Lstat(filepath.Join(dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, nil, err
		}
		there = there || err == nil
		if name != AuthorityKeyFile && (err != nil || info.Size() == 0) {
			missing = append(missing, name)
		}
	}
	return there, missing, nil
}

// Hosts are the names and addresses of an HTTP server.
type Hosts struct {
	Names     []string
	Addresses []net.IP
}

// ParseHosts takes DNS names, of which the first label may be *, and IP addresses.
func ParseHosts(list []string) (h Hosts, err error) {
	for _, host := range list {
		if ip := net.ParseIP(host); ip != nil {
			h.Addresses = append(h.Addresses, ip)
			continue
		}
		if !hostName.MatchString(host) || len(host) > 253 || dotted.MatchString(host) {
			return Hosts{}, fmt.Errorf("%q is neither a DNS name nor an IP address", host)
		}
		h.Names = append(h.Names, host)
	}
	return h, nil
}

var (
	hostName = regexp.MustCompile(`^(\*\.)?([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)
	dotted   = regexp.MustCompile(`^[0-9.]+$`) // a bad address, not a name
)

func (h Hosts) empty() bool { return len(h.Names)+len(h.Addresses) == 0 }

// Create makes an authority, a certificate that all peers of the cluster may
// share, and a gossip key; and a certificate for HTTPS, if there are hosts. They
// are files with mode 0600 in dir, which is made with mode 0700 if it is absent.
// If it fails, what it made is removed.
func Create(dir, cluster string, http Hosts, now time.Time) (err error) {
	if !ValidCluster(cluster) {
		return fmt.Errorf("%q cannot be a cluster's name: 1 to 63 of a-z, 0-9 and - inside", cluster)
	}
	made, err := generate(cluster, http, now)
	if err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if info, err := os.Stat(dir); err != nil {
		return err
	} else if info.Mode().Perm()&others != 0 {
		return fmt.Errorf("%s has mode %04o: others can enter it: chmod 0700", dir, info.Mode().Perm())
	}
	if there, _, err := Exist(dir, Hosts{}); err != nil || there {
		return errors.Join(err, errorIf(there, dir))
	}
	var written []string
	defer func() {
		if err != nil {
			for _, path := range written {
				err = errors.Join(err, os.Remove(path))
			}
		}
	}()
	for name, content := range made {
		path := filepath.Join(dir, name)
		if err := writeNew(path, content); err != nil {
			return err
		}
		written = append(written, path)
	}
	return nil
}

func errorIf(there bool, dir string) error {
	if there {
		return fmt.Errorf("%s %w", dir, ErrExists)
	}
	return nil
}

// writeNew never writes to what is there already, a link included.
func writeNew(path string, content []byte) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

// generate returns the content of each file.
func generate(cluster string, http Hosts, now time.Time) (map[string][]byte, error) {
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	authority, err := template("lookupd authority of "+cluster, now, authorityYears)
	if err != nil {
		return nil, err
	}
	authority.IsCA, authority.BasicConstraintsValid, authority.MaxPathLenZero = true, true, true
	authority.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	peer, err := template("lookupd peer of "+cluster, now, peerYears)
	if err != nil {
		return nil, err
	}
	peer.URIs = []*url.URL{Name{Cluster: cluster, Role: RolePeer}.URI()}
	peer.KeyUsage = x509.KeyUsageDigitalSignature
	peer.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}

	files := map[string][]byte{GossipKeyFile: gossipKey()}
	issue := func(certificateFile, keyFile string, template *x509.Certificate, of *ecdsa.PrivateKey) error {
		der, err := x509.CreateCertificate(rand.Reader, template, authority, of.Public(), authorityKey)
		if err != nil {
			return err
		}
		key, err := x509.MarshalPKCS8PrivateKey(of)
		if err != nil {
			return err
		}
		files[certificateFile] = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
		files[keyFile] = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})
		return nil
	}
	issueNew := func(certificateFile, keyFile string, template *x509.Certificate) error {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return err
		}
		return issue(certificateFile, keyFile, template, key)
	}
	err = errors.Join(issue(AuthorityFile, AuthorityKeyFile, authority, authorityKey), issueNew(CertificateFile, KeyFile, peer))
	if err != nil || http.empty() {
		return files, err
	}
	server, err := template("lookupd HTTP of "+cluster, now, httpYears)
	if err != nil {
		return nil, err
	}
	server.DNSNames, server.IPAddresses = http.Names, http.Addresses
	server.KeyUsage = x509.KeyUsageDigitalSignature
	server.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} // no peer: those are clients too
	return files, issueNew(HTTPCertificateFile, HTTPKeyFile, server)
}

func template(commonName string, now time.Time, years int) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: commonName},
		NotBefore: now.Add(-backdated), NotAfter: now.AddDate(years, 0, 0),
	}, nil
}

func gossipKey() []byte {
	key := make([]byte, GossipKeyBytes)
	_, _ = rand.Read(key) // never fails
	var b bytes.Buffer
	b.WriteString("# One key on each line. A peer encrypts with the first and reads what is encrypted with any.\n")
	b.WriteString(base64.StdEncoding.EncodeToString(key) + "\n")
	return b.Bytes()
}
