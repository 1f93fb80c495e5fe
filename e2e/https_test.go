package e2e_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nsqio/go-nsq"

	"github.com/lookupd/lookupd/secrets/secretstest"
	"github.com/lookupd/lookupd/supervisor"
)

// securePeer starts a peer that is alone and speaks HTTPS; ca is the file with its
// authority.
func (w *world) securePeer(t *testing.T, args ...string) (p *supervisor.Peer, ca string) {
	t.Helper()
	authority := secretstest.NewAuthority(t)
	files := secretstest.WriteServer(t, w.dir, authority.Issue(t, secretstest.Host("localhost"), secretstest.Valid(-time.Hour, 90*24*time.Hour)))
	ca = filepath.Join(w.dir, "http-ca.pem")
	secretstest.Replace(t, ca, secretstest.PEM(authority))
	p = w.NewPeer(supervisor.PeerConfig{
		Name: "a", Path: binaries.lookupd, Dir: w.dir, Ports: ports(t, 1)[0],
		Args: append(args, "-http-tls-cert="+files.Certificate, "-http-tls-key="+files.Key),
	})
	must(t, p.Start())
	must(t, p.WaitReady(within(t, patience)))
	return p, ca
}

// TestNSQOverHTTPS: nsqd and nsqadmin are told only host:port, learn there that the
// port speaks TLS, and come back by it.
func TestNSQOverHTTPS(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p, ca := w.securePeer(t)
	address := "https://" + p.HTTPAddress()
	for _, args := range []string{"topic create orders", "channel create orders billing"} {
		if printed, code := lookupctl(t, nil, append(strings.Fields(args), "--ca-file", ca, "-a", address)...); code != 0 {
			t.Fatal(code, printed)
		}
	}
	free, err := supervisor.FreePorts(2)
	must(t, err)
	d := w.startNSQD(supervisor.NSQDConfig{
		Name: "nsqd", Ports: supervisor.NSQPorts{TCP: free[0], HTTP: free[1]}, Host: supervisor.Loopback,
		Lookupds: []string{p.TCPAddress()}, Env: append(os.Environ(), "SSL_CERT_FILE="+ca),
	})
	must(t, supervisor.Poll(within(t, patience), func(context.Context) error {
		if printed, _ := lookupctl(t, nil, "producers", "--ca-file", ca, "-a", address); !strings.Contains(printed, d.id()) {
			return errors.New(printed)
		}
		return nil
	}))
	d.publish(t, "orders", "hello")
	// The channel was made before the first message: nsqd asked /channels by HTTPS.
	if status, body := do(t, http.MethodGet, d.url("/stats?format=json&topic=orders"), "", ""); status != http.StatusOK || !strings.Contains(body, `"channel_name":"billing"`) {
		t.Errorf("nsqd did not learn of the channel: %d %s", status, body)
	}
	admin := w.startNSQAdmin(supervisor.NSQAdminConfig{
		Lookupds: []string{p.HTTPAddress()}, Args: []string{"-http-client-tls-root-ca-file=" + ca},
	})
	if got := mustAskAdmin(t, http.MethodGet, admin+"/api/topics", nil); len(got.Topics) != 1 || got.Topics[0] != "orders" {
		t.Errorf("nsqadmin shows %v", got.Topics)
	}
	if printed, code := lookupctl(t, nil, "check", "--ca-file", ca, "-a", address); code != 0 {
		t.Errorf("check ends with %d: %s", code, printed)
	}
	if printed, code := lookupctl(t, nil, "topics", "-a", p.HTTPAddress()); code != 1 || !strings.Contains(printed, "-a https://") {
		t.Errorf("without TLS: %d %s", code, printed)
	}
	if printed, code := lookupctl(t, nil, "topics", "-a", address); code != 1 || !strings.Contains(printed, "certificate") {
		t.Errorf("without the authority: %d %s", code, printed)
	}
	if printed, code := lookupctl(t, nil, "check", "--local", "--quiet", "-a", p.HTTPAddress()); code != 0 {
		t.Errorf("a container's health check: %d %s", code, printed)
	}
}

// TestConsumersWithATokenOverHTTPS: go-nsq sends its secret with lookups; who has
// none finds nothing, but nsqd's channels are told.
func TestConsumersWithATokenOverHTTPS(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const token = "token-of-the-consumers"
	file := filepath.Join(t.TempDir(), "lookup-tokens")
	must(t, os.WriteFile(file, []byte(token+"\n"), 0o600))
	p, ca := w.securePeer(t, "-lookup-token-file="+file, "-admin-cidr=192.0.2.0/24") // loopback is no admin
	text, err := os.ReadFile(ca)
	must(t, err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	t.Cleanup(client.CloseIdleConnections)

	d := w.nsqd("nsqd", p.TCPAddress())
	d.publish(t, "orders", "hello")
	config := nsq.NewConfig()
	config.AuthSecret = token
	receive(t, consumeBy(t, "orders", "with", config, client, "https://"+p.HTTPAddress()), "hello")

	for path, want := range map[string]int{"/lookup?topic=orders": 401, "/topics": 401, "/channels?topic=orders": 200, "/ping": 200} {
		response, err := client.Get("https://" + p.HTTPAddress() + path)
		must(t, err)
		_ = response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("%s without a token: %d, want %d", path, response.StatusCode, want)
		}
	}
	if printed, code := lookupctl(t, nil, "topics", "--ca-file", ca, "-a", "https://"+p.HTTPAddress()); code != 1 || !strings.Contains(printed, "--token-file") {
		t.Errorf("%d %s", code, printed)
	}
	if printed, code := lookupctl(t, nil, "topics", "-o", "name", "--ca-file", ca, "--token-file", file, "-a", "https://"+p.HTTPAddress()); code != 0 || printed != "orders\n" {
		t.Errorf("%d %s", code, printed)
	}
}
