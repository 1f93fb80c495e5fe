package peer_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/lookupd/lookupd/peer"
	"github.com/lookupd/lookupd/peer/peerpb"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/secrets"
	"github.com/lookupd/lookupd/secrets/secretstest"
)

const (
	nodeA = "a-00000001"
	nodeB = "b-00000002"
)

// renewal is how often a peer of a test looks at its certificates, and how old
// connections get.
type renewal struct{ every, age, retire time.Duration }

// openSecure starts a peer with certificates.
func (a *addresses) openSecure(t *testing.T, node registry.NodeID, h peer.Handler, files secrets.Files, r renewal, log io.Writer) *peer.Network {
	t.Helper()
	if log == nil {
		log = io.Discard
	}
	n := peer.New(peer.Config{
		Node: node, Epoch: 1, ClusterID: func() string { return cluster }, Address: "127.0.0.1:0",
		Resolve: a.resolve, Handler: h, Logger: slog.New(slog.NewTextHandler(log, nil)), Certificates: files,
	})
	n.SetTimings(soon/4, time.Nanosecond, 0)
	n.SetRenewal(r.every, r.age, r.retire)
	if err := n.Open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("close of %s: %v", node, err)
		}
	})
	a.set(node, n.Addr())
	return n
}

var (
	steady = renewal{every: time.Hour, age: time.Hour, retire: time.Hour}
	eager  = renewal{every: 5 * time.Millisecond, age: time.Hour, retire: time.Hour}
)

