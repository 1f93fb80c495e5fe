package store

import (
	"encoding/binary"
	"errors"
	"fmt"

	raftboltdb "github.com/hashicorp/raft-boltdb/v2"

	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/seeded"
)

// Keys that raft uses, and ours.
const (
	keyCurrentTerm = "CurrentTerm"
	keyVoteTerm    = "LastVoteTerm"
	keyVoteFor     = "LastVoteCand"

	// keyVote holds the vote: the term, 8 bytes big endian, and the candidate.
	keyVote = "lookupd.vote"
	// keyOwner holds who writes this log: a format byte, the epoch, 8 bytes big
	// endian, and the node id.
	keyOwner    = "lookupd.owner"
	ownerFormat = 1
)

var errVoteWithoutTerm = errors.New("vote for a candidate without a term")

// owner is the peer that writes the log, and its start.
type owner struct {
	Node  registry.NodeID
	Epoch uint64
}

// Set implements raft.StableStore. Raft stores a vote's term first and its
// candidate then; here both become durable with the candidate.
func (l *Log) Set(key, value []byte) error {
	if string(key) != keyVoteFor {
		return l.setValue(key, value)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.voteTerm == 0 {
		return errVoteWithoutTerm
	}
	vote := binary.BigEndian.AppendUint64(nil, l.voteTerm)
	if err := l.setValue([]byte(keyVote), append(vote, value...)); err != nil {
		return err
	}
	l.voteTerm = 0
	return nil
}

// Get implements raft.StableStore.
func (l *Log) Get(key []byte) ([]byte, error) {
	if string(key) != keyVoteFor {
		return l.value(key)
	}
	_, candidate, err := l.vote()
	return candidate, err
}

// SetUint64 implements raft.StableStore.
func (l *Log) SetUint64(key []byte, value uint64) error {
	if string(key) != keyVoteTerm {
		return l.setValue(key, binary.BigEndian.AppendUint64(nil, value))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.voteTerm = value
	if seeded.VoteInTwoSteps {
		if _, before, err := l.vote(); err == nil {
			return l.setValue([]byte(keyVote), append(binary.BigEndian.AppendUint64(nil, value), before...))
		}
	}
	return nil
}

// GetUint64 implements raft.StableStore.
func (l *Log) GetUint64(key []byte) (uint64, error) {
	if string(key) == keyVoteTerm {
		term, _, err := l.vote()
		return term, err
	}
	value, err := l.value(key)
	if err != nil {
		return 0, err
	}
	if len(value) != 8 {
		return 0, fmt.Errorf("value of %q is no number", key)
	}
	return binary.BigEndian.Uint64(value), nil
}

func (l *Log) vote() (term uint64, candidate []byte, err error) {
	value, err := l.value([]byte(keyVote))
	if err != nil {
		return 0, nil, err
	}
	return decodeVote(value)
}

// setOwner notes who writes the log from now on.
func (l *Log) setOwner(o owner) error {
	value := binary.BigEndian.AppendUint64([]byte{ownerFormat}, o.Epoch)
	return l.setValue([]byte(keyOwner), append(value, o.Node...))
}

func (l *Log) setValue(key, value []byte) error {
	return l.disk.write("write stable store", func() error { return l.backend.Set(key, sealValue(key, value)) })
}

func (l *Log) value(key []byte) (value []byte, err error) {
	err = l.disk.read("read stable store", func() (err error) {
		value, err = readValue(l.backend, key)
		return err
	})
	return value, err
}

func readValue(backend logBackend, key []byte) ([]byte, error) {
	sealed, err := backend.Get(key)
	if err != nil {
		return nil, err
	}
	return openValue(key, sealed)
}

// readTerms returns the current term and the term of the vote, 0 for what was
// never stored.
func readTerms(backend logBackend) (current, vote uint64, err error) {
	value, err := readValue(backend, []byte(keyCurrentTerm))
	switch {
	case errors.Is(err, raftboltdb.ErrKeyNotFound):
	case err != nil:
		return 0, 0, err
	case len(value) != 8:
		return 0, 0, fmt.Errorf("%w: the current term has %d bytes", ErrDamaged, len(value))
	default:
		current = binary.BigEndian.Uint64(value)
	}
	if value, err = readValue(backend, []byte(keyVote)); errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return current, 0, nil
	}
	if err != nil {
		return 0, 0, err
	}
	vote, _, err = decodeVote(value)
	return current, vote, err
}

func readOwner(backend logBackend) (o owner, found bool, err error) {
	value, err := readValue(backend, []byte(keyOwner))
	if errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return owner{}, false, nil
	}
	if err != nil {
		return owner{}, false, err
	}
	if len(value) > 0 && value[0] > ownerFormat {
		return owner{}, false, fmt.Errorf("%w: log of format %d, this one knows up to %d", ErrNewerFormat, value[0], ownerFormat)
	}
	if len(value) < 9 {
		return owner{}, false, fmt.Errorf("%w: the owner has %d bytes", ErrDamaged, len(value))
	}
	return owner{Node: registry.NodeID(value[9:]), Epoch: binary.BigEndian.Uint64(value[1:])}, true, nil
}

func decodeVote(value []byte) (term uint64, candidate []byte, err error) {
	if len(value) < 8 {
		return 0, nil, fmt.Errorf("%w: the vote has %d bytes", ErrDamaged, len(value))
	}
	return binary.BigEndian.Uint64(value), value[8:], nil
}
