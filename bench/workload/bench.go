// Package workload says what is done to the targets and what is noted of it.
//
// Systems that are compared are measured in turn, one sample of each per round,
// so that what else the machine does meets all of them.
package workload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/lookupd/lookupd/bench/load"
	"github.com/lookupd/lookupd/bench/report"
	"github.com/lookupd/lookupd/bench/target"
)

// Bench is one run.
type Bench struct {
	Window   load.Window // of each sample
	Dir      string      // for all data
	Binaries target.Binaries
	Run      *report.Run // takes what is measured
	Log      io.Writer   // takes a line per step
	Quick    bool        // waits are short too
	only     []string
}

// group is parts that share targets and data.
type group struct {
	parts []string
	run   func(*Bench, context.Context) error
}

func groups() []group {
	return []group{
		{[]string{"lookup", "lists", "mixed"}, (*Bench).reads},
		{[]string{"register", "repeat", "serial", "storm"}, (*Bench).writes},
		{[]string{"isolated"}, (*Bench).isolated},
		{[]string{"idle"}, (*Bench).idle},
		{[]string{"kill"}, (*Bench).kills},
		{[]string{"huge"}, (*Bench).huge},
	}
}

// Parts names all that can be measured.
func Parts() []string {
	var parts []string
	for _, g := range groups() {
		parts = append(parts, g.parts...)
	}
	return parts
}

// ParseParts splits a list with commas and checks its words; "" means all.
func ParseParts(list string) ([]string, error) {
	if list == "" {
		return Parts(), nil
	}
	words := strings.Split(list, ",")
	for _, w := range words {
		if !slices.Contains(Parts(), w) {
			return nil, fmt.Errorf("there is no part %q; parts are %s", w, strings.Join(Parts(), ", "))
		}
	}
	return words, nil
}

// Do measures the parts and calls done after each group of them. What fails is
// noted, and the rest goes on.
func (b *Bench) Do(ctx context.Context, parts []string, done func() error) error {
	b.only = parts
	var errs []error
	for _, g := range groups() {
		if !slices.ContainsFunc(g.parts, b.wants) || ctx.Err() != nil {
			continue
		}
		if err := g.run(b, ctx); err != nil {
			err = fmt.Errorf("%s: %w", strings.Join(g.parts, ", "), err)
			b.note("FAILED: " + err.Error())
			errs = append(errs, err)
		}
		if err := done(); err != nil {
			return err
		}
	}
	return errors.Join(append(errs, ctx.Err())...)
}

func (b *Bench) wants(part string) bool { return slices.Contains(b.only, part) }

func (b *Bench) logf(format string, args ...any) {
	fmt.Fprintf(b.Log, "%s  %s\n", time.Now().Format(time.TimeOnly), fmt.Sprintf(format, args...))
}

// note adds a line to the report.
func (b *Bench) note(line string) {
	b.logf("%s", line)
	b.Run.Notes = append(b.Run.Notes, line)
}

// withFleet runs do with targets that end with it.
func (b *Bench) withFleet(do func(*target.Fleet) error) error {
	fleet, err := target.NewFleet(b.Dir, b.Binaries)
	if err != nil {
		return err
	}
	return errors.Join(do(fleet), fleet.Close())
}

// pause waits.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
