// Package round runs one life of a cluster: clients, faults, and at its end the
// judges. A round that tested too little says so, and a run of such rounds fails.
package round

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/lookupd/lookupd/proof/check"
	"github.com/lookupd/lookupd/proof/fault"
	"github.com/lookupd/lookupd/proof/history"
	"github.com/lookupd/lookupd/proof/load"
	"github.com/lookupd/lookupd/supervisor"
	"github.com/lookupd/lookupd/supervisor/lab"
)

// Config describes a round.
type Config struct {
	Binary string // of a lookupd with the witness
	Dir    string // takes data, logs and, where something is wrong, what explains it
	Peers  int
	Length time.Duration // of the time with faults
	Seed   uint64
	Load   load.Config
	// Network is to have a host for each peer; nil: all are on loopback.
	Network *lab.Network
	// Kinds are what may go wrong.
	Kinds []fault.Kind
	// Lookupctl is the executable; "": operators do nothing.
	Lookupctl string
	// Clocked says that Binary's wall clock can be set.
	Clocked bool
	// Inactive is how long a peer's sessions outlive it; 0: longer than the round.
	Inactive time.Duration
	Log      func(format string, args ...any)
}

// Floors below which a round, and a run of rounds, counts as one that tested nothing.
const (
	MinOpsPerSecond      = 500
	MinReadsDuringFaults = 100
	MaxUnknownShare      = 0.05
)

// How the proof's peers run: no liveness timeout ends within a round, and
// snapshots come within seconds.
const (
	never         = time.Hour
	threshold     = 300
	trailingLogs  = 1200
	snapshotEvery = time.Second

	startWithin   = 60 * time.Second
	settleFor     = 6 * time.Second // what was refused must be done within 5 s of healing
	sameWithin    = 30 * time.Second
	decideWithin  = 10 * time.Second // porcupine, per topic
	betweenFaults = 5 * time.Second
)

// Result is what a round did and found.
type Result struct {
	Seed              uint64
	Peers             int
	Secure            bool // mutual TLS between peers, and a gossip key
	Seconds           float64
	Ops               map[string]map[string]int // by kind and outcome
	Faults            map[string]int            // that took effect, by kind
	NotRun            map[string]string         // kinds that this machine cannot, and why
	ReadsDuringFaults int
	Entries           int
	Witness           check.Verdict
	Porcupine         check.Verdict
	Problems          []string // of the round itself: too few operations, a fault without evidence
}

// Violations returns all that was found wrong with the product.
func (r *Result) Violations() []string {
	return slices.Concat(r.Witness.Violations, r.Porcupine.Violations)
}

// run is a round under way.
type run struct {
	cfg     Config
	result  *Result
	group   *supervisor.Group
	target  *fault.Target
	rec     *history.Recorder
	load    *load.Load
	witness string
	atEnd   []string // what was wrong with the peers themselves
}

// Run does one round. An error means that it could not be done; what it found is
// in the result.
func Run(ctx context.Context, cfg Config) (_ *Result, err error) {
	r := &run{cfg: cfg, group: supervisor.NewGroup(), witness: filepath.Join(cfg.Dir, witnessDir)}
	r.result = &Result{Seed: cfg.Seed, Peers: cfg.Peers, Secure: secure(cfg.Seed), Faults: map[string]int{}, NotRun: map[string]string{}, Ops: map[string]map[string]int{}}
	defer func() { err = errors.Join(err, r.group.KillAll()) }()
	if err := r.startCluster(ctx); err != nil {
		return r.result, err
	}
	defer func() { err = errors.Join(err, r.target.Close()) }()
	r.startLoad()
	began := time.Now()
	r.injectFaults(ctx)
	if err := r.settle(ctx); err != nil {
		r.load.Stop()
		return r.result, err
	}
	r.result.Seconds = time.Since(began).Seconds()
	return r.result, r.judge()
}

// secure says whether the peers of a round have certificates and a gossip key.
func secure(seed uint64) bool { return rand.New(rand.NewPCG(seed, 2)).IntN(2) == 0 }

