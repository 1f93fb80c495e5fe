package store_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/lookupd/lookupd/store"
)

// smallJournal is full soon.
var smallJournal = store.JournalLimits{Sectors: 16, FlushSectors: 9, FlushEntries: 12}

// journalRun drives a journal beside a map that says what must be in it.
type journalRun struct {
	*machine
	log   store.Backend
	want  map[uint64]string
	term  uint64
	trace []string
}

func newJournalRun(seed uint64) (*journalRun, error) {
	r := &journalRun{machine: newMachine(rand.New(rand.NewPCG(seed, 1))), want: map[uint64]string{}}
	return r, r.open()
}

func (r *journalRun) note(format string, args ...any) {
	r.trace = append(r.trace, fmt.Sprintf(format, args...))
}

// open opens the journal, for reading first, and compares.
func (r *journalRun) open() (err error) {
	before := r.steps
	for _, readOnly := range []bool{true, false} {
		if r.log, err = store.OpenJournaled(r.db, r.journal, smallJournal, readOnly); err != nil {
			return err
		}
	}
	if r.steps != before {
		return errors.New("opening has written")
	}
	return nil
}

func (r *journalRun) ends(of map[uint64]string) (first, last uint64) {
	if len(of) == 0 {
		return 0, 0
	}
	indexes := slices.Sorted(maps.Keys(of))
	return indexes[0], indexes[len(indexes)-1]
}

// differs says how the log differs from what it should hold.
func (r *journalRun) differs(want map[uint64]string) error {
	wantFirst, wantLast := r.ends(want)
	first, err := r.log.FirstIndex()
	if err != nil || first != wantFirst {
		return fmt.Errorf("first index %d and not %d, %v", first, wantFirst, err)
	}
	last, err := r.log.LastIndex()
	if err != nil || last != wantLast {
		return fmt.Errorf("last index %d and not %d, %v", last, wantLast, err)
	}
	for index := range wantLast + 8 {
		var e raft.Log
		err := r.log.GetLog(index, &e)
		content, ok := want[index]
		switch {
		case !ok && err == raft.ErrLogNotFound: //nolint:errorlint // raft compares so
		case !ok || err != nil || e.Index != index || text(&e) != content:
			return fmt.Errorf("entry %d is %.80q and should be %.80q, %v", index, text(&e), content, err)
		}
	}
	return nil
}

func text(e *raft.Log) string {
	return fmt.Sprintf("%d %d %s %s", e.Term, e.Type, e.Data, e.Extensions)
}

// change is one call and what it leads to.
type change struct {
	what string
	call func(store.Backend) error
	want map[uint64]string
}

func (r *journalRun) storing(first uint64, count, size int) change {
	c := change{what: fmt.Sprintf("store %d from %d with %d bytes", count, first, size), want: maps.Clone(r.want)}
	var entries []*raft.Log
	for i := range uint64(count) {
		e := command(first+i, r.term, strings.Repeat(string(rune('a'+r.rng.IntN(26))), size))
		if r.rng.IntN(3) == 0 {
			clear(e.Data) // sectors of zeros
		}
		e.Extensions = []byte("seal")
		entries = append(entries, e)
		c.want[e.Index] = text(e)
	}
	c.call = func(b store.Backend) error { return b.StoreLogs(entries) }
	return c
}

func (r *journalRun) deleting(first, last uint64) change {
	c := change{what: fmt.Sprintf("delete %d to %d", first, last), want: maps.Clone(r.want)}
	maps.DeleteFunc(c.want, func(index uint64, _ string) bool { return index >= first && index <= last })
	c.call = func(b store.Backend) error { return b.DeleteRange(first, last) }
	return c
}

// any draws a change as raft makes them.
func (r *journalRun) any() change {
	first, last := r.ends(r.want)
	switch n := r.rng.IntN(20); {
	case n < 10:
		return r.storing(last+1, 1+r.rng.IntN(3), r.rng.IntN(600))
	case n < 12:
		return r.storing(last+1, 1+r.rng.IntN(14), r.rng.IntN(900)) // may be larger than the journal
	case n < 14 && last > 0: // another leader's entries
		r.term++
		return r.deleting(first+r.rng.Uint64N(last-first+1), last)
	case n < 16 && last > 0:
		return r.deleting(first, first+r.rng.Uint64N(last-first+1))
	case n < 17: // behind a snapshot that was installed
		return r.storing(last+2+r.rng.Uint64N(3), 1, 20)
	case n < 18:
		return r.deleting(last+1, last+5)
	case n < 19:
		return change{what: "set", want: r.want, call: func(b store.Backend) error { return b.Set([]byte("k"), []byte("v")) }}
	}
	return change{what: "close", want: r.want, call: func(b store.Backend) error {
		if err := b.Close(); err != nil {
			return err
		}
		return r.open()
	}}
}

// make makes a change. After a crash the change is there or it is not.
func (r *journalRun) make(c change) error {
	r.note("%s", c.what)
	err := c.call(r.log)
	if err == nil {
		r.want = c.want
		return r.differs(r.want)
	}
	for errors.Is(err, errCrash) {
		err = r.startAgain(c)
	}
	return err
}

// startAgain is what a start does up to its first write, which may crash too:
// until that is done nobody was told what the log holds.
func (r *journalRun) startAgain(c change) error {
	if r.rng.IntN(4) == 0 {
		r.note("killed")
		r.kill()
	} else {
		r.note("power cut")
		r.powerCut()
	}
	if r.rng.IntN(4) == 0 {
		r.crashAt = r.steps + 1 + r.rng.IntN(6)
	}
	if err := r.open(); err != nil {
		return fmt.Errorf("open: %w", err)
	}
	without, with := r.differs(r.want), r.differs(c.want)
	if without != nil && with != nil {
		return fmt.Errorf("neither without it: %w, nor with it: %w", without, with)
	}
	if err := r.log.Set([]byte("epoch"), nil); err != nil {
		return err
	}
	if with == nil {
		r.want = c.want
	}
	return r.differs(r.want)
}

// Whatever raft does and wherever crashes come, the log is what was acknowledged.
// JOURNAL_SEED runs one history alone.
func TestJournalHistories(t *testing.T) {
	seeds := make([]uint64, 600)
	base := rand.Uint64()
	for i := range seeds {
		seeds[i] = base + uint64(i)
	}
	if s, err := strconv.ParseUint(os.Getenv("JOURNAL_SEED"), 10, 64); err == nil {
		seeds = []uint64{s}
	}
	for _, seed := range seeds {
		r, err := newJournalRun(seed)
		for n := 0; err == nil && n < 60; n++ {
			if r.crashAt == 0 && r.rng.IntN(3) == 0 {
				r.crashAt = r.steps + 1 + r.rng.IntN(8)
			}
			err = r.make(r.any())
		}
		if err != nil {
			t.Fatalf("JOURNAL_SEED=%d: %v, after\n%s", seed, err, strings.Join(r.trace, "\n"))
		}
	}
}

// A crash between each pair of steps, with what was not synced lost in many ways.
func TestJournalCrashEverywhere(t *testing.T) {
	script := func(r *journalRun) []func() change {
		return []func() change{
			func() change { return r.storing(1, 1, 100) },
			func() change { return r.storing(2, 2, 700) },
			func() change { return r.deleting(3, 3) }, // in the journal
			func() change { r.term++; return r.storing(3, 3, 300) },
			func() change { return r.storing(6, 4, 500) },
			func() change { return r.storing(10, 2, 900) }, // it is full
			func() change { return r.deleting(1, 5) },
			func() change { return r.storing(12, 12, 900) }, // larger than the journal
			func() change { return r.storing(24, 1, 10) },
			func() change { return r.deleting(6, 24) },
			func() change { return r.storing(30, 1, 10) },
		}
	}
	for crashAt := 1; ; crashAt++ {
		reached := false
		for seed := range uint64(40) {
			r, err := newJournalRun(seed)
			must(t, err)
			r.crashAt = crashAt
			for _, next := range script(r) {
				if err := r.make(next()); err != nil {
					t.Fatalf("crash at step %d, seed %d: %v, after\n%s", crashAt, seed, err, strings.Join(r.trace, "\n"))
				}
			}
			reached = reached || r.steps >= crashAt && slices.ContainsFunc(r.trace, func(s string) bool { return s == "power cut" })
		}
		if !reached || crashAt > 1000 {
			if crashAt < 40 {
				t.Fatalf("the script has %d steps", crashAt)
			}
			return
		}
	}
}
