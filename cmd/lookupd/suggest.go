package main

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/lookupd/lookupd/cmd/internal/nearest"
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
	best := elsewhere[name]
	if best == "" {
		const typos = 3
		var names []string
		fs.VisitAll(func(f *flag.Flag) { names = append(names, f.Name) })
		best = nearest.Of(name, names, typos)
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

func sortedKeys(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }
