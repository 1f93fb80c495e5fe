package e2e_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lookupd/lookupd/supervisor"
	"github.com/lookupd/lookupd/supervisor/lab"
)

// clients are the nsqds of one peer in a partition.
type clients struct {
	peer *supervisor.Peer
	nsqd *nsqd
	raw  []*pinging
	ids  []string // of all
}

const rawClients = 20 // of each peer

// clientsOf connects an nsqd on the peer's own host, which no partition cuts off
// from it, and connections of the test on the clients' switch.
func clientsOf(w *world, h *lab.Host, p *supervisor.Peer) *clients {
	w.t.Helper()
	c := &clients{peer: p, nsqd: w.nsqdOn(h, p.TCPAddress())}
	c.ids = append(c.ids, c.nsqd.id())
	status, answer, err := try(within(w.t, patience), "POST", c.nsqd.url("/pub?topic=kept"), "", "x")
	if err != nil || status != 200 {
		w.t.Fatalf("publish: %d %s %v", status, answer, err)
	}
	for i := range rawClients {
		name := fmt.Sprintf("%s-%d.example", p.Name(), i)
		conn := fakeNSQD(w.t, p.TCPAddress(), name).pingEvery(w.t, time.Second)
		for _, topic := range []string{"kept", "withdrawn"} {
			conn.mustCall(w.t, "REGISTER "+topic+"\n")
		}
		c.raw, c.ids = append(c.raw, conn), append(c.ids, fakeID(name))
	}
	return c
}

// each sends a command on every connection of the test and returns the answers.
func (c *clients) each(t *testing.T, command string) []string {
	t.Helper()
	answers := make([]string, len(c.raw))
	var wait sync.WaitGroup
	for i, conn := range c.raw {
		wait.Go(func() {
			var err error
			if answers[i], err = conn.call(command); err != nil {
				t.Errorf("%q: %v", command, err)
			}
		})
	}
	wait.Wait()
	return answers
}

// connections returns from where each producer of a topic is connected.
func connections(ctx context.Context, p *supervisor.Peer, topic string) (map[string]string, error) {
	answer, err := lookupTopic(ctx, p, topic)
	from := map[string]string{}
	for _, producer := range answer.Producers {
		from[producer.id()] = producer.RemoteAddress
	}
	return from, err
}

// Of five peers the leader and a follower are cut off, each from all others, for
// longer than sessions without a peer stay. Their nsqds are not cut off.
func TestPartitionKeepsConnections(t *testing.T) {
	skipShort(t, "waits for a time-out that is longer than nsqd's ticks")
	t.Parallel() // waits
	inOwnNetwork(t, testPartition)
}

