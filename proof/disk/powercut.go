package disk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lookupd/lookupd/supervisor"
)

// PowerCutConfig says how to cut the power.
type PowerCutConfig struct {
	Lookupd string // path of the executable under test
	Dir     string // empty or absent; takes disks, in memory, and logs, which stay
	Seed    uint64 // of who, when and how; 0 draws one
	Cuts    int
	// CutsPerLife is how many cuts one cluster lives through. The first hits its
	// founding.
	CutsPerLife int
	// SnapshotCuts of the cuts wait until a peer writes a snapshot, up to half a
	// minute each.
	SnapshotCuts int
	Clients      int  // per peer, at least 2
	StopAtFirst  bool // end when a promise is broken
	Log          *slog.Logger
}

// DefaultPowerCutConfig is what CI runs, but for the paths.
func DefaultPowerCutConfig() PowerCutConfig {
	return PowerCutConfig{Cuts: 40, CutsPerLife: 10, SnapshotCuts: 2, Clients: 8, Log: slog.New(slog.DiscardHandler)}
}

func (c *PowerCutConfig) validate() error {
	switch {
	case c.Lookupd == "" || c.Dir == "":
		return errors.New("power cuts: no executable or no directory")
	case c.Cuts < 1 || c.CutsPerLife < 1 || c.Clients < 2 || c.SnapshotCuts < 0 || c.SnapshotCuts > c.Cuts:
		return fmt.Errorf("power cuts: %d cuts, %d per life, %d during snapshots, %d clients", c.Cuts, c.CutsPerLife, c.SnapshotCuts, c.Clients)
	}
	if c.Seed == 0 {
		c.Seed = rand.Uint64()
	}
	return nil
}

// PowerCutReport counts what happened.
type PowerCutReport struct {
	Seed           uint64        `json:"seed"`
	Cuts           int           `json:"cuts"`
	AllPeers       int           `json:"all_peers"`       // cuts that hit all three peers at once
	Majority       int           `json:"majority"`        // that hit two
	Founding       int           `json:"founding"`        // that hit a cluster before it had served
	DuringSnapshot int           `json:"during_snapshot"` // that hit a peer while it wrote a snapshot
	Acknowledged   int           `json:"acknowledged"`    // changes, each looked for at every peer
	Unknown        int           `json:"unknown"`         // changes without a promise
	Lost           int           `json:"lost"`            // acknowledged or shown changes that a peer does not show, or refused ones that came back
	Hands          int           `json:"hands"`           // peers that did not come back by themselves
	Unequal        int           `json:"unequal"`         // times that the peers' states stayed different
	SlowestReturn  time.Duration `json:"slowest_return_ns"`
	Took           time.Duration `json:"took_ns"`
	Problems       []string      `json:"problems,omitempty"` // in words, the first few
}

// Failed returns nil if all promises held, else an error that says which did not.
func (r *PowerCutReport) Failed() error {
	if r.Lost+r.Hands+r.Unequal == 0 {
		return nil
	}
	return fmt.Errorf("power cuts, seed %d: %d changes lost, %d peers did not come back, %d times states differed:\n%s",
		r.Seed, r.Lost, r.Hands, r.Unequal, strings.Join(r.Problems, "\n"))
}

func (r *PowerCutReport) over(cfg PowerCutConfig) bool { return cfg.StopAtFirst && r.Failed() != nil }

const maxProblems = 20

func (r *PowerCutReport) problem(format string, args ...any) {
	if len(r.Problems) < maxProblems {
		r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
	}
}

// PowerCuts runs clusters under load and cuts the power of one, two or all
// three peers at random moments. The error is of the machinery; what was found
// is in the report, which is also valid with an error.
func PowerCuts(ctx context.Context, cfg PowerCutConfig) (r *PowerCutReport, err error) {
	r = &PowerCutReport{}
	if err := cfg.validate(); err != nil {
		return r, err
	}
	r.Seed = cfg.Seed
	began := time.Now()
	defer func() { r.Took = time.Since(began) }()
	disks := filepath.Join(cfg.Dir, "disks")
	for n := 0; r.Cuts < cfg.Cuts && !r.over(cfg); n++ {
		c := &cutter{cfg: cfg, report: r, number: n, logs: filepath.Join(cfg.Dir, fmt.Sprintf("life-%d", n))}
		if err := c.live(ctx, disks); err != nil {
			return r, fmt.Errorf("seed %d, life %d: %w", cfg.Seed, n, err)
		}
		if r.Failed() == nil {
			if err := os.RemoveAll(c.logs); err != nil {
				return r, err
			}
		}
	}
	return r, nil
}

