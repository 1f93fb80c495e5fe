package e2e_test

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"testing"

	"github.com/lookupd/lookupd/supervisor"
)

// What the tests read of the daemons' answers.

// producer is one producer as NSQ's programs read it.
type producer struct {
	BroadcastAddress string   `json:"broadcast_address"`
	Hostname         string   `json:"hostname"`
	RemoteAddress    string   `json:"remote_address"`
	TCPPort          int      `json:"tcp_port"`
	HTTPPort         int      `json:"http_port"`
	Version          string   `json:"version"`
	Topics           []string `json:"topics"`
	Tombstones       []bool   `json:"tombstones"`
}

// lookup is the answer to GET /lookup.
type lookup struct {
	Channels  []string   `json:"channels"`
	Producers []producer `json:"producers"`
}

// lookupTopic asks a peer for a topic; a topic that is not there is an error.
func lookupTopic(ctx context.Context, p *supervisor.Peer, topic string) (lookup, error) {
	var answer lookup
	err := p.GetJSON(ctx, "/lookup?topic="+url.QueryEscape(topic), &answer)
	return answer, err
}

// hasProducer returns nil if the peer's lookup shows exactly this nsqd once.
func hasProducer(ctx context.Context, p *supervisor.Peer, topic string, n *nsqd) error {
	answer, err := lookupTopic(ctx, p, topic)
	if err != nil {
		return err
	}
	if len(answer.Producers) != 1 || answer.Producers[0].TCPPort != n.ports.TCP {
		return fmt.Errorf("%s: producers of %s: %+v, want the nsqd on port %d alone", p.Name(), topic, answer.Producers, n.ports.TCP)
	}
	return nil
}

// producerID is how a producer is known.
func producerID(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

func (p producer) id() string { return producerID(p.BroadcastAddress, p.TCPPort) }

// shows returns nil if the peer's lookup shows exactly these producers.
func shows(ctx context.Context, p *supervisor.Peer, topic string, ids ...string) error {
	answer, err := lookupTopic(ctx, p, topic)
	if err != nil {
		return err
	}
	got := []string{}
	for _, producer := range answer.Producers {
		got = append(got, producer.id())
	}
	slices.Sort(got)
	slices.Sort(ids)
	if !slices.Equal(got, ids) {
		return fmt.Errorf("%s: producers of %s: %v, want %v", p.Name(), topic, got, ids)
	}
	return nil
}

// showEverywhere waits until each of the peers shows exactly these producers.
func showEverywhere(t testing.TB, peers []*supervisor.Peer, topic string, ids ...string) {
	t.Helper()
	eventually(t, func(ctx context.Context) error {
		for _, p := range peers {
			if err := shows(ctx, p, topic, ids...); err != nil {
				return err
			}
		}
		return nil
	})
}

// sessionState is a session in GET /v1/producers.
type sessionState struct {
	ID       string   `json:"id"`
	Peer     string   `json:"peer"`
	State    string   `json:"state"`
	EndsIn   *float64 `json:"ends_in_seconds"`
	LastPing *float64 `json:"last_ping_seconds"`
	Pending  int      `json:"pending"`
}

// sessionsOf asks a peer for a producer's sessions, none if there is no such
// producer.
func sessionsOf(ctx context.Context, p *supervisor.Peer, id string) ([]sessionState, error) {
	var page struct {
		Producers []struct {
			ID       string         `json:"id"`
			Sessions []sessionState `json:"sessions"`
		} `json:"producers"`
	}
	if err := p.GetJSON(ctx, "/v1/producers?prefix="+url.QueryEscape(id), &page); err != nil {
		return nil, err
	}
	for _, producer := range page.Producers {
		if producer.ID == id {
			return producer.Sessions, nil
		}
	}
	return nil, nil
}

// hasSession returns nil if the producer has exactly one session, in that state
// and at that peer.
func hasSession(ctx context.Context, asked *supervisor.Peer, id, state string, at *supervisor.Peer) (sessionState, error) {
	sessions, err := sessionsOf(ctx, asked, id)
	if err != nil {
		return sessionState{}, err
	}
	if len(sessions) != 1 || sessions[0].State != state || sessions[0].Peer != at.Name() {
		return sessionState{}, fmt.Errorf("%s: sessions of %s: %s, want one, %s at %s", asked.Name(), id, mustJSON(sessions), state, at.Name())
	}
	return sessions[0], nil
}

// waitSession waits for hasSession.
func waitSession(t testing.TB, asked *supervisor.Peer, id, state string, at *supervisor.Peer) (s sessionState) {
	t.Helper()
	eventually(t, func(ctx context.Context) (err error) {
		s, err = hasSession(ctx, asked, id, state, at)
		return err
	})
	return s
}

// nodes asks a peer for all producers.
func nodes(ctx context.Context, p *supervisor.Peer) ([]producer, error) {
	var answer struct {
		Producers []producer `json:"producers"`
	}
	err := p.GetJSON(ctx, "/nodes", &answer)
	return answer.Producers, err
}

// topics asks a peer for all topics.
func topics(ctx context.Context, p *supervisor.Peer) ([]string, error) {
	var answer struct {
		Topics []string `json:"topics"`
	}
	err := p.GetJSON(ctx, "/topics", &answer)
	return answer.Topics, err
}

// clusterStatus is the part of GET /v1/status that the tests read.
type clusterStatus struct {
	State     string `json:"state"`
	Leader    string `json:"leader"`
	Term      uint64 `json:"term"`
	Index     uint64 `json:"index"`
	StateHash string `json:"state_hash"`
	Peers     []struct {
		Name   string `json:"name"`
		ID     string `json:"id"`
		Role   string `json:"role"`
		Health string `json:"health"`
		Lag    uint64 `json:"lag"`

		Security struct {
			PeerTLS         bool  `json:"peer_tls"`
			GossipKey       bool  `json:"gossip_key"`
			CertificateEnds int64 `json:"certificate_ends"`
		} `json:"security"`
	} `json:"peers"`
}

func status(ctx context.Context, p *supervisor.Peer) (clusterStatus, error) {
	var s clusterStatus
	err := p.GetJSON(ctx, "/v1/status", &s)
	return s, err
}

// nodeID returns the id that the peer says it has.
func nodeID(t *testing.T, p *supervisor.Peer) string {
	t.Helper()
	var id string
	eventually(t, func(ctx context.Context) error {
		s, err := status(ctx, p)
		if err != nil {
			return err
		}
		for _, peer := range s.Peers {
			if peer.Name == p.Name() && peer.Health == "ok" {
				id = peer.ID
				return nil
			}
		}
		return fmt.Errorf("%s is not among its own peers: %+v", p.Name(), s.Peers)
	})
	return id
}
