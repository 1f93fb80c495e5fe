package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lookupd/lookupd/proof/disk"
	"github.com/lookupd/lookupd/proof/ledger"
)

// bug is a planted one, and what is to find it. A hunt is tried at most tries
// times; it returns what it found.
type bug struct {
	number int
	what   string
	tries  int
	hunt   func(p *hunter, seed uint64) (found []string, err error)
	// needs returns why the hunt cannot be made on this machine, or nil; nil: it always can.
	needs func() error
}

// hunter has what a hunt needs.
type hunter struct {
	*harness
	bug    bug
	binary string
}

func bugList() []bug {
	const most = 5
	round := func(plan mixedPlan, faults ...string) func(*hunter, uint64) ([]string, error) {
		return func(p *hunter, seed uint64) ([]string, error) {
			plan.binary, plan.kinds = p.binary, strings.Join(faults, ";")
			result, _, err := p.round(plan, seed, 3)
			if err != nil {
				return nil, err
			}
			return result.Violations(), nil
		}
	}
	const none, soon = "none", 3 * time.Second
	return []bug{
		{number: 1, what: "a follower reads without a read index", tries: most, hunt: round(mixedPlan{each: 8 * time.Second}, none)},
		{number: 2, what: "VerifyLeader in place of the term check", tries: 2 * most, hunt: (*hunter).stopLeaders},
		{number: 3, what: "OK before the commit", tries: most, hunt: round(mixedPlan{each: 8 * time.Second}, none)},
		{number: 4, what: "a raft log that is not synced", tries: 2, hunt: (*hunter).cutPower, needs: disk.Missing},
		{number: 5, what: "a REGISTER for a session that is not open", tries: most, hunt: round(mixedPlan{each: 25 * time.Second, inactive: soon}, "isolate follower", "isolate leader")},
		{number: 6, what: "raft's applied index for the state's", tries: most, hunt: round(mixedPlan{each: 15 * time.Second}, none)},
		{number: 7, what: "a snapshot that forgets", tries: most, hunt: round(mixedPlan{each: 20 * time.Second}, "kill follower", "kill all")},
		{number: 8, what: "a failed sync that is ignored", tries: 2, hunt: (*hunter).failSyncs, needs: disk.MissingStrace},
		{number: 9, what: "a command whose effect depends on the order of a map, or on a clock", tries: most, hunt: round(mixedPlan{each: 10 * time.Second}, none)},
		{number: 10, what: "an unknown outcome sent again under a new number", tries: most, hunt: round(mixedPlan{each: 25 * time.Second}, "kill leader, start at once", "pause leader", "isolate leader")},
		{number: 11, what: "a vote and its term written in two steps", tries: most, hunt: (*hunter).killVoters},
		{number: 12, what: "an empty log accepted with an old identity", tries: 2, hunt: (*hunter).damageFiles},
		{number: 13, what: "a change that was answered E_UNAVAILABLE forgotten", tries: most, hunt: round(mixedPlan{each: 25 * time.Second, topics: 2000}, "kill leader", "isolate leader", "kill majority")},
	}
}

