package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lookupd/lookupd/supervisor"
)

// clusterOf starts three peers, each changed before its start.
func (w *world) clusterOf(change func(i int, p *supervisor.PeerConfig)) *supervisor.Cluster {
	w.t.Helper()
	c := &supervisor.Cluster{}
	all := ports(w.t, 3)
	var join []string
	for _, p := range all {
		join = append(join, supervisor.Address(p.Gossip))
	}
	for i := range all {
		config := supervisor.PeerConfig{Name: string(rune('a' + i)), Path: binaries.lookupd, Dir: w.dir, Ports: all[i], Join: join, Expect: 3}
		change(i, &config)
		c.Peers = append(c.Peers, w.NewPeer(config))
	}
	w.startCluster(c)
	return c
}

// TestHostileFiles (X11): with few files clients are refused; raft and the log
// keep theirs, so nobody's lookups suffer, not even at the peers that are meant.
func TestHostileFiles(t *testing.T) {
	if _, err := exec.LookPath("prlimit"); err != nil {
		skipNeeds(t, "prlimit")
	}
	w := newWorld(t)
	c := w.clusterOf(func(_ int, p *supervisor.PeerConfig) { p.Wrap = []string{"prlimit", "--nofile=256"} })
	hostilities(t, c, newGoodFleet(t, c.Peers), behaviour{
		attack: func(ctx context.Context, a *attacker) {
			a.crowd(ctx, 3, 900*hostileScale(), func(ctx context.Context, i int) {
				if conn, err := a.dial(ctx, sourceOf(i), a.target(i).TCPAddress()); err == nil {
					a.work.Go(func() { a.hold(ctx, conn) })
				}
			})
		},
		proof: []string{"tcp,connections"}, full: true, restartLeader: true,
	})
	sameState(t, c)
}

// TestHostileMemory (X12): near its memory limit a peer takes no connections,
// and lives.
func TestHostileMemory(t *testing.T) {
	w := newWorld(t)
	const limit = 48 << 20
	c := w.clusterOf(func(i int, p *supervisor.PeerConfig) {
		p.Args = []string{"-tcp-body-timeout=1m"}
		if i == 0 {
			p.Env = []string{fmt.Sprintf("GOMEMLIMIT=%d", limit)}
		}
	})
	victim, others := c.Peers[0], &supervisor.Cluster{Peers: c.Peers[1:]}
	if leader(t, c) == victim { // a leader that lacks memory is slow, and loses its office
		if err := victim.Restart(patience); err != nil {
			t.Fatal(err)
		}
		if err := victim.WaitReady(within(t, patience)); err != nil {
			t.Fatal(err)
		}
	}
	good := newGoodFleet(t, others.Peers)
	half := "  V1IDENTIFY\n\x00\x01\x00\x00" + strings.Repeat("x", 64<<10-1)
	hostilities(t, others, good, behaviour{
		attack: func(ctx context.Context, a *attacker) {
			a.crowd(ctx, 4, 600, func(ctx context.Context, i int) {
				conn, err := a.dial(ctx, sourceOf(i), victim.TCPAddress())
				if err != nil {
					return
				}
				if _, err := io.WriteString(conn, half); err == nil {
					a.count("bodies")
				}
				a.work.Go(func() { a.hold(ctx, conn) })
			})
		},
		proof: []string{"bodies", "closed by the peer"},
	})
	eventually(t, victim.Ready) // a probe that was refused as well
	_, all, err := loadOf(within(t, patience), victim)
	if err != nil {
		t.Fatal(err)
	}
	const refused = `lookupd_refused_total{listener="tcp",reason="memory"}`
	t.Logf("refused for memory: %.0f; resident %.0f MiB", all[refused], all["process_resident_memory_bytes"]/(1<<20))
	if all[refused] == 0 {
		t.Error("nothing was refused: the attack did not reach the limit")
	}
	sameState(t, c)
}

