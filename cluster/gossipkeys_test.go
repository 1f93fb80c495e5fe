package cluster_test

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/secrets/secretstest"
)

// sealed is a gossip packet as memberlist encrypts it: version, nonce, AES-GCM
// over the message and, as what goes with it, the label.
func sealed(t *testing.T, key, label string, message []byte) []byte {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(key))
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(raw)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	nonce := make([]byte, gcm.NonceSize())
	_, _ = rand.Read(nonce) // never fails
	return gcm.Seal(append([]byte{1}, nonce...), nonce, message, []byte(label))
}

// labelled puts a label before a packet.
func labelled(label string, packet []byte) []byte {
	const hasLabel = 244
	return append(append([]byte{hasLabel, byte(len(label))}, label...), packet...)
}

// TestGossipNeedsTheKey: who does not have it is not seen, whatever is sent.
func TestGossipNeedsTheKey(t *testing.T) {
	const expect = 9
	key, other := secretstest.GossipKey(), secretstest.GossipKey()
	var log lockedBuffer
	p := startPeer(t, "a", func(c *cluster.Config) {
		c.BootstrapExpect, c.GossipKeyFile = expect, secretstest.WriteGossipKeys(t, t.TempDir(), key)
		c.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	stranger := func(name string) []byte {
		id := name + "-00000001"
		return alive(id+".1", meta(id, expect), 9, version)
	}
	good := sealed(t, key, "", stranger("good"))
	for name, packets := range map[string][][]byte{
		"G1 plain, with a key set":       {stranger("plain"), compressed(stranger("plain"))},
		"G2 another key":                 {sealed(t, other, "", stranger("foreign"))},
		"G2 another label":               {labelled("x", sealed(t, key, "x", stranger("labelled"))), labelled("x", stranger("labelled"))},
		"G2 a label that is not sealed":  {labelled("x", sealed(t, key, "", stranger("labelled")))},
		"G2 altered":                     {append(good[:len(good)-1:len(good)-1], good[len(good)-1]^1)},
		"G2 cut":                         {good[:20], good[:1], good[:len(good)-1]},
		"G2 the right one, sent 3 times": {good, good, good}, // seen by all rows: it is behind each
	} {
		t.Run(name, func(t *testing.T) {
			eventually(t, time.Minute, "the one with the key is seen, after the others", func() error {
				sendUDP(t, p, append(packets, good)...)
				if s := p.status(); !strings.Contains(s.Sentence, "have 2 of 9 peers: a, good") {
					return errors.New(s.Sentence)
				}
				return nil
			})
		})
	}
	t.Run("G1 plain over TCP", func(t *testing.T) {
		node := packMap("Name", "plain-00000001.1", "Addr", []byte{127, 0, 0, 1}, "Port", 9, "Meta", []byte(meta("plain-00000001", expect)),
			"Incarnation", 1, "State", 0, "Vsn", version)
		sendTCP(t, p, append(pack(pushPullMsg, "Nodes", 1, "UserStateLen", 0, "Join", true), node...))
		if s := p.status(); !strings.Contains(s.Sentence, "have 2 of 9 peers: a, good") {
			t.Error(s.Sentence)
		}
	})
	eventually(t, time.Minute, "a refusal is in the log", func() error {
		sendUDP(t, p, sealed(t, other, "", stranger("foreign"))) // again: the log leaves lines out when there are many
		if !strings.Contains(log.String(), "Decrypt packet failed") {
			return errors.New(log.String())
		}
		return nil
	})
	if strings.Contains(log.String(), strings.TrimSpace(key)) {
		t.Errorf("the key is in the log: %.2000s", log.String())
	}
}

// TestGossipKeyRotation replaces the key of three peers while they run.
func TestGossipKeyRotation(t *testing.T) {
	before, after := secretstest.GossipKey(), secretstest.GossipKey()
	var logs []*lockedBuffer
	var dirs []string
	peers := startCluster(t, 3, func(c *cluster.Config) {
		dirs, logs = append(dirs, t.TempDir()), append(logs, new(lockedBuffer))
		c.GossipKeyFile = secretstest.WriteGossipKeys(t, dirs[len(dirs)-1], before)
		c.Logger = slog.New(slog.NewTextHandler(logs[len(logs)-1], nil))
	})
	for step, keys := range [][]string{{before, after}, {after, before}, {after}} {
		for i, dir := range dirs {
			secretstest.WriteGossipKeys(t, dir, keys...)
			eventually(t, time.Minute, "keys are read again", func() error {
				if n := strings.Count(logs[i].String(), "gossip keys were read again"); n != step+1 {
					return fmt.Errorf("%d times", n)
				}
				return nil
			})
		}
	}
	// A file that others can read is not taken in, and the key stays.
	if err := os.Chmod(peers[0].cfg.GossipKeyFile, 0o604); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "a bad file is told", func() error {
		if text := logs[0].String(); !strings.Contains(text, "those from before stay in use") || !strings.Contains(text, "mode 0604") {
			return errors.New(text)
		}
		return nil
	})
	// One more peer finds the others with the new key, and with the old one not.
	late := func(name, key string) *testPeer {
		return startPeer(t, name, func(c *cluster.Config) {
			c.Join, c.GossipKeyFile = []string{peers[0].GossipAddr()}, secretstest.WriteGossipKeys(t, t.TempDir(), key)
		})
	}
	outside := late("outside", before)
	late("inside", after).waitReady()
	if s := outside.status(); outside.ClusterID() != "" || !strings.Contains(s.Sentence, "Starting") {
		t.Errorf("with the old key: %s", s.Sentence)
	}
	for i, log := range logs {
		if text := log.String(); strings.Contains(text, "no longer seen") {
			t.Errorf("p%d lost a peer: %s", i+1, text)
		}
	}
}

// TestSecureCluster: everything between three peers, with certificates.
func TestSecureCluster(t *testing.T) {
	authority := secretstest.NewAuthority(t)
	peers := startCluster(t, 3, func(c *cluster.Config) {
		c.Certificates = secretstest.Write(t, t.TempDir(), authority.Issue(t), secretstest.PEM(authority))
	})
	stranger := startPeer(t, "stranger", func(c *cluster.Config) { c.Join = []string{peers[0].GossipAddr()} })
	foreign := secretstest.NewAuthority(t)
	foreigner := startPeer(t, "foreigner", func(c *cluster.Config) {
		c.Join = []string{peers[0].GossipAddr()}
		c.Certificates = secretstest.Write(t, t.TempDir(), foreign.Issue(t), secretstest.PEM(foreign))
	})
	late := startPeer(t, "late", func(c *cluster.Config) {
		c.Join = []string{peers[0].GossipAddr()}
		c.Certificates = secretstest.Write(t, t.TempDir(), authority.Issue(t), secretstest.PEM(authority))
	})
	late.waitReady()
	for _, p := range []*testPeer{stranger, foreigner} {
		if p.ClusterID() != "" {
			t.Errorf("%s is in the cluster", p.cfg.Name)
		}
	}
	for _, s := range late.status().Peers {
		if s.Health == cluster.HealthOK && (s.Name == stranger.cfg.Name || s.Name == foreigner.cfg.Name) {
			t.Errorf("%s answers calls", s.Name)
		}
	}
}
