package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// ci runs every part, each in a process of its own, in the sizes that fit into
// every change. A part that fails does not keep the others from running.
func ci(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("ci", flag.ContinueOnError)
	seed := fs.Uint64("seed", rand.Uint64N(1<<32), "`number` that all that is random comes from")
	if err := fs.Parse(args); err != nil {
		return err
	}
	h, err := newHarness(ctx, *seed)
	if err != nil {
		return err
	}
	defer h.close()
	began := time.Now()
	var failures []error
	var missing []string
	for _, part := range []string{
		"mixed -rounds 10 -round 15s",
		"powercuts -n 40",
		"corruption -n 60",
		"disks -only EIO",
		"paused -n 20",
		"bugs",
	} {
		words := append(strings.Fields(part), "-seed", strconv.FormatUint(*seed, 10))
		out, err := h.runSelf(words)
		if err != nil {
			failures = append(failures, fmt.Errorf("proof %s: %w", part, err))
		}
		for line := range strings.SplitSeq(out, "\n") {
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

// runSelf runs a verb in a process of its own and returns what it printed.
func (h *harness) runSelf(words []string) (string, error) {
	fmt.Printf("== proof %s\n", strings.Join(words, " "))
	began := time.Now()
	var out bytes.Buffer
	cmd := exec.CommandContext(h.ctx, h.self, words...)
	cmd.Stdout, cmd.Stderr = io.MultiWriter(os.Stdout, &out), io.MultiWriter(os.Stdout, &out)
	err := cmd.Run()
	fmt.Printf("== proof %s took %v\n", words[0], time.Since(began).Round(time.Second))
	return out.String(), err
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