// TestHostileDisk (X13): somebody else fills a peer's disk. What was declared
// there is made when there is room again, and the other peers notice nothing.
func TestHostileDisk(t *testing.T) {
	wrap := []string{"unshare", "-m", "sh", "-c"}
	w := newWorld(t)
	disk := filepath.Join(w.dir, "a")
	mount := "mkdir -p " + disk + " && mount -t tmpfs -o size=200m none " + disk
	if out, err := exec.Command(wrap[0], append(wrap[1:], mount)...).CombinedOutput(); err != nil {
		skipNeeds(t, fmt.Sprintf("root and mounts of its own: %v %s", err, out))
	}
	c := w.clusterOf(func(i int, p *supervisor.PeerConfig) {
		if i == 0 {
			p.Wrap = append(wrap, mount+` && chmod 700 `+disk+` && exec "$0" "$@"`)
		}
	})
	victim := c.Peers[0]
	good := newGoodFleet(t, c.Peers[1:])
	nsqd := fakeNSQD(t, victim.TCPAddress(), "on-the-full-disk")
	nsqd.mustCall(t, "REGISTER early\n")
	ballast := fmt.Sprintf("/proc/%d/root%s/ballast", victim.PID(), disk)
	fill := func(ctx context.Context, a *attacker) {
		if err := os.WriteFile(ballast, make([]byte, 100<<20), 0o600); err != nil {
			t.Error(err)
			return
		}
		// A slow machine may need longer than the attack is to last.
		notice, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		err := supervisor.Poll(notice, func(context.Context) error {
			answer, err := nsqd.call("REGISTER late\n")
			if err != nil {
				return err
			}
			if strings.HasPrefix(answer, "E_UNAVAILABLE too little free disk") {
				a.count("E_UNAVAILABLE")
				return nil
			}
			return errors.Join(fmt.Errorf("REGISTER on the full disk: %q", answer), nsqd.ok("UNREGISTER late\n"))
		})
		if err != nil {
			t.Error(err)
			return
		}
		if status, body, err := try(notice, "POST", victim.URL("/topic/create?topic=x"), "", ""); err == nil && strings.Contains(body, "DISK_LOW") {
			a.count(fmt.Sprint(status))
		}
		if answer, err := nsqd.call("PING\n"); err != nil || answer != "OK" {
			t.Errorf("PING on the full disk: %q %v", answer, err)
		}
		<-ctx.Done()
	}
	hostilities(t, c, good, behaviour{attack: fill, proof: []string{"E_UNAVAILABLE", "503", "tcp,disk", "http,disk"}})
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	eventually(t, func(ctx context.Context) error {
		return lookupShows(ctx, c.Peers[1], "late", fakeID("on-the-full-disk"))
	})
	t.Logf("what was declared meanwhile is there %v after the disk has room", time.Since(began).Round(time.Millisecond))
}

// lookupShows returns nil if a lookup shows a producer.
func lookupShows(ctx context.Context, p *supervisor.Peer, topic, id string) error {
	var answer struct {
		Producers []struct {
			Host string `json:"broadcast_address"`
			Port int    `json:"tcp_port"`
		} `json:"producers"`
	}
	if err := p.GetJSON(ctx, "/lookup?topic="+topic, &answer); err != nil {
		return err
	}
	for _, producer := range answer.Producers {
		if producerID(producer.Host, producer.Port) == id {
			return nil
		}
	}
	return fmt.Errorf("%s does not show %s", topic, id)
}

// TestHostileWithoutQuorum (X15): all clients retry while there is no quorum.
// PING is answered, memory stays, and all is well soon after it is back.
func TestHostileWithoutQuorum(t *testing.T) {
	t.Parallel() // waits
	w := newWorld(t)
	c := w.cluster(3)
	good := newGoodFleet(t, c.Peers[:1])
	alone := c.Peers[0]
	for _, p := range c.Peers[1:] {
		if err := p.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, func(ctx context.Context) error { // its reads fail, so it knows
		if status, _, err := try(ctx, "GET", alone.URL("/topics"), "", ""); err != nil || status != 503 {
			return fmt.Errorf("%d %v", status, err)
		}
		return nil
	})
	before, _, err := loadOf(within(t, patience), alone)
	if err != nil {
		t.Fatal(err)
	}
	good.take()
	ctx, cancel := context.WithTimeout(t.Context(), 2**hostileFor)
	defer cancel()
	a := &attacker{peers: c.Peers[:1], counts: map[string]int{}}
	stop := peaks(c.Peers[:1])
	a.crowd(ctx, 40, 200, func(ctx context.Context, i int) { // consumers, and nsqds that give up
		if status, _, err := try(ctx, "GET", alone.URL("/lookup?topic=good-0"), "", ""); err == nil {
			a.count(fmt.Sprint(status))
		}
		conn, err := a.dial(ctx, sourceOf(i), alone.TCPAddress())
		if err != nil {
			return
		}
		defer conn.Close()
		v1 := newV1Conn(conn)
		if v1.identify(fmt.Sprint("retry-", i), fakePort) == nil {
			if answer, err := v1.call(fmt.Sprintf("REGISTER retry-%d\n", i)); err == nil {
				word, _, _ := strings.Cut(answer, " ")
				a.count(word)
			}
		}
	})
	<-ctx.Done()
	a.end()
	most, seen := stop(), good.take()
	t.Logf("%v; good commands: %v", a.counts, seen)
	t.Logf("memory %.0f MiB before, %.0f MiB at most; %.0f goroutines", before.resident/(1<<20), most.resident/(1<<20), most.goroutines)
	if a.counts["200"]+a.counts["OK"] > 0 || a.counts["503"] == 0 || a.counts["E_UNAVAILABLE"] == 0 {
		t.Errorf("without a quorum: %v", a.counts)
	}
	if seen.dropped+seen.wrong > 0 || len(seen.times) == seen.late { // PINGs are never late
		t.Errorf("good commands: %v %v", seen, seen.examples)
	}
	const growth = 64 << 20
	if most.resident > before.resident+growth {
		t.Errorf("memory grew from %.0f to %.0f MiB", before.resident/(1<<20), most.resident/(1<<20))
	}
	began := time.Now()
	for _, p := range c.Peers[1:] {
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
	}
	leader(t, c)
	led := time.Now()
	eventually(t, func(ctx context.Context) error {
		for _, n := range good.nsqds {
			if err := lookupShows(ctx, alone, n.topic, fakeID(n.host)); err != nil {
				return err
			}
		}
		_, all, err := loadOf(ctx, alone)
		if pending := all["lookupd_declared_pending"]; err == nil && pending > 0 {
			err = fmt.Errorf("%.0f changes are pending", pending)
		}
		return err
	})
	t.Logf("a leader %v after the start of the others, all well %v later", led.Sub(began).Round(time.Millisecond), time.Since(led).Round(time.Millisecond))
	if took := time.Since(led); took > 10*time.Second {
		t.Errorf("well only after %v", took)
	}
}

