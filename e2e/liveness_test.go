package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/lookupd/lookupd/supervisor"
)

// whenGone returns how long after began the last of the peers stopped to show
// the producer. An answer that is no answer does not count.
func whenGone(t *testing.T, peers []*supervisor.Peer, topic, id string, began time.Time) time.Duration {
	t.Helper()
	ctx := within(t, 2*patience)
	errs := make([]error, len(peers))
	var wait sync.WaitGroup
	for i, p := range peers {
		wait.Go(func() {
			ticker := time.NewTicker(time.Millisecond)
			defer ticker.Stop()
			for errs[i] = lacks(ctx, p, topic, id); errs[i] != nil && ctx.Err() == nil; <-ticker.C {
				errs[i] = lacks(ctx, p, topic, id)
			}
		})
	}
	wait.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	return time.Since(began)
}

// lacks returns nil if the peer's lookup does not show the producer.
func lacks(ctx context.Context, p *supervisor.Peer, topic, id string) error {
	answer, err := lookupTopic(ctx, p, topic)
	if err != nil {
		return err
	}
	for _, producer := range answer.Producers {
		if producer.id() == id {
			return fmt.Errorf("%s shows %s", p.Name(), id)
		}
	}
	return nil
}

// has returns nil if each of the peers shows the producer, among others.
func has(ctx context.Context, peers []*supervisor.Peer, topic, id string) error {
	for _, p := range peers {
		if lacks(ctx, p, topic, id) == nil {
			return fmt.Errorf("%s does not show %s for %s", p.Name(), id, topic)
		}
	}
	return nil
}

func TestEndedNSQDIsGoneWithinASecond(t *testing.T) {
	const (
		trials = 180 // with connections of the test, half of them reset
		real   = 20  // nsqds that are killed
		atMost = time.Second
	)
	w := newWorld(t)
	c := w.cluster(3)
	fakeNSQD(t, c.Peers[0].TCPAddress(), "stays.example").mustCall(t, "REGISTER t\n")
	took := map[string][]time.Duration{}
	end := func(kind, id string, end func() error) {
		eventually(t, func(ctx context.Context) error { return has(ctx, c.Peers, "t", id) })
		began := time.Now()
		if err := end(); err != nil {
			t.Fatal(err)
		}
		took[kind] = append(took[kind], whenGone(t, c.Peers, "t", id, began))
	}
	for i := range trials {
		kind, host := "FIN", fmt.Sprintf("n%d.example", i)
		conn := fakeNSQD(t, c.Peers[i%len(c.Peers)].TCPAddress(), host)
		conn.mustCall(t, "REGISTER t\n")
		if i/len(c.Peers)%2 == 0 {
			kind = "RST"
			if err := conn.Conn.(*net.TCPConn).SetLinger(0); err != nil {
				t.Fatal(err)
			}
		}
		end(kind, fakeID(host), conn.Close)
	}
	for i := range real {
		n := w.nsqd(fmt.Sprintf("nsqd%d", i), c.Peers[i%len(c.Peers)].TCPAddress())
		n.publish(t, "t", "x")
		end("SIGKILL", n.id(), n.Kill)
	}
	var all []time.Duration
	for kind, times := range took {
		t.Logf("%-7s n=%d: %v", kind, len(times), quantilesOf(times))
		all = append(all, times...)
	}
	q := quantilesOf(all)
	t.Logf("all     n=%d: %v", len(all), q)
	if q.p99 > atMost {
		t.Errorf("p99 %v, want at most %v", q.p99, atMost)
	}
	if err := has(within(t, patience), c.Peers, "t", fakeID("stays.example")); err != nil {
		t.Error(err)
	}
}

// An nsqd gives a command one second. So one that is behind a single peer ends
// the connection by itself when that peer is paused for longer: here pauses meet
// nsqds with more than one peer, and connections that are patient.
func TestLiveNSQDStaysThroughLeaderChanges(t *testing.T) {
	skipShort(t, "changes the leader 50 times")
	t.Parallel() // waits for elections
	w := newWorld(t)
	c := w.cluster(3)
	producers := map[string]string{} // topic -> who offers it
	n := w.nsqd("nsqd-all", c.TCPAddresses()...)
	n.publish(t, "through-all", "x")
	producers["through-all"] = n.id()

	t.Run("paused", func(t *testing.T) {
		producers := maps.Clone(producers)
		for _, p := range c.Peers {
			host := "patient-" + p.Name() + ".example"
			fakeNSQD(t, p.TCPAddress(), host).pingEvery(t, time.Second).mustCall(t, "REGISTER patient-"+p.Name()+"\n")
			producers["patient-"+p.Name()] = fakeID(host)
		}
		changeLeader(t, c, 15, producers, func(p *supervisor.Peer) error {
			err := p.Signal(syscall.SIGSTOP)
			leader(t, &supervisor.Cluster{Peers: without(c.Peers, p)})
			return errors.Join(err, p.Signal(syscall.SIGCONT))
		})
	})
	for _, p := range c.Peers {
		n := w.nsqd("nsqd-"+p.Name(), p.TCPAddress())
		n.publish(t, "through-"+p.Name(), "x")
		producers["through-"+p.Name()] = n.id()
	}
	t.Run("restarted", func(t *testing.T) {
		changeLeader(t, c, 20, producers, func(p *supervisor.Peer) error { return p.Restart(10 * time.Second) })
	})
	t.Run("killed", func(t *testing.T) {
		changeLeader(t, c, 15, producers, func(p *supervisor.Peer) error { return errors.Join(p.Kill(), p.Start()) })
	})
}

// changeLeader deposes one leader after another. No answer may lack one of the
// producers, by topic, meanwhile.
func changeLeader(t *testing.T, c *supervisor.Cluster, times int, producers map[string]string, depose func(*supervisor.Peer) error) {
	t.Helper()
	for topic, id := range producers {
		showEverywhere(t, c.Peers, topic, id)
	}
	watch := newWatch(t, c.Peers)
	began := time.Now()
	old, first := agreedLeader(t, c, 0)
	term := first
	for range times {
		if err := depose(old); err != nil {
			t.Fatal(err)
		}
		old, term = agreedLeader(t, c, term)
		if err := c.WaitReady(within(t, patience)); err != nil {
			t.Fatal(err)
		}
		for topic, id := range producers { // time for the watch, between two elections
			showEverywhere(t, c.Peers, topic, id)
		}
	}
	t.Logf("%d leader changes in %v, from term %d to %d", times, time.Since(began).Round(time.Second), first, term)
	judge(t, watch, 50)
	for topic, id := range producers {
		showEverywhere(t, c.Peers, topic, id)
	}
	sameState(t, c)
}

// agreedLeader waits until all peers name one leader of a term after that one.
func agreedLeader(t *testing.T, c *supervisor.Cluster, after uint64) (leader *supervisor.Peer, term uint64) {
	t.Helper()
	eventually(t, func(ctx context.Context) error {
		var first clusterStatus
		for i, p := range c.Peers {
			s, err := status(ctx, p)
			if err != nil {
				return err
			}
			if i == 0 {
				first = s
			}
			if s.Leader == "" || s.Term <= after || s.Leader != first.Leader || s.Term != first.Term {
				return fmt.Errorf("%s says %q leads in term %d, after %d; %s says %q in %d", p.Name(), s.Leader, s.Term, after, c.Peers[0].Name(), first.Leader, first.Term)
			}
		}
		leader, term = c.Peer(first.Leader), first.Term
		return nil
	})
	return leader, term
}