// TestCertificateMatrix shows a peer each kind of certificate, in both
// directions, and says everything right otherwise: only a peer of the same
// cluster gets through.
func TestCertificateMatrix(t *testing.T) {
	authority, other, former := secretstest.NewAuthority(t), secretstest.NewAuthority(t), secretstest.NewAuthority(t)
	in := func(cluster, role, node string) func(*x509.Certificate) {
		return secretstest.For(secrets.Name{Cluster: cluster, Role: role, Node: node})
	}
	show := func(p secretstest.Pair) *tls.Config { return &tls.Config{Certificates: []tls.Certificate{p.TLS(t)}} }
	unproven := authority.Issue(t).TLS(t)
	unproven.PrivateKey = authority.Issue(t).TLS(t).PrivateKey
	older := show(authority.Issue(t))
	older.MaxVersion = tls.VersionTLS12

	// The matrix' peer trusted another authority before, and dropped it.
	files := secretstest.Write(t, t.TempDir(), authority.Issue(t), secretstest.PEM(former, authority))
	var log lockedBuffer
	known := newAddresses()
	called := atomic.Int64{}
	h := &handler{forward: func(context.Context, *peerpb.ForwardRequest) *peerpb.ForwardResponse {
		called.Add(1)
		return &peerpb.ForwardResponse{}
	}}
	n := known.openSecure(t, nodeA, h, files, eager, &log)
	if welcome, _ := greetSecure(t, n.Addr(), show(former.Issue(t)), peerpb.Kind_KIND_RAFT); welcome.GetNodeId() != nodeA {
		t.Fatal("the former authority's certificate was no good before")
	}
	secretstest.Replace(t, files.Authorities, secretstest.PEM(authority))
	eventually(t, func() error {
		if open := n.Connections(); len(open) > 0 {
			return errors.New("who has shown a former authority's certificate is still connected")
		}
		return nil
	})

	for name, c := range map[string]struct {
		config    *tls.Config // nil for none, and no TLS
		in, out   bool        // gets through when it dials, when it is dialled
		afterward bool        // refused in our handshake, after TLS's
	}{
		"a peer's":                       {config: show(authority.Issue(t)), in: true, out: true},
		"that peer's":                    {config: show(authority.Issue(t, in("test", "peer", "b"))), in: true, out: true},
		"R2 none":                        {config: &tls.Config{}},
		"R2 no TLS":                      {},
		"R2 TLS 1.2":                     {config: older},
		"R2 another authority's":         {config: show(other.Issue(t))},
		"R2 a former authority's":        {config: show(former.Issue(t))},
		"R2 self-signed":                 {config: show(secretstest.SelfSigned(t))},
		"R2 expired":                     {config: show(authority.Issue(t, secretstest.Valid(-2*time.Hour, -time.Minute)))},
		"R2 not yet valid":               {config: show(authority.Issue(t, secretstest.Valid(time.Minute, time.Hour)))},
		"R2 another role":                {config: show(authority.Issue(t, in("test", "client", "")))},
		"R2 another cluster's":           {config: show(authority.Issue(t, in("other", "peer", "")))},
		"R2 another peer's":              {config: show(authority.Issue(t, in("test", "peer", "c"))), afterward: true},
		"R2 no name":                     {config: show(authority.Issue(t, secretstest.For()))},
		"R2 names of two clusters":       {config: show(authority.Issue(t, secretstest.URIs(t, "lookupd://test/peer", "lookupd://other/peer")))},
		"R2 for servers, shown by both":  {config: show(authority.Issue(t, secretstest.Usage(x509.ExtKeyUsageServerAuth))), out: true},
		"R2 for clients, shown by both":  {config: show(authority.Issue(t, secretstest.Usage(x509.ExtKeyUsageClientAuth))), in: true},
		"R2 for neither":                 {config: show(authority.Issue(t, secretstest.Usage(x509.ExtKeyUsageCodeSigning)))},
		"R2 without its key":             {config: &tls.Config{Certificates: []tls.Certificate{unproven}}},
		"R2 an authority's, not a peers": {config: show(other.Issue(t, func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }))},
	} {
		for _, kind := range []peerpb.Kind{peerpb.Kind_KIND_CALLS, peerpb.Kind_KIND_RAFT} {
			t.Run(fmt.Sprint(name, ", dials for ", kind), func(t *testing.T) {
				before := n.Refused()
				welcome, conn := greetSecure(t, n.Addr(), c.config, kind)
				if c.in {
					if welcome.GetNodeId() != nodeA || welcome.GetRefusal() != peerpb.Refusal_REFUSAL_NONE {
						t.Fatalf("got %v\n%s", welcome, log.String())
					}
					if err := conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
						t.Fatal(err)
					}
					eventually(t, func() error { return countIs(len(n.Connections()), 0) })
					return
				}
				if c.afterward && welcome.GetRefusal() != peerpb.Refusal_REFUSAL_WRONG_PEER || !c.afterward && welcome != nil {
					t.Errorf("got %v", welcome)
				}
				ends(t, conn)
				if open := n.Connections(); len(open) > 0 {
					t.Error("it is connected")
				}
				eventually(t, func() error { return countIs(int(n.Refused()-before), 1) })
			})
		}
		t.Run(name+", is dialled", func(t *testing.T) {
			known.set(nodeB, answerSecure(t, c.config))
			before := called.Load()
			resp, err := n.Status(within(t, soon), nodeB, &peerpb.StatusRequest{})
			if c.out {
				if err == nil || errors.Is(err, peer.ErrUnreachable) { // it takes the call and answers nothing
					t.Fatalf("got %v, %v", resp, err)
				}
				return
			}
			if !errors.Is(err, peer.ErrUnreachable) || called.Load() != before {
				t.Fatalf("got %v, %v", resp, err)
			}
			n.CloseConnections(nodeB)
		})
	}
	if called.Load() != 0 {
		t.Error("a call came through")
	}
}

func countIs(got, want int) error {
	if got != want {
		return fmt.Errorf("%d, want %d", got, want)
	}
	return nil
}

// greetSecure dials as peer b. The Welcome is nil if there is none.
func greetSecure(t *testing.T, addr string, config *tls.Config, kind peerpb.Kind, changes ...func(*peerpb.Hello)) (*peerpb.Welcome, net.Conn) {
	t.Helper()
	conn := dialRaw(t, addr)
	if config != nil {
		config = config.Clone()
		config.InsecureSkipVerify = true
		conn = tls.Client(conn, config)
	}
	// Errors show as a missing Welcome: who dials learns of a refusal late.
	_ = peer.WriteHello(conn, hello(func(h *peerpb.Hello) {
		h.Kind = kind
		for _, change := range changes {
			change(h)
		}
	}))
	welcome, err := peer.ReadWelcome(conn)
	if err != nil {
		return nil, conn
	}
	return welcome, conn
}

