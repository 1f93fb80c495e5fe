package fault

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/lookupd/lookupd/supervisor"
)

// status is the part of a peer's /v1/status that faults read.
type status struct {
	Leader string `json:"leader"`
	Term   uint64 `json:"term"`
	Index  uint64 `json:"index"`
	Hash   string `json:"state_hash"`
	State  string `json:"state"`
	Peers  []struct {
		Name   string `json:"name"`
		ID     string `json:"id"`
		Role   string `json:"role"`
		Health string `json:"health"`
	} `json:"peers"`
}

func statusOf(ctx context.Context, p *supervisor.Peer) (s status, err error) {
	err = p.GetJSON(ctx, "/v1/status", &s)
	return s, err
}

// lead is a leader with its term.
type lead struct {
	peer *supervisor.Peer
	term uint64
}

func (l lead) String() string { return fmt.Sprintf("%s leads in term %d", l.peer.Name(), l.term) }

// waitLead waits until one of these peers, all if nil, leads and serves.
func (t *Target) waitLead(ctx context.Context, among []*supervisor.Peer) (l lead, err error) {
	ctx, cancel := context.WithTimeout(ctx, healTimeout)
	defer cancel()
	c := t.Cluster
	if among != nil {
		c = &supervisor.Cluster{Peers: among}
	}
	err = supervisor.Poll(ctx, func(ctx context.Context) error {
		p, err := c.Leader(ctx)
		if err != nil {
			return err
		}
		s, err := statusOf(ctx, p)
		l = lead{p, s.Term}
		return err
	})
	return l, err
}

// roles returns the leader, and the others in random order.
func (t *Target) roles(ctx context.Context) (leader lead, followers []*supervisor.Peer, err error) {
	if leader, err = t.waitLead(ctx, nil); err != nil {
		return leader, nil, err
	}
	followers = without(t.Cluster.Peers, leader.peer)
	t.shuffle(followers)
	return leader, followers, nil
}

// choice picks the peers that a fault hits.
type choice func(t *Target, leader *supervisor.Peer, followers []*supervisor.Peer) []*supervisor.Peer

func theLeader(_ *Target, leader *supervisor.Peer, _ []*supervisor.Peer) []*supervisor.Peer {
	return []*supervisor.Peer{leader}
}

func oneFollower(_ *Target, _ *supervisor.Peer, followers []*supervisor.Peer) []*supervisor.Peer {
	return followers[:1]
}

// aMajority is the smallest, with the leader or without.
func aMajority(t *Target, leader *supervisor.Peer, followers []*supervisor.Peer) []*supervisor.Peer {
	peers := append([]*supervisor.Peer{leader}, followers...)
	t.shuffle(peers)
	return peers[:len(peers)/2+1]
}

func everyPeer(t *Target, _ *supervisor.Peer, _ []*supervisor.Peer) []*supervisor.Peer {
	peers := slices.Clone(t.Cluster.Peers)
	t.shuffle(peers)
	return peers
}

// choose returns the leader and those that choice picks.
func (t *Target) choose(ctx context.Context, c choice) (leader lead, chosen []*supervisor.Peer, err error) {
	leader, followers, err := t.roles(ctx)
	if err != nil {
		return leader, nil, err
	}
	return leader, c(t, leader.peer, followers), nil
}

func (t *Target) shuffle(peers []*supervisor.Peer) {
	t.Rand.Shuffle(len(peers), func(i, j int) { peers[i], peers[j] = peers[j], peers[i] })
}

func without(peers []*supervisor.Peer, gone ...*supervisor.Peer) []*supervisor.Peer {
	return slices.DeleteFunc(slices.Clone(peers), func(p *supervisor.Peer) bool { return slices.Contains(gone, p) })
}

func names(peers []*supervisor.Peer) string {
	var words []string
	for _, p := range peers {
		words = append(words, p.Name())
	}
	return strings.Join(words, ",")
}

// needsPeers is a Needs for clusters of at least so many.
func needsPeers(least int) func(*Target) string {
	return func(t *Target) string {
		if n := len(t.Cluster.Peers); n < least {
			return fmt.Sprintf("%d peers, there are %d", least, n)
		}
		return ""
	}
}
