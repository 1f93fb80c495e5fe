package secrets

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// scheme is that of the URI in a certificate's subject alternative names:
//
//	lookupd://CLUSTER/ROLE         any peer of the cluster may show it
//	lookupd://CLUSTER/ROLE/NODE    only the peer of that name
const scheme = "lookupd"

// RolePeer is the role of those that take part in consensus and gossip.
const RolePeer = "peer"

// DefaultCluster is a cluster's name in certificates if nobody chose another.
const DefaultCluster = "lookupd"

var (
	clusterName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	pathSegment = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,64}$`)
)

// errNoName: a certificate of the right authority may still be anybody's.
var errNoName = errors.New("the certificate names no role in a cluster (URI lookupd://CLUSTER/ROLE as its alternative name)")

// Name says whose a certificate is.
type Name struct {
	Cluster string // chosen by the operator; not the id that a cluster draws
	Role    string
	Node    string // name of the one peer it is for, "" for any
}

// URI returns the name as it stands in a certificate.
func (n Name) URI() *url.URL {
	path := "/" + n.Role
	if n.Node != "" {
		path += "/" + n.Node
	}
	return &url.URL{Scheme: scheme, Host: n.Cluster, Path: path}
}

func (n Name) String() string { return n.URI().String() }

// NameOf returns the one name that a certificate has.
func NameOf(certificate *x509.Certificate) (Name, error) {
	var found []*url.URL
	for _, uri := range certificate.URIs {
		if uri.Scheme == scheme {
			found = append(found, uri)
		}
	}
	switch len(found) {
	case 0:
		return Name{}, errNoName
	case 1:
		return parseName(found[0])
	}
	return Name{}, fmt.Errorf("the certificate has %d names, %s and %s among them", len(found), found[0], found[1])
}

func parseName(uri *url.URL) (Name, error) {
	role, node, hasNode := strings.Cut(strings.TrimPrefix(uri.Path, "/"), "/")
	name := Name{Cluster: uri.Host, Role: role, Node: node}
	if !clusterName.MatchString(name.Cluster) || !pathSegment.MatchString(role) || hasNode && !pathSegment.MatchString(node) ||
		name.String() != uri.String() {
		return Name{}, fmt.Errorf("the certificate's name %q is not lookupd://CLUSTER/ROLE or lookupd://CLUSTER/ROLE/NODE", uri)
	}
	return name, nil
}

// ValidCluster reports whether certificates can hold a cluster's name.
func ValidCluster(name string) bool { return clusterName.MatchString(name) }