// bugs plants each bug in turn and hunts it.
func bugs(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("bugs", flag.ContinueOnError)
	only := fs.String("only", "", "`numbers` of the bugs, with commas; empty: all")
	seed := fs.Uint64("seed", rand.Uint64N(1<<32), "`number` that all that is random comes from")
	keep := fs.Bool("ledger", false, "add the run to the ledger")
	if err := fs.Parse(args); err != nil {
		return err
	}
	h, err := newHarness(ctx, *seed)
	if err != nil {
		return err
	}
	defer h.close()
	began, line := time.Now(), h.line("planted bugs", *seed)
	line.Counts, line.NotRun = map[string]int{}, map[string]string{}
	var missed, runs []int
	var failures []error
	for _, b := range bugList() {
		if *only != "" && !slices.Contains(strings.Split(*only, ","), strconv.Itoa(b.number)) {
			continue
		}
		if b.needs != nil {
			if why := b.needs(); why != nil {
				line.NotRun[b.name()] = why.Error()
				if err := notRun(b.name(), why); err != nil {
					return err
				}
				continue
			}
		}
		tries, err := h.hunt(b)
		if err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", b.name(), err))
		}
		if tries == 0 {
			missed = append(missed, b.number)
			continue
		}
		runs = append(runs, tries)
	}
	line.Counts["planted"], line.Counts["caught"] = len(runs)+len(missed), len(runs)
	for _, n := range runs {
		line.Counts["runs that it took to catch them"] += n
	}
	line.Minutes, line.Time = time.Since(began).Minutes(), time.Now().UTC().Format(time.RFC3339)
	fmt.Printf("%d of %d planted bugs caught, runs to catch each: %v\n", len(runs), len(runs)+len(missed), runs)
	if *keep {
		failures = append(failures, ledger.Append(h.root, line))
	}
	if len(missed) > 0 {
		failures = append(failures, fmt.Errorf("planted bugs that nothing found: %v", missed))
	}
	return errors.Join(failures...)
}

func (b bug) name() string { return fmt.Sprintf("S%d, %s", b.number, b.what) }

// hunt returns at which try the bug was found, 0 if it was not.
func (h *harness) hunt(b bug) (int, error) {
	tag := "seeded_s" + strconv.Itoa(b.number)
	binary, err := h.build("witness", tag)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	var errs []error // a bug may also break what looks for it
	for try := 1; try <= b.tries; try++ {
		p := &hunter{harness: h, bug: b, binary: binary}
		found, err := b.hunt(p, h.seed+uint64(100*b.number+try))
		if err != nil {
			fmt.Printf("%s: run %d broke: %.300v\n", b.name(), try, err)
			errs = append(errs, err)
		}
		if len(found) > 0 {
			fmt.Printf("%s: caught in run %d after %v: %.300s\n", b.name(), try, time.Since(began).Round(time.Second), found[0])
			return try, nil
		}
	}
	fmt.Printf("%s: NOT CAUGHT in %d runs, %v\n", b.name(), b.tries, time.Since(began).Round(time.Second))
	return 0, errors.Join(errs...)
}

// stopLeaders makes trials with leaders that are stopped.
func (p *hunter) stopLeaders(seed uint64) (found []string, err error) {
	const trials = 20
	part := &part{harness: p.harness, kind: "paused leader", binary: p.binary}
	trialsMade, err := part.pauseTrials(trials, seed)
	for _, example := range trialsMade.Examples {
		found = append(found, example.Error())
	}
	return found, err
}

func (p *hunter) cutPower(seed uint64) ([]string, error) {
	args := []string{"powercuts", "-first", "-n", "12", "-binary", p.binary, "-seed", strconv.FormatUint(seed, 10)}
	return p.expectFailure(args, "(power of") // a change lost, or a peer that does not come back
}

func (p *hunter) damageFiles(seed uint64) ([]string, error) {
	args := []string{"corruption", "-first", "-n", "60", "-binary", p.binary, "-seed", strconv.FormatUint(seed, 10)}
	return p.expectFailure(args, "promise broken")
}

// failSyncs makes syncs fail: the peer must stop, and be whole when it is started.
func (p *hunter) failSyncs(seed uint64) ([]string, error) {
	args := []string{"disks", "-first", "-n", "1", "-only", "fsync: EIO", "-binary", p.binary, "-seed", strconv.FormatUint(seed, 10)}
	return p.expectFailure(args, "promise broken")
}

// killVoters kills a process that writes votes, again and again, and looks for
// one whose term and candidate were parted.
func (p *hunter) killVoters(seed uint64) ([]string, error) {
	return p.votes(filepath.Join(p.dir, "votes-"+strconv.FormatUint(seed, 10)), "seeded_s"+strconv.Itoa(p.bug.number))
}
