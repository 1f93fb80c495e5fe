package fault

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/lookupd/lookupd/secrets"
	"github.com/lookupd/lookupd/supervisor"
)

func secretKinds() []Kind {
	return []Kind{{Name: "renew authority, certificates and gossip key", Exclusive: true, Needs: needsSecrets, Run: renew}}
}

func needsSecrets(t *Target) string {
	if t.Secrets == nil {
		return "peers with certificates"
	}
	return needsPeers(3)(t)
}

// Secrets are the files by which peers trust each other. Each peer has a
// directory of its own, as on a host of its own.
type Secrets struct {
	dir  string
	made int
	now  secretFiles // on the peers' disks
}

// secretFiles holds contents by the names that package secrets gives.
type secretFiles map[string][]byte

// with returns the files with some replaced.
func (f secretFiles) with(others secretFiles) secretFiles {
	all := maps.Clone(f)
	maps.Copy(all, others)
	return all
}

// dated is how long ago certificates were made, of the two years that they are
// good for: so they outlive every wrong clock of this package.
const dated = 365 * 24 * time.Hour

func newSecrets(dir string) (*Secrets, error) {
	s := &Secrets{dir: dir}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	var err error
	s.now, err = s.create()
	return s, err
}

// create makes an authority, a certificate and a gossip key as lookupctl secrets
// init does.
func (s *Secrets) create() (secretFiles, error) {
	s.made++
	dir := filepath.Join(s.dir, "made-"+strconv.Itoa(s.made))
	if err := secrets.Create(dir, secrets.DefaultCluster, secrets.Hosts{}, time.Now().Add(-dated)); err != nil {
		return nil, err
	}
	files := secretFiles{}
	for _, name := range []string{secrets.AuthorityFile, secrets.CertificateFile, secrets.KeyFile, secrets.GossipKeyFile} {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		files[name] = content
	}
	return files, nil
}

func (s *Secrets) path(peer, file string) string { return filepath.Join(s.dir, peer, file) }

// addPeer gives a peer the present secrets and returns its flags.
func (s *Secrets) addPeer(name string) ([]string, error) {
	if err := os.Mkdir(filepath.Join(s.dir, name), 0o700); err != nil {
		return nil, err
	}
	return []string{
		"-peer-tls-cert", s.path(name, secrets.CertificateFile), "-peer-tls-key", s.path(name, secrets.KeyFile),
		"-peer-tls-root-ca-file", s.path(name, secrets.AuthorityFile), "-gossip-key-file", s.path(name, secrets.GossipKeyFile),
	}, s.write(name, s.now)
}

// write replaces files of a peer, each at once.
func (s *Secrets) write(peer string, files secretFiles) error {
	for name, content := range files {
		path := s.path(peer, name)
		if err := os.WriteFile(path+".new", content, 0o600); err != nil {
			return err
		}
		if err := os.Rename(path+".new", path); err != nil {
			return err
		}
	}
	return nil
}

// rotation returns the steps from old to new secrets that docs/security.md
// tells: the new ones are believed, then shown, then the old ones forgotten.
func rotation(old, fresh secretFiles) []secretFiles {
	both := func(a, b secretFiles, name string) []byte { return bytes.Join([][]byte{a[name], b[name]}, nil) }
	return []secretFiles{
		{
			secrets.AuthorityFile: both(old, fresh, secrets.AuthorityFile),
			secrets.GossipKeyFile: both(old, fresh, secrets.GossipKeyFile),
		},
		{
			secrets.CertificateFile: fresh[secrets.CertificateFile], secrets.KeyFile: fresh[secrets.KeyFile],
			secrets.GossipKeyFile: both(fresh, old, secrets.GossipKeyFile),
		},
		{secrets.AuthorityFile: fresh[secrets.AuthorityFile], secrets.GossipKeyFile: fresh[secrets.GossipKeyFile]},
	}
}

// What a peer logs when it has taken in new secrets.
var readAgain = map[string]string{
	secrets.AuthorityFile: "certificates were read again", secrets.CertificateFile: "certificates were read again",
	secrets.GossipKeyFile: "gossip keys were read again",
}

// renew replaces all secrets step by step. In one step, mostly, a peer is away
// and comes back with the new files; in the others all peers must get new
// connections from each other. At the end every peer must show the new
// certificate and refuse the old one. When ctx ends it hurries to the end: peers that trust different secrets are none
// to go on with.
func renew(ctx context.Context, t *Target) (string, error) {
	leader, _, err := t.roles(ctx)
	if err != nil {
		return "", err
	}
	s := t.Secrets
	old := s.now
	fresh, err := s.create()
	if err != nil {
		return "", err
	}
	steps := rotation(old, fresh)
	absent, away := t.Rand.IntN(len(steps)+1), everyPeer(t, nil, nil)[0]
	began := time.Now()
	note := ""
	for i, step := range steps {
		var restarted *supervisor.Peer
		if i == absent {
			restarted, note = away, fmt.Sprintf("; %s restarted in step %d", away.Name(), i+1)
		}
		if err := t.takeStep(ctx, step, restarted); err != nil {
			return t.ended(ctx, leader.String(), fmt.Errorf("step %d: %w", i+1, err))
		}
	}
	evidence := fmt.Sprintf("%s; %d steps in %v%s", leader, len(steps), time.Since(began).Round(time.Millisecond), note)
	proved, err := t.proveRenewed(old, fresh)
	return t.ended(ctx, evidence+"; "+proved, err)
}

