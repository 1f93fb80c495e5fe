package httpapi_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/httpapi"
	"github.com/lookupd/lookupd/registry"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares a document with its file in testdata/golden. What differs
// from run to run is replaced first: old, new, old, new.
func golden(t *testing.T, name, body string, replace ...string) {
	t.Helper()
	var indented bytes.Buffer
	if err := json.Indent(&indented, []byte(strings.NewReplacer(replace...).Replace(body)), "", "  "); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	indented.WriteByte('\n')
	path := filepath.Join("testdata", "golden", name+".json")
	if *update {
		if err := os.WriteFile(path, indented.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(indented.Bytes(), want) {
		t.Errorf("%s differs; go test -update writes it anew:\n%s\nwant:\n%s", path, indented.Bytes(), want)
	}
}

// threePeers is a status in which a is down and c lags.
func threePeers(address string) *cluster.Status {
	return &cluster.Status{
		Sentence: "Degraded. 2 of 3 peers up (down: a); cannot lose another.", State: cluster.StateDegraded, SeenBy: "c", ClusterID: "0123", Version: "0.1.0",
		Leader: "b", Term: 3, Index: 57, StateHash: "00000000000000aa", Counts: registry.Counts{Topics: 2, Channels: 3, Producers: 1, Sessions: 1, Registrations: 4},
		Peers: []cluster.PeerStatus{
			{
				Name: "a", ID: "a-00000001", Role: cluster.RoleVoter, Health: cluster.HealthDown, Address: "10.0.0.1:4162", LastContactMS: 12_000,
				Orphans: 14, OrphansEndMS: 288_000, Error: "does not answer on its peer port",
			},
			{
				Name: "b", ID: "b-00000002", Role: cluster.RoleLeader, Health: cluster.HealthOK, Address: "10.0.0.2:4162", HTTPAddress: address,
				Version: "0.1.0", Sessions: 1, FreeDisk: 9 << 30, Security: &cluster.Security{Exposed: true, PeerTLS: true, CertificateEnds: 4_000_000_000},
			},
			{
				Name: "c", ID: "c-00000003", Role: cluster.RoleVoter, Health: cluster.HealthOK, Address: "10.0.0.3:4162", HTTPAddress: address,
				Version: "0.2.0", Lag: 900, FreeDisk: 100 << 20, Security: &cluster.Security{PeerTLS: true, GossipKey: true, CertificateEnds: 1_000_000_000},
			},
		},
	}
}

// nobodyAt returns an address at which nothing listens.
func nobodyAt(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestDocuments(t *testing.T) {
	n := newFakeCluster(t, "a").peers[0]
	p := serve(t, n)
	n.status = threePeers(p.addr)
	n.status.Peers[1].HTTPAddress = nobodyAt(t)
	for _, test := range []struct{ name, request string }{
		{"status", "GET /v1/status"},
		{"check", "GET /v1/check"},
		{"autopilot", "GET /v1/autopilot"},
		{"remove", "DELETE /v1/peers/b"},
		{"remove_dry", "DELETE /v1/peers/b?dry_run"},
		{"transfer", "POST /v1/leader/transfer?to=c"},
		{"transfer_dry", "POST /v1/leader/transfer?to=c&dry_run"},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := p.do(test.request)
			if a.status != 200 || a.header.Get("Content-Type") != jsonType {
				t.Fatalf("%d %v %s", a.status, a.header, a.body)
			}
			golden(t, test.name, a.body, p.addr, "10.0.0.3:4161", n.status.Peers[1].HTTPAddress, "10.0.0.2:4161")
		})
	}
}

func TestOperationsAreForAdmins(t *testing.T) {
	far := serveFar(t)
	for _, request := range []string{"DELETE /v1/peers/b", "DELETE /v1/peers/b?dry_run", "POST /v1/leader/transfer", "POST /v1/leader/transfer?dry_run"} {
		if a := far.do(request); a.status != 403 || !contains(a.body, `"code":"FORBIDDEN"`) || !contains(a.body, "-admin-token-file") {
			t.Errorf("%s: %d %s", request, a.status, a.body)
		}
	}
	p := serveOne(t)
	for _, test := range []struct {
		request, code, allow string
		status               int
	}{
		{"GET /v1/peers/b", "METHOD_NOT_ALLOWED", "DELETE", 405},
		{"GET /v1/leader/transfer", "METHOD_NOT_ALLOWED", "POST", 405},
		{"POST /v1/autopilot", "METHOD_NOT_ALLOWED", "GET, HEAD", 405},
		{"DELETE /v1/peers/needed", "WOULD_LOSE_QUORUM", "", 409},
		{"DELETE /v1/peers/b?dry_run=%zz", "INVALID_REQUEST", "", 400},
		{"DELETE /v1/peers/needed?force=false", "WOULD_LOSE_QUORUM", "", 409},
		{"DELETE /v1/peers/needed?force=no", "INVALID_REQUEST", "", 400},
		{"DELETE /v1/peers/b?dry_run=maybe", "INVALID_REQUEST", "", 400},
		{"POST /v1/leader/transfer?dry_run=maybe", "INVALID_REQUEST", "", 400},
	} {
		a := p.do(test.request)
		if a.status != test.status || !contains(a.body, `"code":"`+test.code+`"`) || a.header.Get("Allow") != test.allow {
			t.Errorf("%s: %d %s %v", test.request, a.status, a.body, a.header)
		}
	}
	if a := p.do("DELETE /v1/peers/needed"); !contains(a.body, "of which 1 up: no quorum") {
		t.Errorf("the refusal does not say what would be: %s", a.body)
	}
	if a := p.do("DELETE /v1/peers/needed?force"); a.status != 200 || a.header.Get("X-Lookupd-Index") != "17" {
		t.Errorf("forced: %d %s %v", a.status, a.body, a.header)
	}
}

func TestOperationsRefusedByTheCluster(t *testing.T) {
	for err, code := range map[error]string{
		cluster.ErrUnknownPeer:   "404 PEER_NOT_FOUND",
		cluster.ErrAmbiguousName: "409 AMBIGUOUS_NAME",
		cluster.ErrLastVoter:     "409 LAST_VOTER",
		cluster.ErrNotVoter:      "409 NOT_A_VOTER",
		cluster.ErrPeerDown:      "409 PEER_DOWN",
		cluster.ErrNoSuccessor:   "409 NO_SUCCESSOR",
		cluster.ErrOldLeader:     "501 OLD_LEADER",
		cluster.ErrNoQuorum:      "503 NO_QUORUM",
	} {
		n := newFakeCluster(t, "a").peers[0]
		n.fail = fmt.Errorf("asked the leader: %w", err)
		p := serve(t, n)
		for _, request := range []string{"DELETE /v1/peers/b", "POST /v1/leader/transfer?to=b", "GET /v1/autopilot"} {
			a := p.do(request)
			var e v1Error
			if err := json.Unmarshal([]byte(a.body), &e); err != nil {
				t.Fatalf("%v in %s", err, a.body)
			}
			if got := fmt.Sprint(a.status, " ", e.Code); got != code || e.Hint == "" || e.Message == "" {
				t.Errorf("%s: %s %+v, want %s", request, got, e, code)
			}
		}
	}
}

func TestCheckFindsWhatIsWrong(t *testing.T) {
	soon := time.Now().Add(20 * 24 * time.Hour).Unix()
	for _, test := range []struct {
		name, rule, what string
		level            httpapi.Level
		change           func(*cluster.Status)
	}{
		{"no quorum", "quorum", "No quorum for 41s.", httpapi.LevelCrit, func(s *cluster.Status) {
			s.State, s.Sentence = cluster.StateNoQuorum, "No quorum for 41s."
		}},
		{"nothing may fail", "quorum", "no other voter may fail", httpapi.LevelWarn, func(s *cluster.Status) { s.Tolerance = 0 }},
		{"two voters", "quorum", "2 voters survive no more failures than 1", httpapi.LevelWarn, func(s *cluster.Status) { s.Peers = s.Peers[:2] }},
		{"missing peer", "peers", "a is down: ", httpapi.LevelWarn, func(s *cluster.Status) { s.Peers[0].Health = cluster.HealthDown }},
		{"no member", "peers", "a is no member", httpapi.LevelWarn, func(s *cluster.Status) { s.Peers[0].Role = cluster.RoleJoining }},
		{"different states", "state", "peers have different states at entry 42", httpapi.LevelCrit, func(s *cluster.Status) { s.StatesDifferAt = 42 }},
		{"lagging peer", "lag", "b is 257 entries behind", httpapi.LevelWarn, func(s *cluster.Status) { s.Peers[1].Lag = 257 }},
		{"version skew", "versions", "versions differ: 0.1.0 on a, c; 0.2.0 on b", httpapi.LevelWarn, func(s *cluster.Status) { s.Peers[1].Version = "0.2.0" }},
		{"deaf peer", "addresses", "a does not answer at ", httpapi.LevelWarn, func(s *cluster.Status) { s.Peers[0].HTTPAddress = nobodyAt(t) }},
		{"address that does not resolve", "addresses", "a does not answer at nowhere.invalid:4161", httpapi.LevelWarn, func(s *cluster.Status) {
			s.Peers[0].HTTPAddress = "nowhere.invalid:4161"
		}},
		{"no gossip key", "security", "a has no gossip key, off loopback", httpapi.LevelWarn, func(s *cluster.Status) {
			s.Peers[0].Security = &cluster.Security{Exposed: true, PeerTLS: true}
		}},
		{"-insecure", "security", "a has no mutual TLS on the peer port and no gossip key", httpapi.LevelWarn, func(s *cluster.Status) {
			s.Peers[0].Security = &cluster.Security{Exposed: true}
		}},
		{"certificate about to end", "certificates", "the certificate of a ends on ", httpapi.LevelWarn, func(s *cluster.Status) {
			s.Peers[0].Security = &cluster.Security{CertificateEnds: soon}
		}},
		{"HTTP certificate about to end", "certificates", "the certificate of the HTTP port of a ends on ", httpapi.LevelWarn, func(s *cluster.Status) {
			s.Peers[0].Security = &cluster.Security{HTTPCertificateEnds: soon}
		}},
		{"certificate at its end", "certificates", "the certificate of a ends on ", httpapi.LevelCrit, func(s *cluster.Status) {
			s.Peers[0].Security = &cluster.Security{CertificateEnds: time.Now().Unix()}
		}},
		{"orphans", "orphans", "3 sessions of a have no connection; they end in 5s", httpapi.LevelWarn, func(s *cluster.Status) {
			s.Peers[0].Orphans, s.Peers[0].OrphansEndMS = 3, 5000
		}},
		{"heard one way only", "hearing", "a reaches b, which does not reach it", httpapi.LevelWarn, func(s *cluster.Status) {
			s.Peers[1].Contacts[0].AgeMS = 41_000
		}},
		{"heard one way only, the other", "hearing", "c reaches a, which does not reach it", httpapi.LevelWarn, func(s *cluster.Status) {
			s.Peers[0].Contacts = s.Peers[0].Contacts[:2]
		}},
		{"not heard at all", "hearing", "a and c do not reach each other", httpapi.LevelWarn, func(s *cluster.Status) {
			s.Peers[0].Contacts, s.Peers[2].Contacts = s.Peers[0].Contacts[:2], s.Peers[2].Contacts[1:]
		}},
		{"pending for long", "pending", "7 registrations that nsqds declared to b are not committed", httpapi.LevelWarn, func(s *cluster.Status) {
			s.Peers[1].Pending, s.Peers[1].PendingMS = 7, 10_001
		}},
		{"two nsqds of one address", "shared", "n1:4150 is two nsqds: h1 (10.0.0.1) and h2 (10.0.0.2)", httpapi.LevelWarn, func(s *cluster.Status) {
			s.Peers[1].Shared = []cluster.SharedAddress{{Producer: "n1:4150", First: "h1 (10.0.0.1)", Second: "h2 (10.0.0.2)"}}
		}},
		{"disk", "disk", "a has 300 MiB of disk left", httpapi.LevelWarn, func(s *cluster.Status) { s.Peers[0].FreeDisk = 300 << 20 }},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := newFakeCluster(t, "a").peers[0]
			p := serve(t, n)
			n.status = healthy(p.addr)
			test.change(n.status)
			c := checkOf(t, p)
			if c.Level != test.level {
				t.Errorf("level %s, want %s", c.Level, test.level)
			}
			for _, f := range c.Findings {
				if f.Rule == test.rule && f.Level == test.level && strings.HasPrefix(f.What, test.what) {
					return
				}
			}
			t.Errorf("no finding of %s: %+v", test.rule, c.Findings)
		})
	}
}

