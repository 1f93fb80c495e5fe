package httpapi

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
)

// Level is how bad a finding is.
type Level string

// Levels of a finding.
const (
	LevelOK   Level = "ok"
	LevelWarn Level = "warn"
	LevelCrit Level = "crit"
)

// Check is the document of GET /v1/check.
type Check struct {
	Sentence string    `json:"sentence"`
	Status   string    `json:"status"` // the sentence of /v1/status
	Level    Level     `json:"level"`  // of the worst finding
	SeenBy   string    `json:"seen_by"`
	Findings []Finding `json:"findings"` // the worst first; a rule that is met has one that is ok
}

// Finding is what one rule of Check says, of the cluster or of one peer or
// producer in it.
type Finding struct {
	Rule    string `json:"rule"`
	Level   Level  `json:"level"`
	Subject string `json:"subject,omitempty"` // name of the peer, or the producer's id
	What    string `json:"what"`
	SinceMS *int64 `json:"since_ms,omitempty"` // for how long, as the answering peer knows
	Impact  string `json:"impact,omitempty"`
	Next    string `json:"next,omitempty"`
}

const (
	pingWithin       = 500 * time.Millisecond
	laggingFrom      = 256 // entries: autopilot calls no such peer healthy
	lowDisk          = 512 << 20
	certificateWarns = 30 * 24 * time.Hour
	certificateCrit  = 7 * 24 * time.Hour
	mostProducers    = 10 // that one rule names
	// Peers ask each other every 10 s; one that has just started may not have yet.
	heardWithin  = 25 * time.Second
	pendingWarns = 10 * time.Second
)

// checks keeps the latest check for checkEvery: making one asks all peers, and
// anybody may ask for it.
type checks struct {
	mu     sync.Mutex // held while one is made, so that others wait for it
	at     time.Time
	check  Check
	status cluster.Status
}

const checkEvery = time.Second

// check answers what the cluster's status means, rule by rule.
func (s *Server) check(w http.ResponseWriter, r *http.Request) error {
	check, status, err := s.latestCheck(context.WithoutCancel(r.Context())) // others get it too
	if err != nil {
		return err
	}
	s.mark(w, cluster.ReadInfo{Index: status.Index, Leader: status.Leader})
	writeDocument(w, check)
	return nil
}

func (s *Server) latestCheck(ctx context.Context) (Check, cluster.Status, error) {
	c := &s.checks
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at.IsZero() || s.cfg.Now().Sub(c.at) > checkEvery {
		ctx, cancel := context.WithTimeout(ctx, statusWithin)
		defer cancel()
		f, err := s.facts(ctx)
		if err != nil {
			return Check{}, f.status, err
		}
		c.at, c.check, c.status = s.cfg.Now(), judge(f), f.status
	}
	return c.check, c.status, nil
}

// facts looks at the cluster.
func (s *Server) facts(ctx context.Context) (f facts, err error) {
	f.now = s.cfg.Now()
	if f.status, err = s.cfg.Cluster.Status(ctx); err != nil {
		return f, err
	}
	err = s.cfg.Cluster.View(func(v *store.View) error {
		f.loopback = loopbackProducers(v)
		return nil
	})
	f.deaf = pingPeers(ctx, f.status.Peers)
	return f, err
}

// facts is all that the rules look at.
type facts struct {
	status   cluster.Status
	deaf     map[registry.NodeID]error // peers whose HTTP address does not answer
	loopback []registry.ProducerID     // that announce loopback to consumers elsewhere
	now      time.Time
}

