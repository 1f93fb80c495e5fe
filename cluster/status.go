package cluster

import (
	"cmp"
	"slices"
	"time"

	"github.com/lookupd/lookupd/peer/peerpb"
	"github.com/lookupd/lookupd/registry"
)

// State says in one word whether the cluster is well.
type State string

// States of a cluster.
const (
	StateHealthy  State = "healthy"
	StateDegraded State = "degraded"
	StateNoQuorum State = "no_quorum"
	StateStarting State = "starting"
)

// Role is a peer's part in raft.
type Role string

// Roles of a peer.
const (
	RoleLeader   Role = "leader"
	RoleVoter    Role = "voter"
	RoleNonVoter Role = "non-voter"
	RoleJoining  Role = "joining" // known by gossip alone
)

// Health is what the answering peer knows of another.
type Health string

// Healths of a peer.
const (
	HealthOK   Health = "ok"
	HealthDown Health = "down"
)

// Status is the document of GET /v1/status: the cluster as one peer sees it.
type Status struct {
	Sentence  string `json:"sentence"`
	State     State  `json:"state"`
	SeenBy    string `json:"seen_by"` // name of the peer that answers
	ClusterID string `json:"cluster_id"`
	Version   string `json:"version"`
	Leader    string `json:"leader"` // name, "" if there is none
	Term      uint64 `json:"term"`
	Index     uint64 `json:"index"`      // applied by the answering peer
	StateHash string `json:"state_hash"` // of the registry at Index, hexadecimal
	// StatesDifferAt is the index at which this peer's state and another's were
	// found to differ, 0 if the latest comparison found none.
	StatesDifferAt uint64          `json:"states_differ_at"`
	Tolerance      int             `json:"tolerance"` // voters that may still fail
	Counts         registry.Counts `json:"counts"`
	Peers          []PeerStatus    `json:"peers"` // sorted by name, then id
}

// PeerStatus is one peer in Status.
type PeerStatus struct {
	Name          string          `json:"name"`
	ID            registry.NodeID `json:"id"`
	Role          Role            `json:"role"`
	Health        Health          `json:"health"`
	Address       string          `json:"address"`         // of its peer port
	HTTPAddress   string          `json:"http_address"`    // that nsqds are told, "" if it does not answer
	NonVoter      bool            `json:"non_voter"`       // started as one that never votes
	Lag           uint64          `json:"lag"`             // entries behind the leader
	LastContactMS int64           `json:"last_contact_ms"` // since it last answered the peer that tells, -1 if never
	Version       string          `json:"version"`
	Sessions      int             `json:"sessions"`
	Pending       int             `json:"pending"`         // declared changes of its nsqds that are not committed
	PendingMS     int64           `json:"pending_ms"`      // for how long none of the session that waits the longest was
	Orphans       int             `json:"orphans"`         // sessions whose connections are gone, as the leader counts
	OrphansEndMS  int64           `json:"orphans_end_ms"`  // until the leader ends them
	FreeDisk      uint64          `json:"free_disk"`       // bytes, 0 if not known
	UptimeMS      int64           `json:"uptime_ms"`       // 0 if it does not answer
	Security      *Security       `json:"security"`        // null if it does not say
	Contacts      []PeerContact   `json:"contacts"`        // who has answered it, itself included; empty if it does not say
	Shared        []SharedAddress `json:"shared"`          // producers that are two nsqds, ten at most
	Error         string          `json:"error,omitempty"` // why it is down
}

// PeerContact says when a peer last answered another one.
type PeerContact struct {
	ID    registry.NodeID `json:"id"`
	AgeMS int64           `json:"age_ms"`
}

// SharedAddress is a producer that is two nsqds: they announce one address.
type SharedAddress struct {
	Producer registry.ProducerID `json:"producer"`
	First    string              `json:"first"` // host name and source address
	Second   string              `json:"second"`
}

// SessionStats is what a peer tells others of its V1 sessions.
type SessionStats struct {
	Sessions   int
	Pending    int           // declared changes that are not committed
	PendingFor time.Duration // for so long none of the session that waits the longest was
	Shared     []SharedAddress
}

// Security is how a peer's ports between peers are protected.
type Security struct {
	Exposed   bool `json:"exposed"` // they listen off loopback
	PeerTLS   bool `json:"peer_tls"`
	GossipKey bool `json:"gossip_key"`
	// CertificateEnds is when the certificate of the peer port ends, in Unix
	// seconds, 0 if there is none.
	CertificateEnds     int64 `json:"certificate_ends"`
	HTTPCertificateEnds int64 `json:"http_certificate_ends"` // the same of the HTTP port
}

func (s Security) wire() *peerpb.Security {
	return &peerpb.Security{
		Exposed: s.Exposed, PeerTls: s.PeerTLS, GossipKey: s.GossipKey,
		CertificateEnds: s.CertificateEnds, HttpCertificateEnds: s.HTTPCertificateEnds,
	}
}

// securityOf returns nil for a peer whose version does not say.
func securityOf(s *peerpb.Security) *Security {
	if s == nil {
		return nil
	}
	return &Security{
		Exposed: s.Exposed, PeerTLS: s.PeerTls, GossipKey: s.GossipKey,
		CertificateEnds: s.CertificateEnds, HTTPCertificateEnds: s.HttpCertificateEnds,
	}
}

// mostShared is how many producers of two nsqds a peer tells of.
const mostShared = 10

// tell fills in what a peer tells of its sessions.
func (s SessionStats) tell(to *peerpb.StatusResponse) {
	to.Sessions, to.DeclaredPending, to.PendingMs = uint64(s.Sessions), uint64(s.Pending), uint64(s.PendingFor.Milliseconds())
	for _, shared := range s.Shared[:min(len(s.Shared), mostShared)] {
		to.SharedAddresses = append(to.SharedAddresses, &peerpb.SharedAddress{
			ProducerId: string(shared.Producer), First: shared.First, Second: shared.Second,
		})
	}
}

func sharedOf(told []*peerpb.SharedAddress) []SharedAddress {
	shared := []SharedAddress{}
	for _, s := range told[:min(len(told), mostShared)] {
		shared = append(shared, SharedAddress{Producer: registry.ProducerID(s.ProducerId), First: s.First, Second: s.Second})
	}
	return shared
}

func contactsOf(told []*peerpb.Contact) []PeerContact {
	all := []PeerContact{}
	for _, c := range told {
		all = append(all, PeerContact{ID: registry.NodeID(c.NodeId), AgeMS: int64(c.AgeMs)})
	}
	slices.SortFunc(all, func(a, b PeerContact) int { return cmp.Compare(a.ID, b.ID) })
	return all
}
