package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"
)

// lane is a list of parts that run one after another.
type lane []string

// stages are the parts of ci, in the sizes that fit into every change. The lanes
// of a stage run side by side: that of the disks mostly waits for them and for
// elections. Mixed rounds have the machine for themselves, because they fail if
// they get too little done.
var stages = [][]lane{
	{{"mixed -rounds 10 -round 15s"}},
	{{"bugs"}, {"powercuts -n 40", "corruption -n 60", "disks -only EIO", "paused -n 20"}},
}

// ci runs every part, each in a process of its own. A part that fails does not
// keep the others from running.
func ci(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("ci", flag.ContinueOnError)
	seed := fs.Uint64("seed", rand.Uint64N(1<<32), "`number` that all that is random comes from")
	keep := fs.Bool("ledger", false, "add each part to the ledger")
	if err := fs.Parse(args); err != nil {
		return err
	}
	h, err := newHarness(ctx, *seed)
	if err != nil {
		return err
	}
	defer h.close()
	began := time.Now()
	type result struct {
		part, out string
		err       error
	}
	results := make(chan result)
	go func() {
		defer close(results)
		for _, lanes := range stages {
			var running sync.WaitGroup
			for _, parts := range lanes {
				running.Go(func() {
					for _, part := range parts {
						out, err := h.runSelf(append(strings.Fields(part), "-seed", strconv.FormatUint(*seed, 10), fmt.Sprintf("-ledger=%t", *keep)))
						results <- result{part, out, err}
					}
				})
			}
			running.Wait()
		}
	}()
	var failures []error
	var missing []string
	for r := range results {
		if r.err != nil {
			failures = append(failures, fmt.Errorf("proof %s: %w: %s", r.part, r.err, saidLast(r.out)))
		}
		for line := range strings.SplitSeq(r.out, "\n") {
			if strings.HasPrefix(line, "NOT RUN") {
				missing = append(missing, line)
			}
		}
	}
	fmt.Printf("the proof took %v\n", time.Since(began).Round(time.Second))
	for _, line := range missing {
		fmt.Println(line)
	}
	if len(missing) > 0 {
		fmt.Printf("%d parts NOT RUN; LOOKUPD_FAULTS=require makes that a failure\n", len(missing))
	}
	return errors.Join(failures...)
}

// runSelf runs a verb in a process of its own and returns what it printed. Lines
// of verbs that run side by side do not mix.
func (h *harness) runSelf(words []string) (string, error) {
	fmt.Printf("== proof %s\n", strings.Join(words, " "))
	began := time.Now()
	var out bytes.Buffer
	whole := &wholeLines{verb: words[0]}
	both := io.MultiWriter(whole, &out)
	cmd := exec.CommandContext(h.ctx, h.self, words...)
	cmd.Stdout, cmd.Stderr = both, both // the same one, so that one goroutine writes
	err := cmd.Run()
	whole.flush()
	fmt.Printf("== proof %s took %v\n", words[0], time.Since(began).Round(time.Second))
	return out.String(), err
}

// saidLast returns what a verb said when it failed. Of a long run often the end
// alone is kept, so the reason has to stand there.
func saidLast(out string) string {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	const most = 20
	for i := len(lines) - 1; i >= 0; i-- {
		if reason, found := strings.CutPrefix(lines[i], errorPrefix); found {
			lines[i] = reason
			lines = lines[i:min(len(lines), i+most)]
			return strings.Join(lines, "\n")
		}
	}
	for i, line := range lines { // it crashed: the reason comes first
		if strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") {
			return strings.Join(lines[i:min(len(lines), i+most)], "\n")
		}
	}
	return strings.Join(lines[max(0, len(lines)-most):], "\n")
}

// wholeLines writes lines to the standard output, each behind the verb.
type wholeLines struct {
	verb string
	rest []byte
}

func (w *wholeLines) Write(b []byte) (int, error) {
	w.rest = append(w.rest, b...)
	for {
		line, rest, found := bytes.Cut(w.rest, []byte{'\n'})
		if !found {
			return len(b), nil
		}
		fmt.Printf("%s: %s\n", w.verb, line)
		w.rest = bytes.Clone(rest)
	}
}

func (w *wholeLines) flush() {
	if len(w.rest) > 0 {
		_, _ = w.Write([]byte{'\n'}) // never fails
	}
}

// expectFailure runs a verb and returns the lines in which it says what is wrong.
func (p *hunter) expectFailure(words []string, saying string) ([]string, error) {
	out, err := p.runSelf(words)
	if err == nil {
		return nil, nil
	}
	var found []string
	for line := range strings.SplitSeq(out, "\n") {
		if strings.Contains(line, saying) {
			found = append(found, line)
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("failed, but not of the bug: %w", err)
	}
	return found, nil
}
