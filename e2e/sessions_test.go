package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"syscall"
	"testing"
	"time"
)

func TestProducerThroughTwoPeersIsTheUnion(t *testing.T) {
	c := newWorld(t).cluster(3)
	const host = "n1.example"
	one, two := fakeNSQD(t, c.Peers[0].TCPAddress(), host), fakeNSQD(t, c.Peers[1].TCPAddress(), host)
	one.mustCall(t, "REGISTER a\n")
	two.mustCall(t, "REGISTER b\n")
	for _, conn := range []*v1Conn{one, two} {
		conn.mustCall(t, "REGISTER both ch\n")
	}
	for _, p := range c.Peers {
		for _, topic := range []string{"a", "b", "both"} {
			if err := shows(within(t, patience), p, topic, fakeID(host)); err != nil {
				t.Error(err)
			}
		}
	}
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	showEverywhere(t, c.Peers, "a")
	for _, p := range c.Peers {
		for _, topic := range []string{"b", "both"} {
			if err := shows(within(t, patience), p, topic, fakeID(host)); err != nil {
				t.Error(err)
			}
		}
		all, err := nodes(within(t, patience), p)
		if err != nil || len(all) != 1 || !slices.Equal(all[0].Topics, []string{"b", "both"}) {
			t.Errorf("%s: nodes %+v %v, want one with b and both", p.Name(), all, err)
		}
	}
	if err := two.Close(); err != nil {
		t.Fatal(err)
	}
	for _, topic := range []string{"a", "b", "both"} {
		showEverywhere(t, c.Peers, topic)
	}
}

func TestProducersTellSessionStates(t *testing.T) {
	const timeout = 4 * time.Second
	w := newWorld(t)
	c := w.cluster(3, "-inactive-producer-timeout", timeout.String())
	lost := follower(t, c)
	rest := without(c.Peers, lost)
	here := rest[0]

	fakeNSQD(t, here.TCPAddress(), "open.example").pingEvery(t, timeout/20).mustCall(t, "REGISTER t\n")
	silent := fakeNSQD(t, here.TCPAddress(), "silent.example")
	silent.mustCall(t, "REGISTER t\n")
	orphan := fakeNSQD(t, lost.TCPAddress(), "orphan.example")
	orphan.mustCall(t, "REGISTER t\n")
	open := []string{fakeID("open.example")}
	all := append([]string{fakeID("silent.example"), fakeID("orphan.example")}, open...)
	showEverywhere(t, c.Peers, "t", all...)
	if s := waitSession(t, here, open[0], "open", here); s.LastPing == nil || *s.LastPing > timeout.Seconds() || s.EndsIn != nil {
		t.Errorf("open session, asked where it is: %s", mustJSON(s))
	}
	if s := waitSession(t, rest[1], open[0], "open", here); s.LastPing != nil {
		t.Errorf("open session, asked elsewhere: %s", mustJSON(s))
	}

	killed := time.Now()
	if err := lost.Kill(); err != nil {
		t.Fatal(err)
	}
	t.Run("orphan", func(t *testing.T) {
		before := math.Inf(1)
		for range 5 { // counts down, whoever is asked
			for _, p := range rest {
				s := waitSession(t, p, fakeID("orphan.example"), "orphan", lost)
				if s.EndsIn == nil || *s.EndsIn < 0 || *s.EndsIn > timeout.Seconds() || *s.EndsIn > before {
					t.Fatalf("%s: %s after %v s", p.Name(), mustJSON(s), before)
				}
				before = *s.EndsIn
			}
		}
		eventually(t, func(ctx context.Context) error {
			if sessions, err := sessionsOf(ctx, here, fakeID("orphan.example")); err != nil || len(sessions) > 0 {
				return fmt.Errorf("%s %w", mustJSON(sessions), err)
			}
			return nil
		})
		if took := time.Since(killed); took < timeout {
			t.Errorf("ended %v after its peer, want at least %v", took, timeout)
		}
	})
	t.Run("suspended", func(t *testing.T) {
		waitSession(t, rest[1], fakeID("silent.example"), "suspended", here)
		for _, p := range rest {
			if err := shows(within(t, patience), p, "t", open...); err != nil {
				t.Error(err)
			}
			if got, err := nodes(within(t, patience), p); err != nil || len(got) != 1 || got[0].id() != open[0] {
				t.Errorf("%s: nodes %+v %v, want %v", p.Name(), got, err, open)
			}
		}
		silent.mustCall(t, "PING\n")
		showEverywhere(t, rest, "t", append(open, fakeID("silent.example"))...)
		waitSession(t, rest[1], fakeID("silent.example"), "open", here)
	})
}

