// Package check says whether what clients saw in a round is what a registry may
// show that keeps lookupd's promises.
//
// It has two judges that know nothing of each other. The witness replays the
// entries that the peers applied, with a reference implementation, and compares
// every answer with the state at the index that it claims to rest on, and the
// indices with the order in which things happened. Porcupine is given the
// answers alone, without any index, and looks for one order of all operations
// on a topic that explains them; the log only tells it which of the changes
// with an unknown outcome took place, and in which order.
package check

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"

	"github.com/lookupd/lookupd/fsm"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
	"github.com/lookupd/lookupd/witness"
)

// Command is a command of the log that took effect: its batch was not a
// repetition, and not late.
type Command struct {
	Index, Term uint64
	Origin      registry.NodeID
	registry.Command
	// Refused is why the reference refuses it there, set by Witness.
	Refused error
}

// Log is what a cluster committed.
type Log struct {
	Entries  int
	Last     uint64
	Commands []Command // in order
	// Answered has the index behind each OK over V1, by host name and number.
	Answered map[AnswerKey]uint64
	// Hosts tells whose session is whose, by what IDENTIFY gave.
	Hosts map[registry.SessionID]string
	// Nodes tells which peer had the session of a host name: a peer that lost its
	// disk has another node id under the same name.
	Nodes map[string]registry.NodeID
	// OrphansEnd: sessions of a peer that is cut off for long may end in the round.
	OrphansEnd bool
	// Problems are contradictions between the peers.
	Problems []string
}

// AnswerKey names a change on a connection.
type AnswerKey struct {
	Hostname string
	N        int
}

// ReadLog reads the witnesses' notes, and the logs on the disks of peers that
// do not run, and puts them together.
func ReadLog(witnessDir string, dataDirs []string) (*Log, error) {
	l := &Log{Answered: map[AnswerKey]uint64{}, Hosts: map[registry.SessionID]string{}, Nodes: map[string]registry.NodeID{}}
	entries := map[uint64]witness.Entry{}
	err := witness.ReadApplied(witnessDir, func(file string, e witness.Entry) error {
		if old, ok := entries[e.Index]; !ok {
			entries[e.Index] = e
		} else if !same(old, e) {
			l.problem("%s applied another entry at index %d than another peer: term %d and %d", filepath.Base(file), e.Index, e.Term, old.Term)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for index := range entries {
		l.Last = max(l.Last, index)
	}
	for _, dir := range dataDirs {
		if err := l.compareDisk(dir, entries); err != nil {
			return nil, fmt.Errorf("%s: %w", dir, err)
		}
	}
	err = witness.ReadAnswered(witnessDir, func(a witness.Answer) error {
		l.Answered[AnswerKey{a.Hostname, a.N}] = a.Index
		return nil
	})
	if err != nil {
		return nil, err
	}
	return l, l.decode(entries)
}

func (l *Log) problem(format string, args ...any) {
	l.Problems = append(l.Problems, fmt.Sprintf(format, args...))
}

func same(a, b witness.Entry) bool {
	return a.Term == b.Term && a.Kind == b.Kind && bytes.Equal(a.Data, b.Data)
}

// compareDisk holds a stopped peer's log against what was applied: raft.db, read
// with raft-boltdb alone, and over it what the peer would find in its journal.
func (l *Log) compareDisk(dataDir string, entries map[uint64]witness.Entry) (err error) {
	journal, err := store.JournalEntries(dataDir)
	if err != nil {
		return err
	}
	db, err := raftboltdb.New(raftboltdb.Options{
		Path: filepath.Join(dataDir, "raft", "raft.db"), BoltOptions: &bbolt.Options{ReadOnly: true},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	first, err := db.FirstIndex()
	if err != nil {
		return err
	}
	last, err := db.LastIndex()
	if err != nil {
		return err
	}
	for index := range journal {
		last = max(last, index)
		if first == 0 || index < first {
			first = index
		}
	}
	if first == 0 {
		return nil
	}
	installed, err := newestSnapshot(dataDir)
	if err != nil {
		return err
	}
	for index := first; index <= min(last, l.Last); index++ {
		e, err := journal[index], error(nil)
		if e == nil {
			e = &raft.Log{}
			err = db.GetLog(index, e)
		}
		switch {
		case errors.Is(err, raft.ErrLogNotFound) && index <= installed:
			continue // raft leaves what it had before it was sent a snapshot
		case err != nil:
			return fmt.Errorf("entry %d, newest snapshot at %d: %w", index, installed, err)
		}
		applied, ok := entries[index]
		onDisk := witness.Entry{Index: index, Term: e.Term, Kind: uint8(e.Type), Data: e.Data}
		switch {
		case ok && !same(applied, onDisk):
			l.problem("%s holds another entry at index %d than was applied", filepath.Base(dataDir), index)
		case !ok && e.Type == raft.LogCommand:
			l.problem("%s holds a command at index %d that nobody applied, though later ones were", filepath.Base(dataDir), index)
		}
	}
	return nil
}

// newestSnapshot returns the index of a stopped peer's newest snapshot, 0 if it
// has none.
func newestSnapshot(dataDir string) (uint64, error) {
	files, err := raft.NewFileSnapshotStore(filepath.Join(dataDir, "raft"), 1, io.Discard)
	if err != nil {
		return 0, err
	}
	list, err := files.List()
	if err != nil || len(list) == 0 {
		return 0, err
	}
	return list[0].Index, nil
}

func (l *Log) decode(entries map[uint64]witness.Entry) error {
	indices := make([]uint64, 0, len(entries))
	for index := range entries {
		indices = append(indices, index)
	}
	slices.Sort(indices)
	l.Entries = len(indices)
	type position struct{ epoch, number uint64 }
	latest := map[registry.NodeID]position{}
	for _, index := range indices {
		e := entries[index]
		if raft.LogType(e.Kind) != raft.LogCommand {
			continue
		}
		b, err := fsm.DecodeBatch(e.Data)
		if err != nil {
			return fmt.Errorf("entry %d: %w", index, err)
		}
		if b.Origin != "" {
			was, now := latest[b.Origin], position{b.Epoch, b.Number}
			if now.epoch < was.epoch || now.epoch == was.epoch && now.number <= was.number {
				continue // a repetition, or late
			}
			latest[b.Origin] = now
		}
		for _, c := range b.Commands {
			l.Commands = append(l.Commands, Command{Index: index, Term: e.Term, Origin: b.Origin, Command: c})
			if open, ok := c.(registry.OpenSession); ok {
				l.Hosts[open.Session] = open.Producer.Hostname
				l.Nodes[open.Producer.Hostname] = open.Session.Node
			}
		}
	}
	return nil
}