// cutter cuts the power of one life's peers.
type cutter struct {
	cfg    PowerCutConfig
	report *PowerCutReport
	number int
	logs   string
	life   *life
	books  []*book // of the rounds so far
}

// live runs one life: a founding, cuts, a last look at everything.
func (c *cutter) live(ctx context.Context, disks string) (err error) {
	if c.life, err = newLife(ctx, c.cfg.Lookupd, disks, c.logs); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.life.end()) }()
	if err := c.life.start(c.life.cluster.Peers...); err != nil {
		return err
	}
	for i := 0; i < c.cfg.CutsPerLife && c.report.Cuts < c.cfg.Cuts && !c.report.over(c.cfg); i++ {
		whole, err := c.cut(ctx, i)
		if err != nil || !whole {
			return err
		}
	}
	for i, b := range c.books {
		if err := c.again(ctx, b, fmt.Sprintf("at the end of life %d, changes of its cut %d", c.number, i)); err != nil {
			return err
		}
	}
	return nil
}

// plan is what is random about a cut.
type plan struct {
	victims []*supervisor.Peer
	after   time.Duration // of traffic
	linger  time.Duration // between the cut and the kill: the peers see their disks fail
	dark    time.Duration // without power
	options []string      // with which the victims' disks are mounted next
}

func (c *cutter) plan(rng *rand.Rand) plan {
	peers := slices.Clone(c.life.cluster.Peers)
	rng.Shuffle(len(peers), func(i, j int) { peers[i], peers[j] = peers[j], peers[i] })
	victims := []int{1, 1, 1, 2, 2, 3, 3, 3}[rng.IntN(8)]
	p := plan{
		victims: peers[:victims],
		after:   200*time.Millisecond + time.Duration(rng.Int64N(int64(800*time.Millisecond))),
		dark:    time.Duration(rng.Int64N(int64(600 * time.Millisecond))),
	}
	if rng.IntN(2) == 0 {
		p.linger = time.Duration(rng.Int64N(int64(100 * time.Millisecond)))
	}
	for range victims {
		p.options = append(p.options, []string{Ordered, Ordered, Writeback, Frequent}[rng.IntN(4)])
	}
	return p
}

func (p plan) String() string {
	var names []string
	for i, v := range p.victims {
		names = append(names, v.Name()+" (then mounted "+p.options[i]+")")
	}
	return fmt.Sprintf("power of %s after %v, killed %v later, dark for %v", strings.Join(names, ", "), p.after, p.linger, p.dark)
}

// cut is one round: traffic, the cut, the return, the look at every answer. It
// returns false if the life cannot go on.
func (c *cutter) cut(ctx context.Context, round int) (whole bool, err error) {
	number := c.report.Cuts
	rng := rand.New(rand.NewPCG(c.cfg.Seed, uint64(number)))
	p := c.plan(rng)
	founding := round == 0
	if founding {
		p.after = time.Duration(rng.Int64N(int64(2 * time.Second)))
	}
	began := time.Now()
	t := startTraffic(c.life.cluster.Peers, c.cfg.Clients, fmt.Sprintf("r%d", number))
	defer t.hangUp()
	stopped := false
	defer func() {
		if !stopped {
			t.stop()
		}
	}()
	if snapshot := number%c.cfg.CutsPerLife == c.cfg.CutsPerLife-1 && number/c.cfg.CutsPerLife < c.cfg.SnapshotCuts; snapshot {
		writer, err := c.untilSnapshot(ctx, rng)
		if err != nil {
			return false, err
		}
		if !slices.Contains(p.victims, writer) {
			p.victims[0] = writer
		}
	} else if err := sleep(ctx, p.after); err != nil {
		return false, err
	}
	if err := c.powerOff(ctx, p); err != nil {
		return false, err
	}
	c.count(p, founding)
	offAt := time.Now()
	if err := c.powerOn(ctx, p); err != nil {
		return false, err
	}
	if err := c.life.waitWell(ctx, c.life.cluster.Peers...); err != nil {
		if ctx.Err() != nil {
			return false, err
		}
		c.report.Hands++
		c.report.problem("cut %d (%v): %v", number, p, err)
		return false, nil
	}
	c.report.SlowestReturn = max(c.report.SlowestReturn, time.Since(offAt)-p.dark)
	t.stop()
	stopped = true
	err = c.look(ctx, t.book, rng, fmt.Sprintf("cut %d (%v)", number, p))
	c.cfg.Log.Info("power cut", "number", number, "victims", len(p.victims), "acknowledged", t.book.count(acknowledged),
		"took", time.Since(began).Round(time.Millisecond))
	return err == nil, err
}

