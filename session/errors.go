package session

import "errors"

// Errors of Manager.Open, Session.Register and Session.Unregister.
var (
	// ErrUnavailable: the change is not known to be committed in time. It stays
	// declared and is proposed until it is committed or withdrawn.
	ErrUnavailable = errors.New("not committed yet, the change stays declared")
	// ErrDiskLow is ErrUnavailable because this peer's disk is nearly full.
	ErrDiskLow = errors.New("too little free disk space, the change stays declared")
	// ErrLimit: the change would exceed a limit; nothing was noted or proposed.
	ErrLimit = errors.New("limit reached")
	// ErrStopped: this peer is stopping and takes no new sessions.
	ErrStopped = errors.New("peer is stopping")
)
