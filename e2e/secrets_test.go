package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lookupd/lookupd/supervisor"
)

// secretFiles are those of lookupctl secrets init that a peer needs.
var secretFiles = []string{"ca.pem", "peer.pem", "peer-key.pem", "gossip.key"}

// initSecrets runs lookupctl secrets init and returns the content of its files
// by name, and what it prints.
func initSecrets(t *testing.T) (files map[string][]byte, printed string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "secrets")
	var out, talk bytes.Buffer
	cmd := exec.CommandContext(within(t, patience), binaries.lookupctl, "secrets", "init", dir)
	cmd.Stdout, cmd.Stderr = &out, &talk
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, talk.String())
	}
	files = map[string][]byte{}
	for _, name := range secretFiles {
		content, err := os.ReadFile(filepath.Join(dir, name))
		must(t, err)
		files[name] = content
	}
	return files, strings.ReplaceAll(strings.TrimSpace(out.String()), dir, "DIR")
}

// replace writes a file at once, as an operator's tools do.
func replace(t *testing.T, path string, parts ...[]byte) {
	t.Helper()
	must(t, os.WriteFile(path+".new", bytes.Join(parts, nil), 0o600))
	must(t, os.Rename(path+".new", path))
}

// secureCluster starts three peers, each with secrets in a directory of its own.
func (w *world) secureCluster(files map[string][]byte, flags string) (c *supervisor.Cluster, dirs []string) {
	w.t.Helper()
	t := w.t.(*testing.T)
	all := ports(t, 3)
	var join []string
	for _, p := range all {
		join = append(join, supervisor.Address(p.Gossip))
	}
	c = &supervisor.Cluster{}
	for i, p := range all {
		name := string(rune('a' + i))
		dir := filepath.Join(w.dir, "secrets-"+name)
		must(t, os.Mkdir(dir, 0o700))
		for file, content := range files {
			replace(t, filepath.Join(dir, file), content)
		}
		dirs = append(dirs, dir)
		c.Peers = append(c.Peers, w.NewPeer(supervisor.PeerConfig{
			Name: name, Path: binaries.lookupd, Dir: w.dir, Ports: p, Join: join, Expect: len(all),
			Args: strings.Fields(strings.ReplaceAll(flags, "DIR", dir)),
		}))
	}
	w.startCluster(c)
	return c, dirs
}

// users use a cluster all the time: each makes topics through one peer and looks
// each up at the next, and an nsqd registers. Every failure counts.
type users struct {
	answered atomic.Int64
	mu       sync.Mutex
	failures []error
	stopped  func()
}

func startUsers(t *testing.T, c *supervisor.Cluster) *users {
	t.Helper()
	u := &users{}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for i, p := range c.Peers {
		next := c.Peers[(i+1)%len(c.Peers)]
		running.Go(func() { u.use(ctx, p, next) })
		running.Go(func() { u.register(ctx, p) })
	}
	u.stopped = sync.OnceFunc(func() { cancel(); running.Wait() })
	t.Cleanup(u.stopped)
	return u
}

// between is the pause of a user, so that the test measures no overload.
const between = 5 * time.Millisecond

func (u *users) use(ctx context.Context, p, next *supervisor.Peer) {
	for n := 0; ctx.Err() == nil; n++ {
		topic := fmt.Sprintf("rotation-%s-%d", p.Name(), n)
		status, body, err := try(ctx, http.MethodPost, p.URL("/topic/create?topic="+topic), "", "")
		u.note(ctx, "create "+topic, status, body, err)
		status, body, err = try(ctx, http.MethodGet, next.URL("/lookup?topic="+topic), "", "")
		u.note(ctx, "lookup "+topic, status, body, err)
		time.Sleep(between)
	}
}

func (u *users) register(ctx context.Context, p *supervisor.Peer) {
	c, err := dialFrom(ctx, net.IPv4(127, 0, 0, 1), p.TCPAddress())
	if err == nil {
		defer c.Close()
		err = c.identify("rotation-"+p.Name()+".example", fakePort)
	}
	for n := 0; err == nil && ctx.Err() == nil; n++ {
		err = c.ok(fmt.Sprintf("REGISTER registered-%s-%d\n", p.Name(), n))
		u.note(ctx, "REGISTER at "+p.Name(), http.StatusOK, "", err)
		time.Sleep(between)
	}
	if err != nil {
		u.note(ctx, "V1 at "+p.Name(), 0, "", err)
	}
}

func (u *users) note(ctx context.Context, what string, status int, body string, err error) {
	switch {
	case ctx.Err() != nil: // the end of the test
	case err == nil && status == http.StatusOK:
		u.answered.Add(1)
	default:
		u.mu.Lock()
		defer u.mu.Unlock()
		u.failures = append(u.failures, fmt.Errorf("%s %s: %d %.100s %w", time.Now().Format("15:04:05.000"), what, status, body, errors.Join(err)))
	}
}

// TestRotationUnderTraffic replaces authority, certificates and gossip key of a
// cluster that is used all the while, as docs/security.md says. No request
// fails, no leader changes, and then the old secrets are worth nothing.
func TestRotationUnderTraffic(t *testing.T) {
	watch := watchPauses(t)
	for attempt := 1; ; attempt++ {
		failures := rotateUnderTraffic(t)
		if len(failures) == 0 {
			return
		}
		if attempt == attempts || !watch.excuse(errors.Join(failures...).Error()) {
			for _, err := range failures {
				t.Error(err)
			}
			return
		}
	}
}

