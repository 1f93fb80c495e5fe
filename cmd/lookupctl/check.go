package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/lookupd/lookupd/httpapi"
)

const checkName = "check"

// Exit codes of check: Nagios'.
const (
	checkOK      = 0
	checkWarn    = 1
	checkCrit    = 2
	checkUnknown = 3
)

const (
	probeWithin = time.Second // for one address
	probesAtOne = 32          // under way
	namedProbes = 10          // addresses that one rule names
)

// Formats of check.
var checkFormats = []string{"text", "json", "prometheus", "nagios"}

type checkOptions struct {
	*options
	format string
	expect int
	probe  bool
}

func newCheck(o *options) *cobra.Command {
	c := &checkOptions{options: o}
	var local, quiet bool
	cmd := &cobra.Command{
		Use:   checkName,
		Short: "Says what is wrong, what it means and what to do",
		Long: "Says what is wrong, what it means and what to do: what the peer that is asked finds, and whether each\n" +
			"peer and each nsqd answers from here at the address that it announces.\n" +
			"Exit codes: 0 ok, 1 warning, 2 critical, 3 unknown.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if quiet {
				o.out = io.Discard
			}
			if local {
				return o.checkLocal(cmd.Context())
			}
			return asUnknown(c.check(cmd.Context()))
		},
	}
	f := cmd.Flags()
	f.BoolVar(&local, "local", false, "only whether the peer itself serves; for health checks of containers")
	f.BoolVarP(&quiet, "quiet", "q", false, "print nothing, the exit code says it")
	f.StringVar(&c.format, "format", "", strings.Join(checkFormats, ", ")+" (default text, or what -o says)")
	f.IntVar(&c.expect, "expect", 0, "number of peers that there must be")
	f.BoolVar(&c.probe, "probe", true, "ask peers and nsqds from here whether they answer where they say")
	return o.watchable(cmd)
}

// asUnknown makes an error of check Nagios' unknown.
func asUnknown(err error) error {
	var exit exitError
	if err == nil || errors.As(err, &exit) && exit.message == "" {
		return err
	}
	return exitError{checkUnknown, err.Error()}
}

func (o *options) checkLocal(ctx context.Context) error {
	err := o.localStatus(ctx)
	switch {
	case err == nil:
		return nil
	case errors.As(err, new(exitError)):
		return exitError{code: checkCrit}
	}
	return exitError{checkCrit, err.Error()}
}

func (c *checkOptions) check(ctx context.Context) error {
	if c.format == "" {
		c.format = checkFormats[0]
		if c.output == formatJSON {
			c.format = formatJSON
		}
	}
	if !slices.Contains(checkFormats, c.format) {
		return usageError{fmt.Errorf("--format %q: want one of %s", c.format, strings.Join(checkFormats, ", "))}
	}
	var document httpapi.Check
	if _, err := c.document(ctx, "/v1/check", "a check", &document); err != nil {
		return err
	}
	findings, err := c.own(ctx)
	if err != nil {
		return err
	}
	for _, f := range findings {
		document.Add(f)
	}
	c.printCheck(document)
	return exitError{code: map[httpapi.Level]int{httpapi.LevelOK: checkOK, httpapi.LevelWarn: checkWarn, httpapi.LevelCrit: checkCrit}[document.Level]}
}

// own is what only the place from which it is asked can find.
func (c *checkOptions) own(ctx context.Context) (findings []httpapi.Finding, err error) {
	_, s, err := c.statusDocument(ctx)
	if err != nil {
		return nil, err
	}
	members := 0
	peers := map[string]string{} // address -> who
	for _, p := range s.Peers {
		if p.Role != "joining" {
			members++
		}
		if p.HTTPAddress != "" {
			peers[p.HTTPAddress] = p.Name
		}
	}
	if c.expect > 0 && members != c.expect {
		findings = append(findings, httpapi.Finding{
			Rule: "expected", Level: httpapi.LevelCrit, What: fmt.Sprintf("%d peers are members, %d are expected", members, c.expect),
			Next: "start the missing ones with -join, or correct --expect",
		})
	}
	if !c.probe {
		return findings, nil
	}
	findings = append(findings, probe(ctx, "reachable", peers, c.timeout, httpapi.Finding{
		Impact: "who is where this check runs cannot use it", Next: "give it a -broadcast-address that is reachable from here, or run the check elsewhere",
	})...)
	stale := *c.options
	stale.stale, stale.err = true, io.Discard // without a quorum too
	d, err := stale.allProducers(ctx, "", "")
	if err != nil {
		return append(findings, httpapi.Finding{Rule: "nsqds", Level: httpapi.LevelWarn, What: "the nsqds are not known: " + err.Error()}), nil
	}
	nsqds := map[string]string{}
	for _, p := range d.Producers {
		nsqds[p.httpAddress()] = p.ID
	}
	return append(findings, probe(ctx, "nsqds", nsqds, c.timeout, httpapi.Finding{
		Impact: "consumers elsewhere may not reach it either", Next: "give that nsqd a -broadcast-address that resolves and is reachable",
	})...), nil
}