func healthy(address string) *cluster.Status {
	s := &cluster.Status{Sentence: "Healthy.", State: cluster.StateHealthy, SeenBy: "a", Leader: "b", Tolerance: 1}
	for _, name := range []string{"a", "b", "c"} {
		s.Peers = append(s.Peers, cluster.PeerStatus{
			Name: name, ID: registry.NodeID(name + "-00000001"), Role: cluster.RoleVoter, Health: cluster.HealthOK, Version: "0.1.0", HTTPAddress: address,
			UptimeMS: 60_000, Contacts: []cluster.PeerContact{{ID: "a-00000001", AgeMS: 9000}, {ID: "b-00000001"}, {ID: "c-00000001", AgeMS: 25_000}},
			Shared: []cluster.SharedAddress{},
		})
	}
	return s
}

func checkOf(t *testing.T, p *peer) (c httpapi.Check) {
	t.Helper()
	a := p.do("GET /v1/check")
	if err := json.Unmarshal([]byte(a.body), &c); err != nil || a.status != 200 {
		t.Fatalf("%d %v in %s", a.status, err, a.body)
	}
	return c
}

func TestCheckOfAHealthyCluster(t *testing.T) {
	n := newFakeCluster(t, "a").peers[0]
	p := serve(t, n)
	n.status = healthy(p.addr)
	c := checkOf(t, p)
	if c.Level != httpapi.LevelOK || c.Sentence != "Healthy." {
		t.Errorf("%+v", c)
	}
	for _, f := range c.Findings {
		if f.Level != httpapi.LevelOK || f.What == "" {
			t.Errorf("%+v", f)
		}
	}
}

