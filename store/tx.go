package store

import (
	"errors"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// Tx is a write transaction: changes that become visible together. What bbolt
// does per transaction, to split pages, write them and read them anew, is dear,
// so it is worth to let one take the changes of several callers. It is used by
// one goroutine at a time.
//
// All of them see what went before in it, nobody else does until Commit. Whoever
// begins one must end it: a second one, and Close, wait for that.
type Tx struct {
	state  *State
	tx     *bbolt.Tx
	change *Change
}

// Begin begins a write transaction; it waits for one that is open.
func (s *State) Begin() (*Tx, error) {
	tx, err := s.db.Begin(true)
	if err != nil {
		return nil, stateError(err)
	}
	v, err := newView(tx)
	if err != nil {
		return nil, errors.Join(err, tx.Rollback())
	}
	return &Tx{state: s, tx: tx, change: &Change{View: v}}, nil
}

// Apply calls fn with the change of the state. After an error, be it fn's or of
// what it did, nothing of the transaction is to be kept: Rollback.
func (t *Tx) Apply(fn func(*Change) error) error {
	if err := fn(t.change); err != nil {
		return err
	}
	return t.change.err
}

// Commit makes all of it visible to later Views, or after an error nothing.
func (t *Tx) Commit() error {
	if err := t.change.finish(); err != nil {
		return errors.Join(err, t.Rollback())
	}
	t.state.publishTouched(t.change)
	if err := t.tx.Commit(); err != nil {
		return errors.Join(stateError(err), t.Rollback())
	}
	return nil
}

// Rollback forgets all of it. After Commit or Rollback it does nothing.
func (t *Tx) Rollback() error {
	if err := t.tx.Rollback(); !errors.Is(err, berrors.ErrTxClosed) {
		return err
	}
	return nil
}

// Update calls fn with a change of the state. When fn and all that it did
// succeeded, the change is visible to later Views on return; else nothing is
// changed. Updates run one after another.
func (s *State) Update(fn func(*Change) error) (err error) {
	tx, err := s.Begin()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tx.Rollback()) }() // fn may panic
	if err := tx.Apply(fn); err != nil {
		return err
	}
	return tx.Commit()
}
