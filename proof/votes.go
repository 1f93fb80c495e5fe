package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/lookupd/lookupd/store"
	"github.com/lookupd/lookupd/supervisor"
)

// Raft's names of what it remembers of its last vote.
const (
	voteTerm      = "LastVoteTerm"
	voteCandidate = "LastVoteCand"
)

// votesPerTry is how often the writer of votes is killed.
const votesPerTry = 20

// votes kills, at random moments, a process that writes votes through the log of
// package store as raft does, and returns what is wrong with the vote that is
// left. The writer is built with tags, so that the store has the bug.
func (h *harness) votes(dir string, tags string) (found []string, err error) {
	writer := filepath.Join(h.dir, "writer-"+tags)
	build := exec.CommandContext(h.ctx, "go", "build", "-tags", "hashicorpmetrics,"+tags, "-o", writer, ".")
	build.Dir = filepath.Join(h.root, "proof")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the writer of votes: %w\n%s", err, out)
	}
	p := h.group.NewProcess(supervisor.Spec{Name: "votes", Path: writer, Args: []string{"votes", dir}, Log: dir + ".log"})
	random := rand.New(rand.NewPCG(h.seed, 2))
	for range votesPerTry {
		if err := p.Start(); err != nil {
			return found, err
		}
		time.Sleep(100*time.Millisecond + time.Duration(random.Int64N(int64(200*time.Millisecond)))) // any moment is as good
		if err := p.Kill(); err != nil {
			return found, err
		}
		term, candidate, err := readVote(dir)
		if err != nil {
			return found, err
		}
		if candidate != candidateOf(term) {
			return append(found, fmt.Sprintf("after a kill the vote in term %d is for %q, it was given to %q", term, candidate, candidateOf(term))), nil
		}
	}
	return found, nil
}

func candidateOf(term uint64) string {
	if term == 0 {
		return ""
	}
	return "candidate-" + strconv.FormatUint(term, 10)
}

// openVotes opens a log and hands it to use.
func openVotes(dir string, use func(*store.Log) error) (err error) {
	d, err := store.OpenDir(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	id, found, err := d.LoadIdentity()
	if err == nil && !found {
		id, err = store.NewIdentity("votes")
	}
	if err != nil {
		return err
	}
	log, err := d.OpenLog(store.LogConfig{OnFatal: func(err error) { panic(err) }})
	if err != nil {
		return err
	}
	if _, err = d.NextEpoch(id, log); err == nil {
		err = use(log)
	}
	return errors.Join(err, log.Close())
}

func readVote(dir string) (term uint64, candidate string, err error) {
	err = openVotes(dir, func(log *store.Log) error {
		var err error
		if term, err = log.GetUint64([]byte(voteTerm)); err != nil {
			return nil // no vote yet
		}
		name, err := log.Get([]byte(voteCandidate))
		candidate = string(name)
		return err
	})
	return term, candidate, err
}

// writeVotes is the process that votes gives one vote after the other.
func writeVotes(_ context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("usage: proof votes DIRECTORY")
	}
	term, _, err := readVote(args[0])
	if err != nil {
		return err
	}
	return openVotes(args[0], func(log *store.Log) error {
		for {
			term++
			if err := log.SetUint64([]byte(voteTerm), term); err != nil {
				return err
			}
			if err := log.Set([]byte(voteCandidate), []byte(candidateOf(term))); err != nil {
				return err
			}
		}
	})
}
