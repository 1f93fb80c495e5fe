package e2e_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lookupd/lookupd/supervisor"
	"github.com/lookupd/lookupd/supervisor/lab"
)

// TestCheckFindsPeersThatHearOneWay: a firewall between two followers hurts nobody
// until one of them is to lead, so check must tell.
func TestCheckFindsPeersThatHearOneWay(t *testing.T) {
	inOwnNetwork(t, func(t *testing.T, n *network) {
		w := newWorld(t)
		hosts := []*lab.Host{n.host("a"), n.host("b"), n.host("c")}
		c := w.peersOn(hosts)
		leader, err := c.WaitLeader(within(t, patience))
		must(t, err)
		followers := without(c.Peers, leader)
		hostOf := func(p *supervisor.Peer) *lab.Host {
			for _, h := range hosts {
				if h.Name == p.Name() {
					return h
				}
			}
			t.Fatalf("no host %s", p.Name())
			return nil
		}
		deaf, heard := followers[0], followers[1]
		finds := func(what string, want bool) {
			t.Helper()
			// A peer is judged once it runs for 25 s; peers ask each other every 10 s.
			must(t, supervisor.Poll(within(t, 90*time.Second), func(ctx context.Context) error {
				time.Sleep(200 * time.Millisecond) // checks are made anew once a second
				_, body, err := supervisor.Get(ctx, leader.URL("/v1/check"))
				if err == nil && strings.Contains(string(body), what) != want {
					err = fmt.Errorf("%q: want %t in %s", what, want, body)
				}
				return err
			}))
		}
		rule, err := n.BlockDials(hostOf(deaf), hostOf(heard), 4162)
		must(t, err)
		oneWay := fmt.Sprintf("%s reaches %s, which does not reach it", heard.Name(), deaf.Name())
		finds(oneWay, true)
		finds("Healthy. 3 of 3 peers up", true)
		must(t, rule.Remove())
		finds(oneWay, false)
	})
}
