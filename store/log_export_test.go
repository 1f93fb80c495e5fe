package store

import "time"

// Backend is what a Log writes to, for tests that make it fail.
type Backend = logBackend

// WrapBackend puts wrap's result between the log and its file. Nothing else may
// use the log meanwhile.
func (l *Log) WrapBackend(wrap func(Backend) Backend) { l.backend = wrap(l.backend) }

// StartStopwatch starts what tells a hung disk.
func StartStopwatch(limit time.Duration, late func()) (stop func()) {
	return startStopwatch(limit, late).stop
}

// Checksum is what node.json of id must say.
func (id Identity) Checksum() (string, error) { return id.checksum() }
