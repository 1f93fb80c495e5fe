package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lookupd/lookupd/proof/ledger"
)

const (
	page        = "docs/reliability.md"
	beginMarker = "<!-- begin of what proof report writes -->"
	endMarker   = "<!-- end of what proof report writes -->"
)

// report writes the sums of the ledger into the page about reliability.
func report(ctx context.Context, args []string) error {
	if len(args) > 0 {
		return errors.New("usage: proof report")
	}
	h, err := newHarness(ctx, 0)
	if err != nil {
		return err
	}
	defer h.close()
	lines, err := ledger.Read(h.root)
	if err != nil {
		return err
	}
	path := filepath.Join(h.root, page)
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(text), beginMarker)
	_, after, ok2 := strings.Cut(rest, endMarker)
	if !ok || !ok2 {
		return fmt.Errorf("%s lacks its markers", page)
	}
	return os.WriteFile(path, []byte(before+beginMarker+"\n"+figures(lines)+endMarker+after), 0o644)
}

// figures renders sums and runs as Markdown.
func figures(lines []ledger.Line) string {
	var b strings.Builder
	sum := ledger.Line{Ops: map[string]map[string]int{}, Faults: map[string]int{}}
	counts := map[string]map[string]int{}
	violations := 0
	for _, l := range lines {
		violations += len(l.Violations)
		sum.Minutes += l.Minutes
		sum.Rounds, sum.Thin, sum.Secure = sum.Rounds+l.Rounds, sum.Thin+l.Thin, sum.Secure+l.Secure
		sum.Witness, sum.Porcupine = sum.Witness+l.Witness, sum.Porcupine+l.Porcupine
		sum.ReadsDuringFaults += l.ReadsDuringFaults
		for kind, outcomes := range l.Ops {
			for outcome, n := range outcomes {
				if sum.Ops[kind] == nil {
					sum.Ops[kind] = map[string]int{}
				}
				sum.Ops[kind][outcome] += n
			}
		}
		for kind, n := range l.Faults {
			sum.Faults[kind] += n
		}
		for what, n := range l.Counts {
			if counts[l.Kind] == nil {
				counts[l.Kind] = map[string]int{}
			}
			counts[l.Kind][what] += n
		}
	}
	fmt.Fprintf(&b, "\nSum of %d runs, %.0f minutes: **%d violations**.\n\n", len(lines), sum.Minutes, violations)
	fmt.Fprintf(&b, "Mixed rounds: %d (%d of them thin, %d with mutual TLS between peers), %d operations checked by the witness, %d by porcupine, %d reads answered during faults.\n\n",
		sum.Rounds, sum.Thin, sum.Secure, sum.Witness, sum.Porcupine, sum.ReadsDuringFaults)
	table(&b, []string{"operation", "ok", "not-found", "unknown", "failed"}, sum.Ops)
	b.WriteString("| fault that took effect | times |\n|---|---|\n")
	for _, kind := range slices.Sorted(maps.Keys(sum.Faults)) {
		fmt.Fprintf(&b, "| %s | %d |\n", kind, sum.Faults[kind])
	}
	for _, kind := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(&b, "\n| %s | sum |\n|---|---|\n", kind)
		for _, what := range slices.Sorted(maps.Keys(counts[kind])) {
			fmt.Fprintf(&b, "| %s | %d |\n", what, counts[kind][what])
		}
	}
	b.WriteString("\n| ended | run | commit | seed | minutes | verdict |\n|---|---|---|---|---|---|\n")
	for _, l := range lines {
		fmt.Fprintf(&b, "| %s | %s | %s | %d | %.0f | %s |\n", l.Time, l.Kind, l.Commit, l.Seed, l.Minutes, l.Verdict())
	}
	b.WriteString("\n")
	return b.String()
}

func table(b *strings.Builder, columns []string, rows map[string]map[string]int) {
	fmt.Fprintf(b, "| %s |\n|%s\n", strings.Join(columns, " | "), strings.Repeat("---|", len(columns)))
	for _, row := range slices.Sorted(maps.Keys(rows)) {
		fmt.Fprintf(b, "| %s |", row)
		for _, column := range columns[1:] {
			fmt.Fprintf(b, " %d |", rows[row][column])
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
}