// TestHostileReturn (X16): all peers restart at once and all nsqds return at
// once. No answer lacks one meanwhile.
func TestHostileReturn(t *testing.T) {
	w := newWorld(t)
	c := w.cluster(3, "-tcp-max-connections-per-address=10000")
	good := newGoodFleet(t, c.Peers)
	size := 300 * hostileScale()
	comeBack := func() (took time.Duration, late int) {
		began := time.Now()
		var mu sync.Mutex
		var wait sync.WaitGroup
		for i := range size {
			wait.Go(func() {
				address := c.Peers[i%3].TCPAddress()
				var conn *v1Conn
				eventually(t, func(context.Context) (err error) { conn, err = dialV1(address); return err })
				t.Cleanup(func() { _ = conn.Close() })
				host := fmt.Sprint("many-", i)
				if err := conn.identify(host, fakePort); err != nil {
					t.Error(err)
					return
				}
				answer, err := conn.call(fmt.Sprintf("REGISTER many-%d\n", i%20))
				if err != nil || answer != "OK" && !strings.HasPrefix(answer, "E_UNAVAILABLE") {
					t.Errorf("%s: %q %v", host, answer, err)
				}
				if answer != "OK" {
					mu.Lock()
					late++
					mu.Unlock()
				}
			})
		}
		wait.Wait()
		eventually(t, func(ctx context.Context) error {
			for _, p := range c.Peers {
				_, all, err := loadOf(ctx, p)
				if err != nil {
					return err
				}
				producers := all[`lookupd_producers{state="active"}`] + all[`lookupd_producers{state="suspended"}`]
				if all["lookupd_declared_pending"] > 0 || producers != float64(size+len(good.nsqds)) {
					return fmt.Errorf("%s: %.0f pending, %.0f producers", p.Name(), all["lookupd_declared_pending"], producers)
				}
			}
			return nil
		})
		return time.Since(began), late
	}
	first, late := comeBack()
	t.Logf("%d nsqds came in %v, %d answered late", size, first.Round(time.Millisecond), late)
	watch, err := supervisor.NewWatch(t.Context(), c.Peers)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		watch.Add(fmt.Sprint("many-", i))
	}
	for _, p := range c.Peers {
		good.mayBreak(p)
	}
	began := time.Now()
	if err := c.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	started := time.Since(began)
	took, late := comeBack()
	good.mustReturn(t)
	report := watch.Stop()
	t.Logf("all ready %v after their death; all nsqds committed %v later, %d answered late; lookups: %d right, %d refused",
		started.Round(time.Millisecond), took.Round(time.Millisecond), late, report.Right, report.Refused)
	if report.Wrong > 0 || report.Right == 0 {
		t.Errorf("%d lookups lacked something: %v", report.Wrong, report.Examples)
	}
	sameState(t, c)
}