func (r *run) startCluster(ctx context.Context) error {
	if err := os.MkdirAll(r.witness, 0o700); err != nil {
		return err
	}
	var err error
	r.target, err = fault.NewTarget(r.group, fault.Plan{
		Lookupd: r.cfg.Binary, Dir: r.cfg.Dir, Peers: r.cfg.Peers, Network: r.cfg.Network, Proxies: true, Clocks: r.cfg.Clocked,
		TrailingLogs: trailingLogs, Secure: r.result.Secure, Lookupctl: r.cfg.Lookupctl,
		Args: []string{"-inactive-producer-timeout", cmp.Or(r.cfg.Inactive, never).String(), "-tombstone-lifetime", never.String()},
		Env:  []string{"LOOKUPD_WITNESS=" + r.witness, fmt.Sprintf("LOOKUPD_SNAPSHOTS=%d,%d,%s", threshold, trailingLogs, snapshotEvery)},
		Rand: rand.New(rand.NewPCG(r.cfg.Seed, 1)), Log: r.cfg.Log,
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	if err := r.target.Cluster.Start(ctx); err != nil {
		return err
	}
	_, err = r.target.Cluster.WaitLeader(ctx)
	return err
}

func (r *run) startLoad() {
	cfg := r.cfg.Load
	cfg.Seed = r.cfg.Seed
	cfg.Peers = func() []load.Peer {
		var peers []load.Peer
		for _, p := range r.target.Cluster.Peers {
			peers = append(peers, load.Peer{Name: p.Name(), TCP: r.target.TCPAddress(p), HTTP: r.target.HTTPAddress(p)})
		}
		return peers
	}
	r.rec = history.NewRecorder()
	r.target.Recorder = r.rec
	r.load = load.Start(cfg, r.rec)
}

// injectFaults injects faults, one after another, until the time is up.
func (r *run) injectFaults(ctx context.Context) {
	var able []fault.Kind
	for _, kind := range r.cfg.Kinds {
		if why := kind.Needs(r.target); why != "" {
			r.result.NotRun[kind.Name] = why
			continue
		}
		able = append(able, kind)
	}
	until := time.Now().Add(r.cfg.Length)
	for time.Now().Before(until) && ctx.Err() == nil {
		if len(able) == 0 {
			time.Sleep(time.Until(until))
			return
		}
		kind := able[r.target.Rand.IntN(len(able))]
		began, reads := r.rec.Now(), r.rec.Reads()
		evidence, err := kind.Run(ctx, r.target)
		r.result.ReadsDuringFaults += r.rec.Reads() - reads
		r.cfg.Log("%6.1f s  %s: %s", float64(began)/1e9, kind.Name, evidence)
		if errors.Is(err, fault.ErrViolation) {
			r.atEnd = append(r.atEnd, fmt.Sprintf("%s: %v", kind.Name, err))
			if errors.Is(err, fault.ErrNotWhole) {
				return // every other fault would wait for it to be whole
			}
			continue
		}
		if err != nil {
			r.problem("fault %q: %v", kind.Name, err)
			continue
		}
		r.result.Faults[kind.Name]++
		time.Sleep(time.Duration(r.target.Rand.Int64N(int64(betweenFaults))))
	}
}

func (r *run) problem(format string, args ...any) {
	r.result.Problems = append(r.result.Problems, fmt.Sprintf(format, args...))
}

// settle ends the round: what waits gets its time, everything is read at every
// peer, and the peers' states are compared.
func (r *run) settle(ctx context.Context) error {
	time.Sleep(settleFor)
	r.load.Settle()
	if err := r.sameState(ctx); err != nil {
		r.atEnd = append(r.atEnd, fmt.Sprintf("at the end, all healed: %v", err))
	}
	r.load.ReadAll()
	r.load.Freeze()
	var errs []error
	for _, p := range r.target.Cluster.Peers {
		if !p.Running() {
			r.atEnd = append(r.atEnd, fmt.Sprintf("%s has ended by itself, exit code %d: %s", p.Name(), p.ExitCode(), p.LogTail()))
		}
		errs = append(errs, p.Stop(10*time.Second))
	}
	r.load.Stop()
	for _, p := range r.target.Cluster.Peers {
		errs = append(errs, r.lookForPanic(p))
	}
	return errors.Join(errs...)
}

// lookForPanic finds in a peer's log what faults that end peers would hide.
func (r *run) lookForPanic(p *supervisor.Peer) error {
	log, err := os.ReadFile(p.LogPath())
	for _, word := range []string{"\npanic: ", "\nfatal error: "} {
		if i := bytes.Index(log, []byte(word)); i >= 0 {
			const quoted = 400
			r.atEnd = append(r.atEnd, fmt.Sprintf("%s: %s", p.Name(), bytes.TrimSpace(log[i:min(len(log), i+quoted)])))
		}
	}
	return err
}

// sameState waits until all peers have one state at one index.
func (r *run) sameState(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, sameWithin)
	defer cancel()
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	return supervisor.Poll(ctx, func(ctx context.Context) error {
		hashes := map[uint64]string{}
		var seen []string
		for _, p := range r.target.Cluster.Peers {
			var s struct {
				Index uint64 `json:"index"`
				Hash  string `json:"state_hash"`
			}
			if !p.Running() {
				giveUp(fmt.Errorf("%s has ended", p.Name())) // waiting changes nothing
			}
			if err := p.GetJSON(ctx, "/v1/status", &s); err != nil {
				return err
			}
			if other, ok := hashes[s.Index]; ok && other != s.Hash {
				giveUp(fmt.Errorf("two states at index %d", s.Index))
			}
			hashes[s.Index] = s.Hash
			seen = append(seen, fmt.Sprintf("%s: %s at %d", p.Name(), s.Hash, s.Index))
		}
		if len(hashes) != 1 || ctx.Err() != nil {
			return fmt.Errorf("peers differ: %v", seen)
		}
		return nil
	})
}

// judge hands the history to the judges.
func (r *run) judge() (err error) {
	h := r.rec.History()
	if err := h.Write(filepath.Join(r.cfg.Dir, historyFile)); err != nil {
		return err
	}
	r.result.Witness, r.result.Porcupine, r.result.Entries, err = Judge(r.cfg.Dir, r.cfg.Inactive > 0)
	r.result.Witness.Violations = slices.Concat(r.atEnd, r.result.Witness.Violations)
	r.addUp(h)
	return err
}

// What a round leaves in its directory, beside the peers' own.
const (
	historyFile = "history.json"
	witnessDir  = "witness"
)

// Judge judges what a round left in its directory; none of its peers may run.
// orphansEnd says that the round had an Inactive.
func Judge(dir string, orphansEnd bool) (witness, porcupine check.Verdict, entries int, err error) {
	logs, err := filepath.Glob(filepath.Join(dir, "*", "raft", "raft.db"))
	if err != nil {
		return witness, porcupine, 0, err
	}
	var peers []string
	for _, path := range logs {
		peers = append(peers, filepath.Dir(filepath.Dir(path)))
	}
	h, err := history.Read(filepath.Join(dir, historyFile))
	if err != nil {
		return witness, porcupine, 0, err
	}
	l, err := check.ReadLog(filepath.Join(dir, witnessDir), peers)
	if err != nil {
		return witness, porcupine, 0, err
	}
	l.OrphansEnd = orphansEnd
	witness = check.Witness(h, l)
	porcupine, err = check.Porcupine(h, l, decideWithin, dir)
	return witness, porcupine, l.Entries, err
}

func (r *run) addUp(h *history.History) {
	for _, op := range h.Ops {
		kind := op.Kind.String()
		if r.result.Ops[kind] == nil {
			r.result.Ops[kind] = map[string]int{}
		}
		r.result.Ops[kind][op.Outcome.String()]++
	}
	for _, why := range Thin(r.result.Ops, r.result.Seconds, r.result.ReadsDuringFaults, len(r.cfg.Kinds) > 0) {
		r.problem("%s", why)
	}
}

// Thin returns why so much, of operations by kind and outcome, tests too little.
func Thin(ops map[string]map[string]int, seconds float64, readsDuringFaults int, faults bool) (why []string) {
	total, unknown := count(ops)
	if rate := float64(total) / seconds; !(rate >= MinOpsPerSecond) { // none of none is too few
		why = append(why, fmt.Sprintf("%.0f operations per second, less than %d", rate, MinOpsPerSecond))
	}
	if share := share(unknown, total); share > MaxUnknownShare {
		why = append(why, fmt.Sprintf("%.1f %% of the operations have an unknown outcome, more than %.0f %%", 100*share, 100*MaxUnknownShare))
	}
	if faults && readsDuringFaults < MinReadsDuringFaults {
		why = append(why, fmt.Sprintf("%d reads answered during faults, less than %d", readsDuringFaults, MinReadsDuringFaults))
	}
	return why
}

// count returns how many operations there were, and of how many nobody knows
// the outcome.
func count(ops map[string]map[string]int) (total, unknown int) {
	for _, outcomes := range ops {
		for outcome, n := range outcomes {
			total += n
			if outcome == history.Unknown.String() {
				unknown += n
			}
		}
	}
	return total, unknown
}

func share(part, total int) float64 { return float64(part) / float64(max(1, total)) }

// String is one line about the round.
func (r *Result) String() string {
	ports := "open ports between them"
	if r.Secure {
		ports = "mutual TLS"
	}
	total, unknown := count(r.Ops)
	return fmt.Sprintf("seed %d: %d peers with %s, %.0f s, %d operations (%.1f %% unknown), %d reads during faults, %d entries, checked %d by the witness and %d by porcupine, faults %v, violations %d",
		r.Seed, r.Peers, ports, r.Seconds, total, 100*share(unknown, total), r.ReadsDuringFaults, r.Entries, r.Witness.Checked, r.Porcupine.Checked,
		slices.Sorted(maps.Keys(r.Faults)), len(r.Violations()))
}