// answerSecure is peer b for those who dial it, until the test ends. It ends a
// connection after it has read a byte of a call.
func answerSecure(t *testing.T, config *tls.Config) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { _ = l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_ = conn.SetDeadline(time.Now().Add(soon))
			if config != nil {
				config := config.Clone()
				config.ClientAuth = tls.RequireAnyClientCert
				conn = tls.Server(conn, config)
			}
			if _, err := peer.ReadHello(conn); err == nil {
				_ = peer.WriteWelcome(conn, &peerpb.Welcome{Protocol: 1, ClusterId: cluster, NodeId: nodeB, Epoch: 1, RunId: runID('b')})
				_, _ = conn.Read(make([]byte, 1))
			}
			_ = conn.Close()
		}
	}()
	return l.Addr().String()
}

// respond answers raft's requests on n until the test ends.
func respond(t *testing.T, n *peer.Network) {
	ctx, done := t.Context(), make(chan struct{})
	t.Cleanup(func() { <-done })
	go func() {
		defer close(done)
		for {
			select {
			case rpc := <-n.Transport().Consumer():
				if rpc.Reader != nil {
					_, _ = io.Copy(io.Discard, rpc.Reader)
				}
				rpc.Respond(&raft.AppendEntriesResponse{Success: true}, nil)
			case <-ctx.Done():
				return
			}
		}
	}()
}

func TestSecureCallsAndRaft(t *testing.T) {
	authority := secretstest.NewAuthority(t)
	files := secretstest.Write(t, t.TempDir(), authority.Issue(t), secretstest.PEM(authority))
	known := newAddresses()
	a := known.openSecure(t, nodeA, &handler{}, files, steady, nil)
	b := known.openSecure(t, nodeB, &handler{}, files, steady, nil)
	respond(t, b)
	large := strings.Repeat("x", peer.MaxMessage/2)
	if got, err := forward(within(t, soon), a, nodeB, large); err != nil || got != large {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	entries := []*raft.Log{{Index: 1, Term: 1, Data: []byte(large)}}
	var resp raft.AppendEntriesResponse
	if err := a.Transport().AppendEntries(nodeB, nodeB, &raft.AppendEntriesRequest{Term: 1, Entries: entries}, &resp); err != nil || !resp.Success {
		t.Fatalf("%v, %v", resp, err)
	}
	for _, c := range a.Connections() {
		if state := c.(interface{ ConnectionState() tls.ConnectionState }).ConnectionState(); state.Version != tls.VersionTLS13 || state.DidResume {
			t.Errorf("version %x, resumed %v", state.Version, state.DidResume)
		}
	}
	if ends, ok := a.CertificateEnds(); !ok || time.Until(ends) > time.Hour {
		t.Errorf("ends %v, %v", ends, ok)
	}
}

func TestSilenceAndBytesWithoutTLS(t *testing.T) {
	authority := secretstest.NewAuthority(t)
	files := secretstest.Write(t, t.TempDir(), authority.Issue(t), secretstest.PEM(authority))
	var log lockedBuffer
	n := newAddresses().openSecure(t, nodeA, &handler{}, files, steady, &log)
	for name, sent := range map[string]string{
		"R1 HTTP":                     "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"R1 V1":                       "  V1PING\n",
		"R1 garbage":                  strings.Repeat("\xff", 100),
		"R1 a record above its limit": "\x16\x03\x01\xff\xff" + strings.Repeat("x", 70000),
		"R3 silence":                  "",
		"R3 half a TLS hello":         "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := dialRaw(t, n.Addr())
			if _, err := io.WriteString(conn, sent); err != nil && !strings.Contains(err.Error(), "reset") {
				t.Fatal(err)
			}
			ends(t, conn)
		})
	}
	t.Run("R3 a TLS handshake, then silence", func(t *testing.T) {
		t.Parallel()
		conn := tls.Client(dialRaw(t, n.Addr()), &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{authority.Issue(t).TLS(t)}})
		if err := conn.Handshake(); err != nil {
			t.Fatal(err)
		}
		ends(t, conn)
	})
	t.Run("a peer without certificates is told apart", func(t *testing.T) {
		conn := dialRaw(t, n.Addr())
		_ = peer.WriteHello(conn, hello(func(*peerpb.Hello) {}))
		ends(t, conn)
		eventually(t, func() error {
			if !strings.Contains(log.String(), "give it -peer-tls-cert") {
				return errors.New(log.String())
			}
			return nil
		})
	})
}

