package e2e_test

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/lookupd/lookupd/supervisor"
)

// newWatch starts a watch that ends with the test.
func newWatch(t *testing.T, peers []*supervisor.Peer) *supervisor.Watch {
	t.Helper()
	watch, err := supervisor.NewWatch(t.Context(), peers)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { watch.Stop() })
	return watch
}

// judge stops a watch; no answer may have been wrong.
func judge(t *testing.T, watch *supervisor.Watch, least int) {
	t.Helper()
	report := watch.Stop()
	t.Logf("lookups: %d right, %d wrong, %d refused", report.Right, report.Wrong, report.Refused)
	if report.Wrong > 0 {
		t.Errorf("%d lookups wrong: %v", report.Wrong, report.Examples)
	}
	if report.Right < least {
		t.Errorf("only %d lookups answered, want at least %d", report.Right, least)
	}
}

func TestNSQDStaysWhileItsPeerIsAway(t *testing.T) {
	skipShort(t, "waits for real nsqds, that look at their connections every 15 s")
	t.Parallel() // waits
	const away = 20 * time.Second
	w := newWorld(t)
	c := w.cluster(3)
	lost := leader(t, c)
	rest := without(c.Peers, lost)
	n := w.nsqd("nsqd", lost.TCPAddress())
	n.publish(t, "orders", "x")
	showEverywhere(t, c.Peers, "orders", n.id())
	first := waitSession(t, rest[0], n.id(), "open", lost)
	watch := newWatch(t, rest) // knows of orders alone

	// Another one changes its mind meanwhile.
	changer := w.nsqd("changer", lost.TCPAddress())
	for _, topic := range []string{"kept", "doomed"} {
		changer.publish(t, topic, "x")
		showEverywhere(t, c.Peers, topic, changer.id())
	}
	twin := fakeNSQDWithPort(t, rest[0].TCPAddress(), changer.host, changer.ports.TCP)
	twin.mustCall(t, "REGISTER elsewhere\n")

	if err := lost.Kill(); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	mustPost(t, changer.url("/topic/delete?topic=doomed"))
	orphan := waitSession(t, rest[0], n.id(), "orphan", lost)
	if orphan.ID != first.ID || orphan.EndsIn == nil {
		t.Errorf("orphan %s, was %s", mustJSON(orphan), mustJSON(first))
	}
	stays(t, killed.Add(away), func(ctx context.Context) error { // the watch asks for orders more often
		for _, topic := range []string{"kept", "doomed"} {
			if err := shows(ctx, rest[1], topic, changer.id()); err != nil {
				return err
			}
		}
		return nil
	})
	back := time.Now()
	w.start(lost)
	t.Logf("%s is ready after %v", lost.Name(), time.Since(back).Round(time.Millisecond))

	eventually(t, func(ctx context.Context) error {
		s, err := hasSession(ctx, rest[0], n.id(), "open", lost)
		if err == nil && s.ID == first.ID {
			err = fmt.Errorf("%s is the session of before", s.ID)
		}
		return err
	})
	t.Logf("nsqd is back %v after its peer", time.Since(back).Round(time.Millisecond))
	for _, p := range c.Peers {
		if err := shows(within(t, patience), p, "orders", n.id()); err != nil {
			t.Error(err)
		}
	}
	showEverywhere(t, c.Peers, "doomed")
	t.Logf("what nsqd did not declare again is gone %v after its peer's return", time.Since(back).Round(time.Millisecond))
	for _, p := range c.Peers {
		for _, topic := range []string{"kept", "elsewhere"} {
			if err := shows(within(t, patience), p, topic, changer.id()); err != nil {
				t.Error(err)
			}
		}
		all, err := nodes(within(t, patience), p)
		if err != nil || len(all) != 2 {
			t.Errorf("%s: nodes %+v %v, want 2", p.Name(), all, err)
		}
	}
	judge(t, watch, 1000)
}

func TestNSQDGoesWithItsPeerInTime(t *testing.T) {
	skipShort(t, "waits for a time-out, twice")
	t.Parallel() // waits
	const (
		timeout = 8 * time.Second
		slack   = 4 * time.Second // to see the new leader, to look, and for a loaded machine
	)
	w := newWorld(t)
	c := w.cluster(5, "-inactive-producer-timeout", timeout.String()) // so that it can lose a peer and its leader
	lost := follower(t, c)
	n := w.nsqd("nsqd", lost.TCPAddress())
	n.publish(t, "orders", "x")
	showEverywhere(t, c.Peers, "orders", n.id())
	old := leader(t, c)
	rest := without(c.Peers, lost, old)
	watch := newWatch(t, rest)

	killed := time.Now()
	if err := lost.Kill(); err != nil {
		t.Fatal(err)
	}
	waitSession(t, rest[0], n.id(), "orphan", lost)
	orphaned := func(ctx context.Context) error {
		_, err := hasSession(ctx, rest[0], n.id(), "orphan", lost)
		return err
	}
	stays(t, killed.Add(timeout/2), orphaned)
	stopped := time.Now()
	if err := old.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	next := leader(t, &supervisor.Cluster{Peers: rest})
	seen := time.Now()
	orphan := waitSession(t, rest[0], n.id(), "orphan", lost)
	t.Logf("%s leads %v after %s was paused; the orphan ends in %v s", next.Name(), seen.Sub(stopped).Round(time.Millisecond), old.Name(), *orphan.EndsIn)
	stays(t, stopped.Add(timeout), orphaned)
	judge(t, watch, 100) // nothing was gone until now
	showEverywhere(t, rest, "orders")
	took := time.Since(seen)
	t.Logf("gone everywhere %v after the new leader, %v after its peer", took.Round(time.Millisecond), time.Since(killed).Round(time.Millisecond))
	if took > timeout+slack {
		t.Errorf("gone %v after the new leader, want within %v", took, timeout+slack)
	}
	if err := old.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	showEverywhere(t, without(c.Peers, lost), "orders")
	for _, p := range without(c.Peers, lost) {
		if all, err := nodes(within(t, patience), p); err != nil || len(all) != 0 {
			t.Errorf("%s: nodes %+v %v, want none", p.Name(), all, err)
		}
	}
}