// probe asks GET /ping of each address, for as long as it has time, and returns
// a finding like kind for each that does not answer.
func probe(ctx context.Context, rule string, addresses map[string]string, timeout time.Duration, kind httpapi.Finding) (findings []httpapi.Finding) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var mu sync.Mutex
	var all sync.WaitGroup
	bad := map[string]string{}
	skipped := 0
	turns := make(chan struct{}, probesAtOne)
	for address, who := range addresses {
		turns <- struct{}{}
		all.Go(func() {
			defer func() { <-turns }()
			err := httpapi.Ping(ctx, address, probeWithin)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case ctx.Err() != nil:
				skipped++
			case err != nil:
				bad[who] = fmt.Sprintf("%s does not answer at %s: %v", who, address, err)
			}
		})
	}
	all.Wait()
	for _, who := range sorted(bad) {
		if len(findings) == namedProbes {
			findings = append(findings, httpapi.Finding{Rule: rule, Level: httpapi.LevelWarn, What: fmt.Sprintf("and %d more", len(bad)-namedProbes)})
			break
		}
		f := kind
		f.Rule, f.Level, f.Subject, f.What = rule, httpapi.LevelWarn, who, bad[who]
		findings = append(findings, f)
	}
	if skipped > 0 {
		findings = append(findings, httpapi.Finding{
			Rule: rule, Level: httpapi.LevelWarn, What: fmt.Sprintf("%d addresses were not asked in time", skipped), Next: "give a longer --timeout",
		})
	}
	if len(findings) == 0 {
		findings = []httpapi.Finding{{Rule: rule, Level: httpapi.LevelOK, What: fmt.Sprintf("%d of %d answer from here", len(addresses), len(addresses))}}
	}
	return findings
}

// labelValue escapes what stands in quotes in Prometheus' text.
var labelValue = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)

func (c *checkOptions) printCheck(d httpapi.Check) {
	switch c.format {
	case formatJSON:
		_ = c.printAsJSON(d) // it holds texts and numbers
	case "prometheus":
		fmt.Fprintln(c.out, "# HELP lookupd_check What lookupctl check finds: 0 ok, 1 warning, 2 critical.\n# TYPE lookupd_check gauge")
		told := map[string]bool{}
		for _, f := range d.Findings { // the worst first
			series := fmt.Sprintf("lookupd_check{rule=\"%s\",subject=\"%s\"}", labelValue.Replace(f.Rule), labelValue.Replace(f.Subject))
			if told[series] {
				continue // Prometheus refuses all of a text that tells one twice
			}
			told[series] = true
			fmt.Fprintln(c.out, series, map[httpapi.Level]int{httpapi.LevelWarn: 1, httpapi.LevelCrit: 2}[f.Level])
		}
	case "nagios":
		word := map[httpapi.Level]string{httpapi.LevelOK: "OK", httpapi.LevelWarn: "WARNING", httpapi.LevelCrit: "CRITICAL"}[d.Level]
		line := "LOOKUPD " + word + " - " + d.Sentence
		for _, f := range d.Findings {
			if f.Level != httpapi.LevelOK {
				line += "; " + f.What
			}
		}
		fmt.Fprintln(c.out, strings.ReplaceAll(line, "|", "/"))
	default:
		fmt.Fprintln(c.out, d.Sentence)
		for _, f := range d.Findings {
			fmt.Fprintf(c.out, "%s%*s  %-12s  %s\n", c.painted(string(f.Level)), len(httpapi.LevelCrit)-len(f.Level), "", f.Rule, f.What)
			for _, more := range []string{f.Impact, f.Next} {
				if more != "" {
					fmt.Fprintf(c.out, "%20s-> %s\n", "", more)
				}
			}
		}
	}
}

func sorted(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
