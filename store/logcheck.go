package store

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"

	"github.com/lookupd/lookupd/seeded"
)

// Position is a place in the history of a cluster.
type Position struct{ Term, Index uint64 }

// indexRun is a range of indexes without a gap, both ends included.
type indexRun struct{ first, last uint64 }

// logRun is a range of entries without a gap in which no term goes back.
type logRun struct{ first, last Position }

// logSurvey is what OpenLog has read: the whole log once.
type logSurvey struct {
	runs                  []logRun
	maxTerm               uint64 // of all entries
	currentTerm, voteTerm uint64 // 0 if never stored
	owner                 owner
	hasOwner              bool
}

// last returns the position of the last entry, the zero one if there is none.
func (s *logSurvey) last() Position {
	if len(s.runs) == 0 {
		return Position{}
	}
	return s.runs[len(s.runs)-1].last
}

// empty reports whether raft has never written to the log.
func (s *logSurvey) empty() bool { return len(s.runs) == 0 && s.currentTerm == 0 && s.voteTerm == 0 }

// CheckAgainst makes sure, from what OpenLog read, that the log is that of id
// and goes on where snapshot ends, the zero Position if there is none. It fails
// with ErrDamaged or one of the refusals. Call it before raft starts; Verify
// does.
//
// Up to the snapshot the log may have gaps and terms that go back: raft leaves
// there what it had when it installed a snapshot, and never applies it. Behind
// the snapshot it would panic on either.
func (l *Log) CheckAgainst(id Identity, snapshot Position) error {
	s := &l.survey
	if seeded.EmptyLogAccepted && s.empty() {
		return nil
	}
	if err := s.checkOwner(id, snapshot); err != nil {
		return err
	}
	if err := s.checkTerms(snapshot); err != nil {
		return err
	}
	if err := s.checkOrder(snapshot); err != nil {
		return err
	}
	return s.checkAge(id, snapshot)
}

func (s *logSurvey) checkOwner(id Identity, snapshot Position) error {
	switch {
	case id.Epoch == 0 && (!s.empty() || snapshot.Index > 0):
		return ErrIdentityMissing
	case id.Epoch == 0: // an owner may be there: a crash came before the identity was saved
		return nil
	case !s.hasOwner:
		return fmt.Errorf("%w: the file is there, but nothing was ever written to it", ErrLogMissing)
	case s.owner.Node != id.NodeID:
		return fmt.Errorf("%w: it belongs to %s, the identity is %s", ErrLogForeign, s.owner.Node, id.NodeID)
	case s.owner.Epoch < id.Epoch:
		return fmt.Errorf("%w: last written in epoch %d, the identity has seen epoch %d", ErrLogOlder, s.owner.Epoch, id.Epoch)
	case s.owner.Epoch > id.Epoch+1: // one ahead: a crash came before the identity was saved
		return fmt.Errorf("%w: epoch %d, the log was written in epoch %d", ErrIdentityOlder, id.Epoch, s.owner.Epoch)
	}
	return nil
}

func (s *logSurvey) checkTerms(snapshot Position) error {
	for _, seen := range []struct {
		where string
		term  uint64
	}{{"an entry", s.maxTerm}, {"the vote", s.voteTerm}, {"the snapshot", snapshot.Term}} {
		if s.currentTerm < seen.term {
			return fmt.Errorf("%w: the current term is %d, but %s is of term %d", ErrDamaged, s.currentTerm, seen.where, seen.term)
		}
	}
	return nil
}

func (s *logSurvey) checkOrder(snapshot Position) error {
	at := snapshot
	for _, run := range s.runs {
		switch next := at.Index + 1; {
		case run.last.Index < next: // covered by the snapshot
			continue
		case run.first.Index > next:
			return fmt.Errorf("%w: entries %d to %d are missing", ErrDamaged, next, run.first.Index-1)
		case run.first.Index == next && run.first.Term < at.Term:
			return fmt.Errorf("%w: the term goes back from %d to %d at entry %d", ErrDamaged, at.Term, run.first.Term, next)
		}
		at = run.last
	}
	return nil
}

// checkAge compares with the log's end at the latest start. The end goes back
// only when a leader of a later term overwrites it, and that leader's term is
// stored first.
func (s *logSurvey) checkAge(id Identity, snapshot Position) error {
	last := max(s.last().Index, snapshot.Index)
	if s.currentTerm < id.LastTerm || s.currentTerm == id.LastTerm && last < id.LastIndex {
		return fmt.Errorf("%w: it ends at entry %d of term %d, the identity has seen entry %d of term %d",
			ErrLogOlder, last, s.currentTerm, id.LastIndex, id.LastTerm)
	}
	return nil
}

// surveyLog reads everything in the store; indexes are those of the entries, in
// order.
func surveyLog(backend logBackend, indexes []indexRun) (s logSurvey, err error) {
	err = guarded(func() (err error) {
		if s.owner, s.hasOwner, err = readOwner(backend); err != nil {
			return err
		}
		if s.currentTerm, s.voteTerm, err = readTerms(backend); err != nil {
			return err
		}
		for _, run := range indexes {
			for index := run.first; index <= run.last; index++ {
				if err := s.add(backend, index); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return s, err
}

func (s *logSurvey) add(backend logBackend, index uint64) error {
	var entry raft.Log
	switch err := readEntry(backend, index, &entry); {
	case errors.Is(err, ErrDamaged):
		return err
	case err != nil: // it cannot be decoded
		return fmt.Errorf("%w: entry %d: %w", ErrDamaged, index, err)
	}
	switch entry.Type {
	case raft.LogCommand, raft.LogNoop, raft.LogBarrier:
	case raft.LogConfiguration:
		raft.DecodeConfiguration(entry.Data) // panics if it cannot, as it would in NewRaft
	default:
		return fmt.Errorf("%w: entry %d is of unknown type %d", ErrDamaged, index, entry.Type)
	}
	s.maxTerm = max(s.maxTerm, entry.Term)
	at := Position{Term: entry.Term, Index: index}
	if n := len(s.runs); n > 0 && s.runs[n-1].last.Index+1 == index && s.runs[n-1].last.Term <= entry.Term {
		s.runs[n-1].last = at
		return nil
	}
	s.runs = append(s.runs, logRun{first: at, last: at})
	return nil
}