func TestCheckFindsProducersThatAnnounceLoopback(t *testing.T) {
	n := newFakeCluster(t, "a").peers[0]
	p := serve(t, n)
	n.status = healthy(p.addr)
	n.producer(1, nsqd("127.0.0.1")) // from 10.0.0.1
	local := nsqd("localhost")
	local.RemoteAddress = "127.0.0.1:5000"
	n.producer(2, local)
	n.producer(3, nsqd("good.example"))
	var found []string
	for _, f := range checkOf(t, p).Findings {
		if f.Rule == "producers" {
			found = append(found, f.Subject)
		}
	}
	if len(found) != 1 || found[0] != "127.0.0.1:4150" {
		t.Errorf("%v", found)
	}
}

// TestCheckIsNotHasty: what a peer cannot know yet, or does not tell, is no finding.
func TestCheckIsNotHasty(t *testing.T) {
	for name, change := range map[string]func(*cluster.Status){
		"a peer that has just started":      func(s *cluster.Status) { s.Peers[1].UptimeMS, s.Peers[1].Contacts = 5000, s.Peers[1].Contacts[1:2] },
		"a peer of an older version":        func(s *cluster.Status) { s.Peers[1].Contacts = nil },
		"registrations that are on the way": func(s *cluster.Status) { s.Peers[1].Pending, s.Peers[1].PendingMS = 7, 9_000 },
	} {
		n := newFakeCluster(t, "a").peers[0]
		p := serve(t, n)
		n.status = healthy(p.addr)
		change(n.status)
		if c := checkOf(t, p); c.Level != httpapi.LevelOK {
			t.Errorf("%s: %+v", name, c.Findings[0])
		}
	}
	n := newFakeCluster(t, "a").peers[0]
	p := serve(t, n)
	n.status = healthy(p.addr)
	shared := []cluster.SharedAddress{{Producer: "n1:4150", First: "h1", Second: "h2"}}
	n.status.Peers[0].Shared, n.status.Peers[1].Shared = shared, shared // both saw it
	if c := checkOf(t, p); c.Findings[0].Rule != "shared" || c.Findings[1].Level != httpapi.LevelOK {
		t.Errorf("told twice: %+v", c.Findings[:2])
	}
}

// TestChecksAreShared: whoever asks often asks the other peers no more often.
func TestChecksAreShared(t *testing.T) {
	n := newFakeCluster(t, "a").peers[0]
	p := serve(t, n)
	n.status = healthy(p.addr)
	first := checkOf(t, p)
	n.status.Sentence = "Degraded."
	if again := checkOf(t, p); again.Sentence != first.Sentence {
		t.Errorf("made anew at once: %s", again.Sentence)
	}
	p.clock.advance(2 * time.Second)
	if later := checkOf(t, p); later.Sentence != "Degraded." {
		t.Errorf("not made anew: %s", later.Sentence)
	}
}