// takeStep gives all peers files and waits until all have read them, and some
// time for what is under way on old connections. restarted, if it is not nil, is
// killed before and starts after.
func (t *Target) takeStep(ctx context.Context, step secretFiles, restarted *supervisor.Peer) error {
	if restarted != nil {
		if _, err := killAtOnce([]*supervisor.Peer{restarted}); err != nil {
			return err
		}
	}
	t.Secrets.now = t.Secrets.now.with(step)
	from, connections := map[string]int64{}, t.connections()
	for _, p := range everyPeer(t, nil, nil) {
		from[p.Name()] = logSize(p)
		if err := t.Secrets.write(p.Name(), step); err != nil {
			return err
		}
	}
	healCtx, cancel := healing(ctx)
	defer cancel()
	if restarted != nil {
		if err := restarted.Start(); err != nil {
			return err
		}
		if err := restarted.WaitReady(healCtx); err != nil {
			return err
		}
	}
	for _, p := range t.Cluster.Peers {
		if p == restarted {
			continue
		}
		if err := waitReadAgain(healCtx, p, from[p.Name()], step); err != nil {
			return err
		}
	}
	if restarted == nil {
		if err := t.waitReconnected(healCtx, connections); err != nil {
			return err
		}
	}
	_ = hold(ctx, t.between(2*time.Second, 5*time.Second))
	return nil
}

// connections counts the connections to each peer that other peers ever made.
func (t *Target) connections() map[string]int64 {
	made := map[string]int64{}
	for name, p := range t.Proxies {
		made[name] = p.Peer.Accepted()
	}
	return made
}

// waitReconnected waits until others have come to each peer once more than
// before.
func (t *Target) waitReconnected(ctx context.Context, before map[string]int64) error {
	return supervisor.Poll(ctx, func(context.Context) error {
		for name, n := range t.connections() {
			if n == before[name] {
				return fmt.Errorf("%w: %s has the connections of before, though all have new certificates", ErrViolation, name)
			}
		}
		return nil
	})
}

// waitReadAgain waits until a peer logs, behind a place in its log, that it has
// taken in these files.
func waitReadAgain(ctx context.Context, p *supervisor.Peer, from int64, step secretFiles) error {
	return supervisor.Poll(ctx, func(context.Context) error {
		log, err := os.ReadFile(p.LogPath())
		if err != nil {
			return err
		}
		for name := range step {
			if text := readAgain[name]; text != "" && !bytes.Contains(log[min(from, int64(len(log))):], []byte(text)) {
				return fmt.Errorf("%w: %s has new files and has not logged %q", ErrViolation, p.Name(), text)
			}
		}
		return nil
	})
}

// proveRenewed looks at every peer: what it shows, and whom it refuses.
func (t *Target) proveRenewed(old, fresh secretFiles) (string, error) {
	for _, p := range t.Cluster.Peers {
		if err := t.accepts(p, fresh, fresh); err != nil {
			return "", fmt.Errorf("%w: %s, with the new certificate: %w", ErrViolation, p.Name(), err)
		}
		if err := t.accepts(p, old, fresh); err == nil {
			return "", fmt.Errorf("%w: %s lets in who has the old certificate", ErrViolation, p.Name())
		}
	}
	return "all have new connections, show the new certificate and refuse the old", nil
}

// accepts returns nil if a peer lets in whom shows this certificate, and itself
// shows the one of the other files.
func (t *Target) accepts(p *supervisor.Peer, client, server secretFiles) error {
	mine, err := tls.X509KeyPair(client[secrets.CertificateFile], client[secrets.KeyFile])
	if err != nil {
		return err
	}
	its, err := tls.X509KeyPair(server[secrets.CertificateFile], server[secrets.KeyFile])
	if err != nil {
		return err
	}
	var conn net.Conn
	err = onHost(t.Hosts[p.Name()], func() (err error) {
		conn, err = net.DialTimeout("tcp4", p.PeerAddress(), dialTimeout)
		return err
	})
	if err != nil {
		return err
	}
	defer conn.Close()
	const decides = time.Second // a refusal comes after the handshake; else the peer waits for a Hello
	if err := conn.SetDeadline(time.Now().Add(dialTimeout)); err != nil {
		return err
	}
	secure := tls.Client(conn, &tls.Config{
		Certificates: []tls.Certificate{mine}, MinVersion: tls.VersionTLS13,
		InsecureSkipVerify: true, // compared below
	})
	if err := secure.Handshake(); err != nil {
		return err
	}
	if shown := secure.ConnectionState().PeerCertificates; !bytes.Equal(shown[0].Raw, its.Certificate[0]) {
		return errors.New("it shows another certificate than is on its disk")
	}
	if err := conn.SetDeadline(time.Now().Add(decides)); err != nil {
		return err
	}
	if _, err := secure.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("after the handshake: %w", err)
	}
	return nil
}
