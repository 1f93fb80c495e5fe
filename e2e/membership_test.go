package e2e_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/lookupd/lookupd/supervisor"
)

func TestFourthPeerJoins(t *testing.T) {
	t.Parallel() // waits until the peer has been stable for long enough
	w := newWorld(t)
	c := w.cluster(3)
	mustPost(t, c.Peers[0].URL("/topic/create?topic=before"))

	fourth := w.NewPeer(supervisor.PeerConfig{
		Name: "d", Path: binaries.lookupd, Dir: w.dir, Ports: ports(t, 1)[0],
		Join: []string{supervisor.Address(c.Peers[0].Ports().Gossip)},
	})
	w.start(fourth)
	waitVoter(t, c.Peers[1], "d")
	got, err := topics(within(t, patience), fourth)
	if err != nil || !slices.Equal(got, []string{"before"}) {
		t.Errorf("d lists %v %v", got, err)
	}
	// Linearizable: what another peer has acknowledged is seen at once.
	for i := range 20 {
		mustPost(t, c.Peers[i%3].URL("/topic/create?topic="+topicName(i)))
		if _, err := lookupTopic(within(t, patience), fourth, topicName(i)); err != nil {
			t.Fatalf("d does not see what was just created: %v", err)
		}
	}
	conn := fakeNSQD(t, fourth.TCPAddress(), "n1.example")
	conn.mustCall(t, "REGISTER through-d\n")

	id := nodeID(t, fourth)
	t.Run("id survives a restart", func(t *testing.T) {
		if err := fourth.Kill(); err != nil {
			t.Fatal(err)
		}
		w.start(fourth)
		if again := nodeID(t, fourth); again != id {
			t.Errorf("id %s, was %s", again, id)
		}
		waitVoter(t, c.Peers[1], "d")
	})
	t.Run("wiped directory, new id instead of the old", func(t *testing.T) {
		if err := fourth.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(fourth.DataPath()); err != nil {
			t.Fatal(err)
		}
		w.start(fourth)
		eventually(t, func(ctx context.Context) error {
			s, err := status(ctx, fourth)
			if err != nil {
				return err
			}
			var now []string // of d
			for _, p := range s.Peers {
				if p.Name == "d" && p.Role != "joining" {
					now = append(now, p.ID+" "+p.Role)
				}
			}
			if len(now) != 1 || strings.HasPrefix(now[0], id) || !strings.HasSuffix(now[0], " voter") {
				return fmt.Errorf("d is %v; want one voter, not %s of before", now, id)
			}
			return nil
		})
	})
}

// waitVoter waits until the peer of that name is a healthy voter, as p sees it.
func waitVoter(t *testing.T, p *supervisor.Peer, name string) {
	t.Helper()
	eventually(t, func(ctx context.Context) error {
		s, err := status(ctx, p)
		if err != nil {
			return err
		}
		for _, peer := range s.Peers {
			if peer.Name == name && peer.Health == "ok" && (peer.Role == "voter" || peer.Role == "leader") {
				return nil
			}
		}
		return fmt.Errorf("%s is no voter yet: %+v", name, s.Peers)
	})
}