// look checks the round's changes, those of the round before, settled by now,
// those of an older one, and that the peers have equal states.
func (c *cutter) look(ctx context.Context, b *book, rng *rand.Rand, what string) error {
	c.report.Acknowledged += b.count(acknowledged)
	c.report.Unknown += b.count(unknown)
	wrong, err := c.life.check(ctx, c.life.cluster.Peers, b, true)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	c.lost(wrong, what)
	if n := len(c.books); n > 0 {
		for _, i := range []int{n - 1, rng.IntN(n)} {
			if err := c.again(ctx, c.books[i], fmt.Sprintf("%s, changes of %d cuts before", what, n-i)); err != nil {
				return err
			}
		}
	}
	c.books = append(c.books, b)
	if err := c.life.sameState(ctx, c.life.cluster.Peers); err != nil {
		if ctx.Err() != nil {
			return err
		}
		c.report.Unequal++
		c.report.problem("%s: %v", what, err)
	}
	return nil
}

// again checks the changes of an earlier round. Its clients are long gone, so
// what is unknown of them is decided now.
func (c *cutter) again(ctx context.Context, b *book, what string) error {
	if err := c.life.settle(ctx, c.life.cluster.Peers[0], b); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	wrong, err := c.life.check(ctx, c.life.cluster.Peers, b, false)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	c.lost(wrong, what)
	return nil
}

func (c *cutter) lost(wrong []string, what string) {
	c.report.Lost += len(wrong)
	for _, w := range wrong {
		c.report.problem("%s: %s", what, w)
	}
}

func (c *cutter) count(p plan, founding bool) {
	r := c.report
	r.Cuts++
	switch len(p.victims) {
	case peersPerCluster:
		r.AllPeers++
	case 2:
		r.Majority++
	}
	if founding {
		r.Founding++
	}
}

// powerOff cuts the victims' power, all at once, and kills them.
func (c *cutter) powerOff(ctx context.Context, p plan) error {
	if slices.ContainsFunc(p.victims, func(v *supervisor.Peer) bool { return len(unfinishedSnapshots(v)) > 0 }) {
		c.report.DuringSnapshot++
	}
	for _, v := range p.victims {
		if err := c.life.image(v).PowerCut(); err != nil {
			return err
		}
	}
	if err := sleep(ctx, p.linger); err != nil {
		return err
	}
	for _, v := range p.victims {
		if err := v.Kill(); err != nil {
			return err
		}
	}
	return nil
}

// powerOn mounts the victims' disks and starts them.
func (c *cutter) powerOn(ctx context.Context, p plan) error {
	if err := sleep(ctx, p.dark); err != nil {
		return err
	}
	for i, v := range p.victims {
		image := c.life.image(v)
		if err := image.Remount(ctx, p.options[i]); err != nil {
			return err
		}
		if err := v.Start(); err != nil {
			return err
		}
	}
	return nil
}

// untilSnapshot waits until a peer has begun to write a snapshot, and then up to
// a few milliseconds more. It returns that peer.
func (c *cutter) untilSnapshot(ctx context.Context, rng *rand.Rand) (*supervisor.Peer, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for {
		for _, p := range c.life.cluster.Peers {
			if len(unfinishedSnapshots(p)) > 0 {
				return p, sleep(ctx, time.Duration(rng.Int64N(int64(5*time.Millisecond))))
			}
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("no peer writes a snapshot: %w", ctx.Err())
		case <-ticker.C:
		}
	}
}

// unfinishedSnapshots are the directories that a peer is writing snapshots to.
func unfinishedSnapshots(p *supervisor.Peer) []string {
	found, _ := filepath.Glob(filepath.Join(p.DataPath(), "raft", "snapshots", "*.tmp")) // the pattern is right
	return found
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