func testPartition(t *testing.T, n *network) {
	const (
		timeout    = 17 * time.Second // nsqd PINGs every 15 s
		goneWithin = timeout + 5*time.Second
		backWithin = 2 * time.Second
	)
	w := newWorld(t)
	var hosts []*lab.Host
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		hosts = append(hosts, n.host(name))
	}
	c := w.peersOn(hosts, "-inactive-producer-timeout", timeout.String())
	hostOf := func(p *supervisor.Peer) *lab.Host { return hosts[slices.Index(c.Peers, p)] }
	lead := leader(t, c)
	follow := without(c.Peers, lead)[0]
	majority := without(c.Peers, lead, follow)

	safe := clientsOf(w, hostOf(majority[0]), majority[0])
	cut := []*clients{clientsOf(w, hostOf(lead), lead), clientsOf(w, hostOf(follow), follow)}
	all := slices.Concat(safe.ids, cut[0].ids, cut[1].ids)
	showEverywhere(t, c.Peers, "kept", all...)
	before, err := connections(within(t, patience), majority[0], "kept")
	if err != nil {
		t.Fatal(err)
	}
	watch := newWatch(t, majority)

	for _, clients := range cut {
		link(t, (*lab.Host).Unplug, hostOf(clients.peer), lab.Peers)
	}
	began := time.Now()
	for _, clients := range cut {
		for _, command := range []string{"REGISTER declared\n", "UNREGISTER withdrawn\n"} {
			for i, answer := range clients.each(t, command) {
				if !strings.HasPrefix(answer, "E_UNAVAILABLE") {
					t.Errorf("%s, connection %d: %q: %q, want E_UNAVAILABLE", clients.peer.Name(), i, command, answer)
				}
			}
		}
	}
	next := leader(t, &supervisor.Cluster{Peers: majority})
	t.Logf("cut off %s, which led, and %s; %s leads after %v", lead.Name(), follow.Name(), next.Name(), time.Since(began).Round(time.Millisecond))
	stays(t, began.Add(timeout), func(ctx context.Context) error {
		sessions, err := sessionsOf(ctx, majority[0], cut[0].ids[0])
		if err == nil && len(sessions) != 1 {
			err = fmt.Errorf("sessions %s", mustJSON(sessions))
		}
		return err
	})
	judge(t, watch, 100) // nothing was gone until now
	showEverywhere(t, majority, "kept", safe.ids...)
	took := time.Since(began)
	t.Logf("producers behind the minority are gone from the majority after %v", took.Round(time.Millisecond))
	if took > goneWithin {
		t.Errorf("gone after %v, want within %v", took, goneWithin)
	}

	for _, clients := range cut {
		link(t, (*lab.Host).Plug, hostOf(clients.peer), lab.Peers)
	}
	pauses, excused := watchPauses(t), false
	healed := time.Now()
	raw := slices.Concat(cut[0].ids[1:], cut[1].ids[1:])
	for _, wanted := range []struct {
		topic string
		ids   []string
	}{{"kept", all}, {"declared", raw}, {"withdrawn", safe.ids[1:]}} {
		showEverywhere(t, majority, wanted.topic, wanted.ids...)
		took := time.Since(healed)
		t.Logf("%s is right %v after healing", wanted.topic, took.Round(time.Millisecond))
		excused = excused || took > backWithin && pauses.excuse(fmt.Sprint("how soon all is right: ", took))
		if took > backWithin && !excused {
			t.Errorf("%s is right %v after healing, want within %v", wanted.topic, took, backWithin)
		}
	}

	// All on the connections of before.
	showEverywhere(t, c.Peers, "kept", all...)
	after, err := connections(within(t, patience), majority[0], "kept")
	if err != nil || !maps.Equal(before, after) {
		t.Errorf("connections %v %v, were %v", after, err, before)
	}
	for _, clients := range cut {
		for _, answer := range clients.each(t, "PING\n") {
			if answer != "OK" {
				t.Errorf("PING: %q", answer)
			}
		}
		for _, id := range clients.ids {
			waitSession(t, majority[1], id, "open", clients.peer)
		}
	}
	sameState(t, c)
}

func TestNSQDWhoseNetworkGoesSilentIsGoneWithinAMinute(t *testing.T) {
	skipShort(t, "waits up to a minute")
	t.Parallel() // waits
	inOwnNetwork(t, testSilence)
}

func testSilence(t *testing.T, n *network) {
	const atMost = time.Minute
	w := newWorld(t)
	c := w.peersOn([]*lab.Host{n.host("a"), n.host("b"), n.host("c")})
	addresses := func(i int) []string { // of a follower or not, one or all
		if i == 0 {
			return c.TCPAddresses()
		}
		return c.TCPAddresses()[i-1 : i]
	}
	cut := map[string]func(*lab.Host, lab.Switch) error{
		"unplugged": (*lab.Host).Unplug,
		"link-down": (*lab.Host).LinkDown,
	}
	type silenced struct {
		host *lab.Host
		how  string
		nsqd *nsqd
	}
	var victims []silenced
	for how := range cut {
		for i := range 2 {
			h := n.host(fmt.Sprintf("%s%d", how[:1], i))
			victims = append(victims, silenced{h, how, w.nsqdOn(h, addresses(2*i)...)})
		}
	}
	control := w.nsqdOn(n.host("control"), addresses(3)...)
	ids := []string{control.id()}
	control.publish(t, "t", "x")
	for _, v := range victims {
		v.nsqd.publish(t, "t", "x")
		ids = append(ids, v.nsqd.id())
	}
	showEverywhere(t, c.Peers, "t", ids...)

	began := time.Now()
	for _, v := range victims {
		link(t, cut[v.how], v.host, lab.Clients)
	}
	for _, v := range victims {
		took := whenGone(t, c.Peers, "t", v.nsqd.id(), began)
		t.Logf("%s, %s: gone after at most %v", v.host.Name, v.how, took.Round(time.Millisecond))
		if took > atMost {
			t.Errorf("%s is gone after %v, want within %v", v.host.Name, took, atMost)
		}
	}
	showEverywhere(t, c.Peers, "t", control.id())
}