// rounds counts what succeeds, until it is stopped.
type rounds struct {
	n    atomic.Int64
	stop func()
}

// pass waits until what is under way has ended, and what began after it too.
func (r *rounds) pass(t *testing.T) {
	t.Helper()
	before := r.n.Load()
	eventually(t, func() error {
		if n := r.n.Load(); n < before+2 && !t.Failed() {
			return fmt.Errorf("%d rounds, %d before", n, before)
		}
		return nil
	})
}

// traffic calls b from a, and sends raft's requests, one of each in a round, until
// it is stopped. It fails the test for each that does not succeed.
func traffic(t *testing.T, a *peer.Network) *rounds {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, done := &rounds{}, make(chan struct{})
	r.stop = func() { cancel(); <-done }
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if got, err := forward(t.Context(), a, nodeB, "x"); err != nil || got != "x" {
				t.Errorf("call: %q, %v", got, err)
				return
			}
			var resp raft.AppendEntriesResponse
			if err := a.Transport().AppendEntries(nodeB, nodeB, &raft.AppendEntriesRequest{Term: 1}, &resp); err != nil || !resp.Success {
				t.Errorf("request: %v, %v", resp, err)
				return
			}
			r.n.Add(1)
		}
	}()
	return r
}

// pipelines keeps a pipeline of raft's going, as raft does, until it is stopped.
// A round is an answer; recycled counts the pipelines that were.
func pipelines(t *testing.T, a *peer.Network) (r *rounds, recycled *int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	r, recycled = &rounds{stop: func() { cancel(); <-done }}, new(int)
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			p, err := a.Transport().AppendEntriesPipeline(nodeB, nodeB)
			if err != nil {
				t.Errorf("pipeline: %v", err)
				return
			}
			for err == nil && ctx.Err() == nil {
				if _, err = p.AppendEntries(&raft.AppendEntriesRequest{Term: 1}, &raft.AppendEntriesResponse{}); err == nil {
					<-p.Consumer()
					r.n.Add(1)
				}
			}
			_ = p.Close()
			switch {
			case errors.Is(err, peer.ErrRecycled):
				*recycled++
			case err != nil:
				t.Errorf("pipeline: %v", err)
				return
			}
		}
	}()
	return r, recycled
}

// TestRotation replaces authority, certificates and authority again on two peers
// that talk all the time. Nothing fails, and in the end no connection is left
// that rests on what is gone.
func TestRotation(t *testing.T) {
	from, to := secretstest.NewAuthority(t), secretstest.NewAuthority(t)
	known := newAddresses()
	var files [2]secrets.Files
	for i := range files {
		files[i] = secretstest.Write(t, t.TempDir(), from.Issue(t), secretstest.PEM(from))
	}
	var logs [2]lockedBuffer
	a := known.openSecure(t, nodeA, &handler{}, files[0], eager, &logs[0])
	b := known.openSecure(t, nodeB, &handler{}, files[1], eager, &logs[1])
	respond(t, b)
	calls := traffic(t, a)
	sent, recycled := pipelines(t, a)
	// Between two steps what is under way ends: a handshake may have begun with the
	// certificate that the next step makes worthless.
	pass := func() { t.Helper(); calls.pass(t); sent.pass(t) }
	pass()
	readAgain := func(times int) {
		t.Helper()
		defer pass()
		for i := range logs {
			eventually(t, func() error {
				return countIs(strings.Count(logs[i].String(), "certificates were read again"), times)
			})
		}
	}
	for i := range files {
		secretstest.Replace(t, files[i].Authorities, secretstest.PEM(from, to))
	}
	readAgain(1)
	for i := range files {
		pair := to.Issue(t)
		secretstest.Replace(t, files[i].Certificate, pair.Certificate)
		secretstest.Replace(t, files[i].Key, pair.Key)
	}
	readAgain(2)
	eventually(t, func() error { return shownBy(b, to) }) // a shows its new one alone
	for i := range files {
		secretstest.Replace(t, files[i].Authorities, secretstest.PEM(to))
	}
	readAgain(3)
	eventually(t, func() error { return errors.Join(shownBy(a, to), shownBy(b, to)) })
	calls.stop()
	sent.stop()
	if *recycled < 2 {
		t.Errorf("%d pipelines recycled", *recycled)
	}
}

