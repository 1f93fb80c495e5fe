// Package ledger keeps the books on all runs: a line for each in a file that is
// committed, and the totals in the page about reliability. What stands there was
// counted by the harness; nothing is written by hand.
package ledger

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Line is one run.
type Line struct {
	Time    string  `json:"time"` // when it ended, RFC 3339
	Kind    string  `json:"kind"`
	Commit  string  `json:"commit"` // with "+" if the tree was changed
	Seed    uint64  `json:"seed"`
	Minutes float64 `json:"minutes"`

	// Of mixed rounds.
	Rounds            int                       `json:"rounds,omitempty"`
	Secure            int                       `json:"secure_rounds,omitempty"` // with mutual TLS and a gossip key
	Seconds           float64                   `json:"seconds,omitempty"`       // with load, of all rounds
	Thin              int                       `json:"thin_rounds,omitempty"`   // that tested less than they had to
	Peers             []int                     `json:"peers,omitempty"`
	Ops               map[string]map[string]int `json:"ops,omitempty"` // by kind and outcome
	Witness           int                       `json:"witness,omitempty"`
	Porcupine         int                       `json:"porcupine,omitempty"`
	Entries           int                       `json:"entries,omitempty"`
	Faults            map[string]int            `json:"faults,omitempty"`
	ReadsDuringFaults int                       `json:"reads_during_faults,omitempty"`

	// Of other kinds: what was counted, such as cuts, trials or bugs.
	Counts map[string]int `json:"counts,omitempty"`

	NotRun     map[string]string `json:"not_run,omitempty"` // and why
	Problems   []string          `json:"problems,omitempty"`
	Violations []string          `json:"violations"`
}

// Verdict is "ok" for a run that found nothing.
func (l *Line) Verdict() string {
	if len(l.Violations) > 0 {
		return fmt.Sprintf("%d violations", len(l.Violations))
	}
	return "ok"
}

// File is where the lines stand, below the repository's root.
const File = "docs/reliability/ledger.jsonl"

// Append adds a line to the ledger of the repository at root.
func Append(root string, line Line) error {
	if line.Violations == nil {
		line.Violations = []string{}
	}
	data, err := json.Marshal(line)
	if err != nil {
		return err
	}
	path := filepath.Join(root, File)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if _, err := file.Write(append(data, '\n')); err != nil {
		_ = file.Close()
		return err
	}
	return file.Close()
}

// Read returns all lines of the repository at root.
func Read(root string) ([]Line, error) {
	data, err := os.ReadFile(filepath.Join(root, File))
	if err != nil {
		return nil, err
	}
	var lines []Line
	scanner := bufio.NewScanner(bytes.NewReader(data))
	scanner.Buffer(nil, 16<<20)
	for scanner.Scan() {
		var line Line
		if err := json.Unmarshal(scanner.Bytes(), &line); err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", File, len(lines)+1, err)
		}
		lines = append(lines, line)
	}
	return lines, scanner.Err()
}

// Commit names the state of the repository at root, "unknown" outside of git.
func Commit(root string) string {
	git := func(args ...string) (string, error) {
		cmd := exec.Command("git", append([]string{"-C", root}, args...)...)
		out, err := cmd.Output()
		return strings.TrimSpace(string(out)), err
	}
	commit, err := git("rev-parse", "--short=12", "HEAD")
	if err != nil {
		return "unknown"
	}
	if changed, err := git("status", "--porcelain", "--", ":!"+File); err != nil || changed != "" {
		commit += "+"
	}
	return commit
}
