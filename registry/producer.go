package registry

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"unicode"
)

// Longest fields of an IDENTIFY body, in bytes.
const (
	MaxFieldLength   = 255
	MaxVersionLength = 64
)

// Errors of ProducerInfo.Validate.
var (
	// ErrMissingFields means that a field that nsqlookupd needs is absent, empty or 0.
	ErrMissingFields = errors.New("missing fields")
	// ErrBadField means that a field is out of the range that lookupd accepts.
	ErrBadField = errors.New("invalid field")
)

// ProducerID names a producer: the broadcast address and TCP port that
// consumers dial, joined as by net.JoinHostPort.
type ProducerID string

// ProducerInfo is what an nsqd says of itself in IDENTIFY, and the address that
// its connection came from.
type ProducerInfo struct {
	RemoteAddress    string
	Hostname         string
	BroadcastAddress string
	TCPPort          int
	HTTPPort         int
	Version          string
	TopologyZone     string
	TopologyRegion   string
}

// ID returns the identity of the producer: one nsqd has one, however many peers
// it is connected to.
func (p ProducerInfo) ID() ProducerID {
	return ProducerID(net.JoinHostPort(p.BroadcastAddress, strconv.Itoa(p.TCPPort)))
}

// IsNode reports whether node, as given to /topic/tombstone, names this
// producer by its broadcast address and HTTP port. An IPv6 address may be
// written with or without brackets.
func (p ProducerInfo) IsNode(node string) bool {
	port := strconv.Itoa(p.HTTPPort)
	return node == p.BroadcastAddress+":"+port || node == net.JoinHostPort(p.BroadcastAddress, port)
}

// Validate returns nil, ErrMissingFields or a wrapped ErrBadField.
func (p ProducerInfo) Validate() error {
	if p.BroadcastAddress == "" || p.TCPPort == 0 || p.HTTPPort == 0 || p.Version == "" {
		return ErrMissingFields
	}
	for _, port := range []struct {
		name  string
		value int
	}{{"tcp_port", p.TCPPort}, {"http_port", p.HTTPPort}} {
		if port.value < 1 || port.value > 65535 {
			return fmt.Errorf("%w %s: %d is not a port", ErrBadField, port.name, port.value)
		}
	}
	for _, text := range []struct {
		name, value string
		limit       int
	}{
		{"broadcast_address", p.BroadcastAddress, MaxFieldLength},
		{"hostname", p.Hostname, MaxFieldLength},
		{"version", p.Version, MaxVersionLength},
		{"topology_zone", p.TopologyZone, MaxFieldLength},
		{"topology_region", p.TopologyRegion, MaxFieldLength},
	} {
		if len(text.value) > text.limit {
			return fmt.Errorf("%w %s: more than %d bytes", ErrBadField, text.name, text.limit)
		}
		if strings.ContainsFunc(text.value, unicode.IsControl) {
			return fmt.Errorf("%w %s: control character", ErrBadField, text.name)
		}
	}
	return nil
}