// shownBy says which open connection rests on another authority's certificate.
func shownBy(n *peer.Network, authority *secretstest.Authority) error {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(secretstest.PEM(authority))
	for _, c := range n.Connections() {
		shown := c.(interface{ ConnectionState() tls.ConnectionState }).ConnectionState().PeerCertificates
		if _, err := shown[0].Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
			return err
		}
	}
	return nil
}

// TestAge: no connection lives longer than its certificates may be trusted, and
// nothing fails because of it.
func TestAge(t *testing.T) {
	const age = 300 * time.Millisecond
	authority := secretstest.NewAuthority(t)
	files := secretstest.Write(t, t.TempDir(), authority.Issue(t), secretstest.PEM(authority))
	known := newAddresses()
	young := renewal{every: 5 * time.Millisecond, age: age, retire: time.Hour}
	a := known.openSecure(t, nodeA, &handler{}, files, young, nil)
	old := renewal{every: 5 * time.Millisecond, age: 100 * age, retire: time.Hour}
	b := known.openSecure(t, nodeB, &handler{}, files, old, nil)
	respond(t, b)
	calls := traffic(t, a)
	sent, _ := pipelines(t, a)
	seen := map[string]bool{}
	eventually(t, func() error {
		for _, c := range a.Connections() {
			seen[c.LocalAddr().String()] = true
		}
		if len(seen) < 9 {
			return fmt.Errorf("%d connections so far", len(seen))
		}
		return nil
	})
	calls.pass(t)
	calls.stop()
	sent.stop()

	// A peer that does not replace its connections loses them.
	c := known.openSecure(t, "c-00000003", &handler{}, files, young, nil)
	welcome, conn := greetSecure(t, c.Addr(), &tls.Config{Certificates: []tls.Certificate{authority.Issue(t).TLS(t)}}, peerpb.Kind_KIND_CALLS,
		func(h *peerpb.Hello) { h.To = "c-00000003" })
	if welcome == nil || welcome.GetRefusal() != peerpb.Refusal_REFUSAL_NONE {
		t.Fatalf("got %v", welcome)
	}
	ends(t, conn)
}

// TestCallsOutliveRetirement: a call that is under way when its connection is
// replaced is answered.
func TestCallsOutliveRetirement(t *testing.T) {
	authority := secretstest.NewAuthority(t)
	files := secretstest.Write(t, t.TempDir(), authority.Issue(t), secretstest.PEM(authority))
	known := newAddresses()
	entered, release := make(chan struct{}), make(chan struct{})
	slow := &handler{forward: func(_ context.Context, r *peerpb.ForwardRequest) *peerpb.ForwardResponse {
		if string(r.GetBatch()) == "slow" {
			close(entered)
			<-release
		}
		return &peerpb.ForwardResponse{Results: r.GetBatch()}
	}}
	var log lockedBuffer
	a := known.openSecure(t, nodeA, &handler{}, files, eager, &log)
	known.openSecure(t, nodeB, slow, secretstest.Write(t, t.TempDir(), authority.Issue(t), secretstest.PEM(authority)), eager, nil)
	answer := make(chan error)
	go func() {
		got, err := forward(t.Context(), a, nodeB, "slow")
		if err == nil && got != "slow" {
			err = fmt.Errorf("got %q", got)
		}
		answer <- err
	}()
	<-entered
	pair := authority.Issue(t)
	secretstest.Replace(t, files.Certificate, pair.Certificate)
	secretstest.Replace(t, files.Key, pair.Key)
	eventually(t, func() error { return countIs(strings.Count(log.String(), "certificates were read again"), 1) })
	eventually(t, func() error { // a second connection carries what is new
		if _, err := forward(t.Context(), a, nodeB, "x"); err != nil {
			return err
		}
		return countIs(len(a.Connections()), 2)
	})
	close(release)
	if err := <-answer; err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error { return countIs(len(a.Connections()), 1) })
}

