package main

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// elsewhere are flags that other daemons have for what lookupd calls otherwise.
var elsewhere = map[string]string{
	"data-dir":         "data-path",
	"retry-join":       "join",
	"bootstrap":        "bootstrap-expect=1",
	"node-id":          "node-name",
	"bind":             "peer-address",
	"advertise":        "peer-advertise-address",
	"lookupd-tcp-addr": "tcp-address",
}

// explainFlag names the flag that was meant, if it can be told.
func explainFlag(err error, fs *flag.FlagSet) error {
	if errors.Is(err, flag.ErrHelp) {
		return err
	}
	text := err.Error()
	if name, ok := strings.CutPrefix(text, "flag provided but not defined: -"); ok {
		return fmt.Errorf("unknown flag -%s%s", name, didYouMean(strings.TrimPrefix(name, "-"), fs, "-"))
	}
	return err
}

// didYouMean returns "", or the nearest flag as a question; sep is what stands
// between its words there.
func didYouMean(name string, fs *flag.FlagSet, sep string) string {
	best, distance := elsewhere[name], 0
	if best == "" {
		distance = 4
		fs.VisitAll(func(f *flag.Flag) {
			if d := editDistance(name, f.Name); d < distance {
				best, distance = f.Name, d
			}
		})
	}
	if best == "" {
		return ""
	}
	if sep == "-" {
		best = "-" + best
	} else {
		best = strings.ReplaceAll(best, "-", sep)
	}
	return fmt.Sprintf(": did you mean %s?", best)
}

// editDistance is Levenshtein's, on bytes.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

func sortedKeys(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }
