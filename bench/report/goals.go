package report

import "fmt"

// Systems, as measurements name them. A cluster of three is asked at one peer
// or at all of them.
const (
	Leader     = "lookupd 3, leader"
	Follower   = "lookupd 3, follower"
	All        = "lookupd 3, all peers"
	Alone      = "lookupd 1"
	NSQ        = "nsqlookupd"
	NSQLoud    = "nsqlookupd, its log on"
	NSQ3       = "nsqlookupd x 3"
	Bare       = "bare handler"
	BarePair   = "bare handler that asks another process"
	Etcd       = "etcd 3"
	EtcdLeader = "etcd 3, leader"
	EtcdOther  = "etcd 3, follower"
	EtcdStale  = "etcd 3, serializable"
	EtcdAlone  = "etcd 1"
)

// Stale names a lookupd whose answers may be old.
func Stale(system string) string { return system + ", stale" }

// LookupWorkload names lookups on so many topics through so many connections.
func LookupWorkload(topics, connections int) string {
	return fmt.Sprintf("lookup, %s, %s", count(topics, "topic"), count(connections, "connection"))
}

// ListWorkload names /nodes or /topics on so many topics.
func ListWorkload(path string, topics int) string {
	return fmt.Sprintf("%s, %s", path, count(topics, "topic"))
}

// RegisterWorkload names new REGISTERs from so many sessions.
func RegisterWorkload(sessions int) string {
	return "new REGISTER, " + count(sessions, "session")
}

// RepeatWorkload names REGISTERs of what is registered.
func RepeatWorkload(sessions int) string {
	return "repeated REGISTER, " + count(sessions, "session")
}

// RegistrationsText names a registry by its size.
func RegistrationsText(s Sizes, topics int) string {
	return count(s.Registrations(topics), "registration")
}

// Workloads of one kind only.
const (
	Serial   = "channels declared one after another"
	Storm    = "reconnect storm"
	Idle     = "idle sessions that ping"
	Mixed    = "lookups while registrations run"
	Kill     = "leader killed"
	Isolated = "lookup right after an isolated write"
	Huge     = "huge registry"
)

// Systems of those workloads that are moments rather than programs.
const (
	FirstWrite  = "first committed write"
	FirstLookup = "first lookup"
)

// bound says what a goal demands.
type bound int

const (
	reported bound = iota // nothing
	atLeast
	atMost
)

// Goal is a row of the table: a value, or a ratio of two.
type Goal struct {
	Name  string
	Of    Key
	Over  Key // zero: the value itself counts
	Unit  string
	bound bound
	limit float64
	worst bool // all rounds must reach the goal, not just their median
}

// demand returns the goal in words.
func (g Goal) demand() string {
	switch g.bound {
	case atLeast:
		return "at least " + figure(g.limit) + g.unit()
	case atMost:
		return "at most " + figure(g.limit) + g.unit()
	}
	return "reported"
}

func (g Goal) unit() string {
	if g.Unit == "" {
		return " times"
	}
	return " " + g.Unit
}

// Outcome is a goal and what was measured.
type Outcome struct {
	Goal
	Measured bool
	Spread
	Reached bool
	Failed  bool // some operations behind the figures
}

// verdict returns the outcome in a word.
func (o Outcome) verdict() string {
	switch {
	case !o.Measured:
		return "not measured"
	case o.Failed:
		return "NO, some failed"
	case o.bound == reported:
		return "-"
	case o.Reached:
		return "yes"
	}
	return "NO"
}

// Judge returns the outcomes of all goals.
func Judge(r *Run) []Outcome {
	var outcomes []Outcome
	for _, g := range goals(r.Sizes) {
		outcomes = append(outcomes, judge(r, g))
	}
	return outcomes
}

func judge(r *Run, g Goal) Outcome {
	o := Outcome{Goal: g}
	of := r.Values(g.Of)
	if len(of) == 0 {
		return o
	}
	if g.Over == (Key{}) {
		o.Spread = spreadOf(of)
	} else {
		over := r.Values(g.Over)
		if len(over) == 0 || spreadOf(over).Median == 0 {
			return o
		}
		o.Spread = ratioOf(of, over)
	}
	o.Measured = true
	o.Failed = r.failed(g.Of) || r.failed(g.Over)
	o.Reached = !o.Failed && g.reached(o.Spread)
	return o
}

func (g Goal) reached(s Spread) bool {
	low, high := s.Median, s.Median
	if g.worst {
		low, high = s.Low, s.High
	}
	switch g.bound {
	case atLeast:
		return low >= g.limit
	case atMost:
		return high <= g.limit
	}
	return true
}