// sweepAfter is built into the daemon: what was not declared again goes at the
// first PING so long after the last IDENTIFY or REGISTER.
const sweepAfter = 5 * time.Second

func TestWhatIsNotDeclaredAgainIsSwept(t *testing.T) {
	w := newWorld(t)
	c := w.cluster(3)
	lost, other := c.Peers[0], c.Peers[1]
	const host = "n1.example"
	id := fakeID(host)
	first := fakeNSQD(t, lost.TCPAddress(), host)
	for _, name := range []string{"kept", "kept gone", "both", "doomed", "doomed ch"} {
		first.mustCall(t, "REGISTER "+name+"\n")
	}
	twin := fakeNSQD(t, other.TCPAddress(), host)
	for _, name := range []string{"elsewhere", "both"} {
		twin.mustCall(t, "REGISTER "+name+"\n")
	}
	if err := lost.Kill(); err != nil {
		t.Fatal(err)
	}
	w.start(lost)

	again := fakeNSQD(t, lost.TCPAddress(), host)
	again.mustCall(t, "REGISTER kept\n")
	declared := time.Now()
	again.pingEvery(t, 100*time.Millisecond)
	// The PINGs are in time, so that nothing goes before.
	stays(t, declared.Add(sweepAfter-200*time.Millisecond), func(ctx context.Context) error { return shows(ctx, c.Peers[2], "doomed", id) })
	showEverywhere(t, c.Peers, "doomed")
	t.Logf("swept %v after the last REGISTER", time.Since(declared).Round(time.Millisecond))
	for _, p := range c.Peers {
		for _, topic := range []string{"kept", "both", "elsewhere"} {
			if err := shows(within(t, patience), p, topic, id); err != nil {
				t.Error(err)
			}
		}
		all, err := nodes(within(t, patience), p)
		if err != nil || len(all) != 1 || !slices.Equal(all[0].Topics, []string{"both", "elsewhere", "kept"}) {
			t.Errorf("%s: nodes %+v %v", p.Name(), all, err)
		}
	}
}

// An nsqd gives up on an answer after a second. What a peer that was paused then
// reads is an IDENTIFY whose connection is gone: it must not end the session of
// the earlier start, which keeps the producer in the answers.
func TestAbandonedIdentifyEndsNothing(t *testing.T) {
	w := newWorld(t)
	c := w.cluster(3)
	peer := follower(t, c)
	rest := without(c.Peers, peer)
	const host = "n1.example"
	id := fakeID(host)
	fakeNSQD(t, peer.TCPAddress(), host).mustCall(t, "REGISTER t\n")
	if err := peer.Kill(); err != nil {
		t.Fatal(err)
	}
	w.start(peer)

	if err := peer.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	abandoned, err := dialV1(peer.TCPAddress()) // the kernel accepts it
	if err == nil {
		err = abandoned.send("  V1" + identifyCommand(fmt.Sprintf(
			`{"broadcast_address":%q,"hostname":%q,"tcp_port":%d,"http_port":%d,"version":"1.3.0"}`, host, host, fakePort, fakePort+1)))
	}
	if err == nil {
		err = abandoned.Close()
	}
	if err := errors.Join(err, peer.Signal(syscall.SIGCONT)); err != nil {
		t.Fatal(err)
	}
	// Once the peer answers again, it has met the connection before: the next
	// one is accepted after it.
	fakeNSQD(t, peer.TCPAddress(), "n2.example").mustCall(t, "REGISTER t\n")
	stays(t, time.Now().Add(2*time.Second), func(ctx context.Context) error {
		return shows(ctx, rest[0], "t", id, fakeID("n2.example"))
	})
}