// TestBadCertificatesAreNotTakenIn: what was read before stays in use, and the
// log says what is wrong.
func TestBadCertificatesAreNotTakenIn(t *testing.T) {
	authority := secretstest.NewAuthority(t)
	good := authority.Issue(t)
	for name, c := range map[string]struct {
		spoil func(*testing.T, secrets.Files)
		want  string
	}{
		"C9 reload of another key": {func(t *testing.T, f secrets.Files) {
			secretstest.Replace(t, f.Key, authority.Issue(t).Key)
		}, "private key does not match"},
		"C9 reload of an expired one": {func(t *testing.T, f secrets.Files) {
			pair := authority.Issue(t, secretstest.Valid(-2*time.Hour, -time.Hour))
			secretstest.Replace(t, f.Certificate, pair.Certificate)
			secretstest.Replace(t, f.Key, pair.Key)
		}, "expired"},
		"C9 reload of another authority": {func(t *testing.T, f secrets.Files) {
			secretstest.Replace(t, f.Authorities, secretstest.PEM(secretstest.NewAuthority(t)))
		}, "unknown authority"},
		"C9 reload of nothing": {func(t *testing.T, f secrets.Files) {
			if err := os.Remove(f.Certificate); err != nil {
				t.Fatal(err)
			}
		}, "no such file"},
		"C9 reload of a key that all read": {func(t *testing.T, f secrets.Files) {
			if err := os.Chmod(f.Key, 0o644); err != nil {
				t.Fatal(err)
			}
		}, "chmod 0600"},
	} {
		t.Run(name, func(t *testing.T) {
			known := newAddresses()
			files := secretstest.Write(t, t.TempDir(), good, secretstest.PEM(authority))
			var log lockedBuffer
			a := known.openSecure(t, nodeA, &handler{}, files, eager, &log)
			b := known.openSecure(t, nodeB, &handler{}, secretstest.Write(t, t.TempDir(), good, secretstest.PEM(authority)), steady, nil)
			c.spoil(t, files)
			eventually(t, func() error {
				if !strings.Contains(log.String(), "those from before stay in use") || !strings.Contains(log.String(), c.want) {
					return fmt.Errorf("log: %s", log.String())
				}
				return nil
			})
			for _, from := range []struct {
				n  *peer.Network
				to registry.NodeID
			}{{a, nodeB}, {b, nodeA}} {
				if _, err := forward(within(t, soon), from.n, from.to, "x"); err != nil {
					t.Error(err)
				}
			}
			if ends, ok := a.CertificateEnds(); !ok || time.Now().After(ends) {
				t.Errorf("ends %v", ends)
			}
		})
	}
}

func TestOpenRefusesBadCertificates(t *testing.T) {
	authority := secretstest.NewAuthority(t)
	files := secretstest.Write(t, t.TempDir(), authority.Issue(t), nil)
	n := peer.New(peer.Config{
		Node: nodeA, ClusterID: func() string { return "" }, Address: "127.0.0.1:0", Resolve: newAddresses().resolve,
		Handler: &handler{}, Logger: slog.New(slog.DiscardHandler), Certificates: files,
	})
	if err := n.Open(); err == nil || !strings.Contains(err.Error(), files.Authorities) || n.Addr() != "" {
		t.Fatalf("got %v at %q", err, n.Addr())
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
}