// pingPeers asks each peer that is up at the address that nsqds are told.
func pingPeers(ctx context.Context, peers []cluster.PeerStatus) map[registry.NodeID]error {
	deaf := map[registry.NodeID]error{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, p := range peers {
		if p.HTTPAddress == "" {
			continue
		}
		all.Go(func() {
			if err := Ping(ctx, p.HTTPAddress, pingWithin); err != nil {
				mu.Lock()
				defer mu.Unlock()
				deaf[p.ID] = err
			}
		})
	}
	all.Wait()
	return deaf
}

// loopbackProducers are those whose consumers, unless all are on one host, dial
// themselves.
func loopbackProducers(v *store.View) (found []registry.ProducerID) {
	v.ProducersAfter("", "", func(p registry.ProducerInfo, _ []registry.SessionState) bool {
		remote, err := netip.ParseAddrPort(p.RemoteAddress)
		if isLoopbackName(p.BroadcastAddress) && err == nil && !remote.Addr().IsLoopback() {
			found = append(found, p.ID())
		}
		return true
	})
	return found
}

func isLoopbackName(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

// judge applies all rules.
func judge(f facts) Check {
	c := Check{SeenBy: f.status.SeenBy, Status: f.status.Sentence}
	for _, rule := range []struct {
		name, met string
		apply     func(facts) []Finding
	}{
		{"quorum", "a majority of the voters talks to each other", quorumRule},
		{"peers", "all peers are up", peersRule},
		{"state", "all peers have one state", stateRule},
		{"lag", fmt.Sprintf("no peer is %d entries behind", laggingFrom), lagRule},
		{"hearing", "all peers reach each other", hearingRule},
		{"versions", "all peers run one version", versionsRule},
		{"addresses", "every peer answers at the address that nsqds are told", addressesRule},
		{"security", "ports between peers are closed to others", securityRule},
		{"certificates", "no certificate ends within 30 days", certificatesRule},
		{"orphans", "every session has its connection", orphansRule},
		{"pending", fmt.Sprintf("no declared registration waits for more than %v", pendingWarns), pendingRule},
		{"shared", "no two nsqds announce one address", sharedRule},
		{"producers", "no producer announces loopback to others", producersRule},
		{"disk", "every peer has disk space", diskRule},
	} {
		findings := rule.apply(f)
		if len(findings) == 0 {
			findings = []Finding{{Level: LevelOK, What: rule.met}}
		}
		for _, finding := range findings {
			finding.Rule = rule.name
			c.Findings = append(c.Findings, finding)
		}
	}
	c.sum()
	return c
}

// Add adds a finding that was made elsewhere.
func (c *Check) Add(f Finding) {
	c.Findings = append(c.Findings, f)
	c.sum()
}

// sum brings order, level and sentence up to date.
func (c *Check) sum() {
	slices.SortStableFunc(c.Findings, func(a, b Finding) int { return cmp.Compare(b.Level.rank(), a.Level.rank()) })
	bad := map[Level]int{}
	for _, finding := range c.Findings {
		bad[finding.Level]++
	}
	c.Level, c.Sentence = c.Findings[0].Level, c.Status
	if bad[LevelCrit]+bad[LevelWarn] > 0 {
		c.Sentence = fmt.Sprintf("%s %d critical, %d to look at.", c.Status, bad[LevelCrit], bad[LevelWarn])
	}
}

func (l Level) rank() int { return slices.Index([]Level{LevelOK, LevelWarn, LevelCrit}, l) }

func quorumRule(f facts) (found []Finding) {
	voters := 0
	for _, p := range f.status.Peers {
		if p.Role == cluster.RoleVoter || p.Role == cluster.RoleLeader {
			voters++
		}
	}
	switch {
	case f.status.State == cluster.StateNoQuorum || f.status.State == cluster.StateStarting:
		found = append(found, Finding{
			Level: LevelCrit, What: f.status.Sentence,
			Impact: "lookups answer 503, registrations wait", Next: "start the missing peers, mend the network; else docs/operations.md, Recovery",
		})
	case f.status.Tolerance == 0 && voters > 1:
		found = append(found, Finding{
			Level: LevelWarn, What: "no other voter may fail", Impact: "one more failure stops lookups and registrations",
			Next: "start the peers that are down, or add one with -join",
		})
	}
	if voters > 0 && voters%2 == 0 {
		found = append(found, Finding{
			Level: LevelWarn, What: fmt.Sprintf("%d voters survive no more failures than %d", voters, voters-1), Next: "add one with -join, or remove one",
		})
	}
	return found
}

func peersRule(f facts) (found []Finding) {
	for _, p := range f.status.Peers {
		switch {
		case p.Health != cluster.HealthOK:
			finding := Finding{
				Level: LevelWarn, Subject: p.Name, What: p.Name + " is down: " + cmp.Or(p.Error, "it does not answer"),
				Impact: "the cluster bears one failure less", Next: "restart it, or: lookupctl peer remove " + p.Name,
			}
			if p.LastContactMS >= 0 {
				finding.SinceMS = &p.LastContactMS
			}
			found = append(found, finding)
		case p.Role == cluster.RoleJoining:
			found = append(found, Finding{
				Level: LevelWarn, Subject: p.Name, What: p.Name + " is no member yet", Next: "its log says what it waits for",
			})
		}
	}
	return found
}

func stateRule(f facts) (found []Finding) {
	if at := f.status.StatesDifferAt; at > 0 {
		found = append(found, Finding{
			Level: LevelCrit, What: fmt.Sprintf("peers have different states at entry %d", at),
			Impact: "answers depend on the peer that is asked", Next: "compare state_hash at one index in /v1/status of each peer; start the odd one with an empty -data-path and -join",
		})
	}
	return found
}

func lagRule(f facts) (found []Finding) {
	for _, p := range f.status.Peers {
		if p.Health == cluster.HealthOK && p.Lag > laggingFrom {
			found = append(found, Finding{
				Level: LevelWarn, Subject: p.Name, What: fmt.Sprintf("%s is %d entries behind", p.Name, p.Lag),
				Impact: "its lookups wait, and it cannot lead", Next: "look at its disk (lookupd_log_sync_duration_seconds) and its network",
			})
		}
	}
	return found
}

// hearingRule compares whom each peer reaches. The leader alone must reach all,
// so a cluster serves well until another is to lead.
func hearingRule(f facts) (found []Finding) {
	finding := func(p cluster.PeerStatus, what string) {
		found = append(found, Finding{
			Level: LevelWarn, Subject: p.Name, What: what, Impact: "if one of them comes to lead, it cannot lead the other",
			Next: "look at firewalls, routes and -peer-advertise-address between the two",
		})
	}
	for i, p := range f.status.Peers {
		for _, q := range f.status.Peers[i+1:] {
			if !tellsContacts(p) || !tellsContacts(q) {
				continue
			}
			switch there, back := reaches(p, q), reaches(q, p); {
			case there && !back:
				finding(q, fmt.Sprintf("%s reaches %s, which does not reach it", p.Name, q.Name))
			case back && !there:
				finding(p, fmt.Sprintf("%s reaches %s, which does not reach it", q.Name, p.Name))
			case !there && !back:
				finding(p, fmt.Sprintf("%s and %s do not reach each other", p.Name, q.Name))
			}
		}
	}
	return found
}

// tellsContacts reports whether what a peer says of its contacts can be relied on:
// it is a member, it runs for long enough, and its version tells of them.
func tellsContacts(p cluster.PeerStatus) bool {
	return p.Health == cluster.HealthOK && p.Role != cluster.RoleJoining &&
		len(p.Contacts) > 0 && time.Duration(p.UptimeMS)*time.Millisecond > heardWithin
}

func reaches(p, q cluster.PeerStatus) bool {
	return slices.ContainsFunc(p.Contacts, func(c cluster.PeerContact) bool {
		return c.ID == q.ID && time.Duration(c.AgeMS)*time.Millisecond <= heardWithin
	})
}

func pendingRule(f facts) (found []Finding) {
	for _, p := range f.status.Peers {
		if p.Pending > 0 && p.PendingMS > pendingWarns.Milliseconds() {
			found = append(found, Finding{
				Level: LevelWarn, Subject: p.Name, SinceMS: &p.PendingMS,
				What:   fmt.Sprintf("%d registrations that nsqds declared to %s are not committed", p.Pending, p.Name),
				Impact: "consumers do not find these nsqds for the topics in question",
				Next:   "mend the quorum, or what slows commits: lag, disks; " + p.Name + " goes on trying by itself",
			})
		}
	}
	return found
}

func sharedRule(f facts) (found []Finding) {
	told := map[registry.ProducerID]bool{}
	for _, p := range f.status.Peers {
		for _, s := range p.Shared {
			if !told[s.Producer] {
				told[s.Producer] = true
				found = append(found, Finding{
					Level: LevelWarn, Subject: string(s.Producer), What: fmt.Sprintf("%s is two nsqds: %s and %s", s.Producer, s.First, s.Second),
					Impact: "consumers find one of them, and each takes the other's place again and again",
					Next:   "give each nsqd a -broadcast-address, or a port, of its own",
				})
			}
		}
	}
	return found
}

func versionsRule(f facts) (found []Finding) {
	of := map[string][]string{}
	for _, p := range f.status.Peers {
		if p.Version != "" {
			of[p.Version] = append(of[p.Version], p.Name)
		}
	}
	if len(of) < 2 {
		return nil
	}
	var parts []string
	for version, names := range of {
		parts = append(parts, version+" on "+strings.Join(names, ", "))
	}
	slices.Sort(parts)
	return []Finding{{
		Level: LevelWarn, What: "versions differ: " + strings.Join(parts, "; "),
		Impact: "neighbouring releases work together, others may not", Next: "finish the upgrade",
	}}
}

func addressesRule(f facts) (found []Finding) {
	for _, p := range f.status.Peers {
		if err := f.deaf[p.ID]; err != nil {
			found = append(found, Finding{
				Level: LevelWarn, Subject: p.Name, What: fmt.Sprintf("%s does not answer at %s: %v", p.Name, p.HTTPAddress, err),
				Impact: "nsqds that ask it there create new topics without their channels: messages are lost to them",
				Next:   "give it a -broadcast-address that resolves and is reachable from the nsqds",
			})
		}
	}
	return found
}

func securityRule(f facts) (found []Finding) {
	for _, p := range f.status.Peers {
		if p.Security == nil || !p.Security.Exposed {
			continue
		}
		var missing []string
		if !p.Security.PeerTLS {
			missing = append(missing, "no mutual TLS on the peer port")
		}
		if !p.Security.GossipKey {
			missing = append(missing, "no gossip key")
		}
		if len(missing) > 0 {
			found = append(found, Finding{
				Level: LevelWarn, Subject: p.Name, What: p.Name + " has " + strings.Join(missing, " and ") + ", off loopback",
				Impact: "whoever reaches those ports can change the cluster", Next: "docs/security.md: give it certificates and a gossip key",
			})
		}
	}
	return found
}

func certificatesRule(f facts) (found []Finding) {
	for _, p := range f.status.Peers {
		if p.Security == nil {
			continue
		}
		for _, c := range []struct {
			of, impact string
			ends       int64
		}{
			{"the certificate of " + p.Name, "after that the other peers refuse it", p.Security.CertificateEnds},
			{"the certificate of the HTTP port of " + p.Name, "after that consumers, nsqds and nsqadmin refuse it", p.Security.HTTPCertificateEnds},
		} {
			ends := time.Unix(c.ends, 0)
			left := ends.Sub(f.now)
			if c.ends == 0 || left > certificateWarns {
				continue
			}
			finding := Finding{
				Level: LevelWarn, Subject: p.Name, What: fmt.Sprintf("%s ends on %s", c.of, ends.UTC().Format(time.DateOnly)),
				Impact: c.impact, Next: "put a new one in its place; it is read again by itself",
			}
			if left < certificateCrit {
				finding.Level = LevelCrit
			}
			found = append(found, finding)
		}
	}
	return found
}

func orphansRule(f facts) (found []Finding) {
	for _, p := range f.status.Peers {
		if p.Orphans > 0 {
			ends := (time.Duration(p.OrphansEndMS) * time.Millisecond).Round(time.Second)
			found = append(found, Finding{
				Level: LevelWarn, Subject: p.Name, What: fmt.Sprintf("%d sessions of %s have no connection; they end in %s", p.Orphans, p.Name, ends),
				Impact: "producers that are not connected elsewhere leave the answers then", Next: "restart " + p.Name,
			})
		}
	}
	return found
}

func producersRule(f facts) (found []Finding) {
	for i, id := range f.loopback {
		if i == mostProducers {
			found = append(found, Finding{Level: LevelWarn, What: fmt.Sprintf("and %d more", len(f.loopback)-i)})
			break
		}
		found = append(found, Finding{
			Level: LevelWarn, Subject: string(id), What: string(id) + " is what an nsqd on another host announces",
			Impact: "consumers dial their own host", Next: "give that nsqd a -broadcast-address",
		})
	}
	return found
}

func diskRule(f facts) (found []Finding) {
	for _, p := range f.status.Peers {
		if p.FreeDisk > 0 && p.FreeDisk < lowDisk {
			found = append(found, Finding{
				Level: LevelWarn, Subject: p.Name, What: fmt.Sprintf("%s has %d MiB of disk left", p.Name, p.FreeDisk>>20),
				Impact: "below -min-free-disk it refuses registrations; a failed write ends it", Next: "make room",
			})
		}
	}
	return found
}