// goals lists the rows of the table.
func goals(s Sizes) []Goal {
	var all []Goal
	ratio := func(name, workload, metric, of, over string, b bound, limit float64) {
		all = append(all, Goal{
			Name: name + ": " + of + " / " + over,
			Of:   Key{workload, of, metric}, Over: Key{workload, over, metric}, bound: b, limit: limit,
		})
	}
	value := func(name, workload, system, metric, unit string, b bound, limit float64, worst bool) {
		all = append(all, Goal{Name: name, Of: Key{workload, system, metric}, Unit: unit, bound: b, limit: limit, worst: worst})
	}

	for _, topics := range []int{s.Small, s.Large} {
		w := LookupWorkload(topics, 128)
		ratio(w, w, Rate, Leader, Bare, atLeast, 0.80)
		ratio(w, w, Rate, Follower, Bare, atLeast, 0.70)
	}
	for _, c := range []struct {
		topics int
		times  float64
	}{{s.Small, 1}, {s.Large, 40}} {
		w := LookupWorkload(c.topics, 128)
		ratio(w, w, Rate, Leader, NSQ, atLeast, c.times)
		ratio(w, w, Rate, Follower, NSQ, atLeast, c.times)
	}
	for _, topics := range []int{s.Small, s.Large} {
		w := LookupWorkload(topics, 64)
		ratio(w, w, Rate, All, Etcd, atLeast, 3)
	}
	w := LookupWorkload(s.Medium, 1)
	ratio(w+", p50", w, P50, Leader, Stale(Leader), atMost, 2)
	ratio(w+", p50", w, P50, Follower, Stale(Follower), atMost, 3.5)
	ratio(w+", p50", w, P50, BarePair, Bare, reported, 0)
	ratio(w+", p50", w, P50, Leader, BarePair, reported, 0)
	ratio(w+", p50", w, P50, Follower, BarePair, reported, 0)
	w = ListWorkload("/nodes", s.Large)
	ratio(w, w, Rate, Leader, NSQ, atLeast, 20)
	ratio(w, w, Rate, Follower, NSQ, atLeast, 20)
	w = ListWorkload("/topics", s.Large)
	ratio(w, w, Rate, Leader, NSQ, reported, 0)

	ratio(RegisterWorkload(64), RegisterWorkload(64), Rate, All, Etcd, atLeast, 2.5)
	ratio(RegisterWorkload(256), RegisterWorkload(256), Rate, All, Etcd, atLeast, 4)
	ratio(RegisterWorkload(1)+", p50", RegisterWorkload(1), P50, Leader, EtcdLeader, atMost, 1)
	ratio(RegisterWorkload(1)+", p50", RegisterWorkload(1), P50, Follower, EtcdOther, atMost, 1)
	declared := fmt.Sprintf("%s %s, to each of three peers", number(s.Declared), Serial)
	value(declared, Serial, All, Seconds, "s in all", atMost, 10, false)
	ratio(Serial+", seconds", Serial, Seconds, All, NSQ3, reported, 0)
	value(RepeatWorkload(64)+", log entries", RepeatWorkload(64), All, Entries, "entries", atMost, 0, true)
	ratio(RepeatWorkload(64), RepeatWorkload(64), Rate, All, NSQ, atLeast, 0.5)

	huge := RegistrationsText(s, s.Many)
	ratio("lookup p50", Huge, P50, huge, RegistrationsText(s, s.Few), atMost, 1.2)
	value(huge+", resident, largest peer", Huge, "largest peer", MB, "MB", atMost, 400, true)
	value(huge+", restart to ready", Huge, "restart to ready", Seconds, "s", atMost, 5, true)
	idle := number(s.IdleSessions) + " " + Idle
	value(idle+", processor, busiest peer", Idle, "busiest peer", Percent, "% of a core", atMost, 3, false)
	value(idle+", log entries", Idle, "lookupd 3", Entries, "entries", atMost, 0, true)
	value(fmt.Sprintf("%s, %s, p50 of %d", Kill, FirstWrite, s.Kills), Kill, FirstWrite, P50Sec, "s", reported, 0, false)
	value(fmt.Sprintf("%s, %s, p99 of %d", Kill, FirstWrite, s.Kills), Kill, FirstWrite, P99Sec, "s", atMost, 3, false)
	value(fmt.Sprintf("%s, %s, p50 of %d", Kill, FirstLookup, s.Kills), Kill, FirstLookup, P50Sec, "s", reported, 0, false)
	value(fmt.Sprintf("%s, %s, p99 of %d", Kill, FirstLookup, s.Kills), Kill, FirstLookup, P99Sec, "s", reported, 0, false)
	value(Isolated+", follower, p99", Isolated, Follower, P99, "us", atMost, 25_000, false)
	value("idle cluster, processor of all three peers", Isolated, "idle", Percent, "% of a core", reported, 0, false)
	return all
}