// rotateUnderTraffic returns what failed for who used the cluster.
func rotateUnderTraffic(t *testing.T) (failures []error) {
	t.Helper()
	w := newWorld(t)
	before, flags := initSecrets(t)
	c, dirs := w.secureCluster(before, flags)
	old := filepath.Join(w.dir, "old")
	must(t, os.Mkdir(old, 0o700))
	for file, content := range before {
		replace(t, filepath.Join(old, file), content)
	}
	u := startUsers(t, c)
	time.Sleep(time.Second) // of traffic before, and certificates tell seconds
	after, _ := initSecrets(t)
	term := metric(t, c.Peers[0], "lookupd_raft_term")
	ends := metric(t, c.Peers[0], `lookupd_certificate_expiry_timestamp_seconds{listener="peer"}`)

	certificates, keys := 0, 0
	readAgain := func() {
		t.Helper()
		for _, p := range c.Peers {
			eventually(t, func(context.Context) error {
				log, err := os.ReadFile(p.LogPath())
				if err != nil {
					return err
				}
				for text, want := range map[string]int{"certificates were read again": certificates, "gossip keys were read again": keys} {
					if n := strings.Count(string(log), text); n < want {
						return fmt.Errorf("%s: %q %d times, want %d", p.Name(), text, n, want)
					}
				}
				return nil
			})
		}
		time.Sleep(3 * time.Second) // what is under way on old connections ends
	}
	each := func(do func(dir string)) {
		for _, dir := range dirs {
			do(dir)
		}
		readAgain()
	}
	// Both are believed, then the new ones are shown, then the old ones forgotten.
	certificates, keys = 1, 1
	each(func(dir string) {
		replace(t, filepath.Join(dir, "ca.pem"), before["ca.pem"], after["ca.pem"])
		replace(t, filepath.Join(dir, "gossip.key"), before["gossip.key"], after["gossip.key"])
	})
	certificates, keys = 2, 2
	each(func(dir string) {
		replace(t, filepath.Join(dir, "peer.pem"), after["peer.pem"])
		replace(t, filepath.Join(dir, "peer-key.pem"), after["peer-key.pem"])
		replace(t, filepath.Join(dir, "gossip.key"), after["gossip.key"], before["gossip.key"])
	})
	certificates, keys = 3, 3
	each(func(dir string) {
		replace(t, filepath.Join(dir, "ca.pem"), after["ca.pem"])
		replace(t, filepath.Join(dir, "gossip.key"), after["gossip.key"])
	})
	u.stopped()
	failures = u.failures
	t.Logf("%d requests answered", u.answered.Load())
	if u.answered.Load() < 100 {
		t.Error("too few requests for a test")
	}
	if now := metric(t, c.Peers[0], "lookupd_raft_term"); now != term {
		failures = append(failures, fmt.Errorf("term %v, was %v", now, term))
	}
	if now := metric(t, c.Peers[0], `lookupd_certificate_expiry_timestamp_seconds{listener="peer"}`); now == ends {
		t.Error("the metric tells the old certificate's end")
	}
	sameState(t, c)

	// Who has the old secrets, or a new key and old certificates, stays outside.
	mixed := filepath.Join(w.dir, "mixed")
	must(t, os.Mkdir(mixed, 0o700))
	for file, content := range before {
		replace(t, filepath.Join(mixed, file), content)
	}
	replace(t, filepath.Join(mixed, "gossip.key"), after["gossip.key"])
	refused := metric(t, c.Peers[0], `lookupd_refused_total{listener="peer",reason="connections"}`)
	for name, dir := range map[string]string{"old": old, "mixed": mixed} {
		p := w.NewPeer(supervisor.PeerConfig{
			Name: name, Path: binaries.lookupd, Dir: w.dir, Ports: ports(t, 1)[0], Join: []string{c.Peers[0].GossipAddress()},
			Args: strings.Fields(strings.ReplaceAll(flags, "DIR", dir)),
		})
		must(t, p.Start())
		defer p.Kill()
	}
	eventually(t, func(context.Context) error {
		if now := metric(t, c.Peers[0], `lookupd_refused_total{listener="peer",reason="connections"}`); now == refused {
			return errors.New("a has refused nobody")
		}
		return nil
	})
	s, err := status(within(t, patience), c.Peers[1])
	must(t, err)
	for _, p := range s.Peers {
		if told := p.Security; p.Health == "ok" && (!told.PeerTLS || !told.GossipKey || told.CertificateEnds == 0) {
			t.Errorf("%s tells others %+v of its secrets", p.Name, told)
		}
		if p.Name == "old" {
			t.Errorf("with the old key it is seen: %s", mustJSON(s))
		}
	}
	checkNoSecrets(t, w, before, after)
	must(t, w.KillAll())
	return failures
}

// checkNoSecrets: no log holds a key.
func checkNoSecrets(t *testing.T, w *world, all ...map[string][]byte) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(w.dir, "*.log"))
	must(t, err)
	if len(paths) == 0 {
		t.Error("no logs")
	}
	for _, path := range paths {
		log, err := os.ReadFile(path)
		must(t, err)
		for _, files := range all {
			for _, name := range []string{"peer-key.pem", "gossip.key"} {
				for line := range strings.Lines(string(files[name])) {
					if line = strings.TrimSpace(line); len(line) > 30 && line[0] != '#' && bytes.Contains(log, []byte(line)) {
						t.Errorf("%s holds a part of %s", path, name)
					}
				}
			}
		}
	}
}
