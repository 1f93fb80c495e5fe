package main

import (
	"errors"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/store"
)

// joinAnew is the way back of a peer whose data cannot be used.
const joinAnew = "move the directory away and start with an empty -data-path and -join=<other peers>: " +
	"this peer comes back under a new id, in place of the old one of its name"

// nextStep says what an operator can do about a start that was refused, "" if
// the error speaks for itself.
func nextStep(err error) string {
	for _, step := range []struct {
		err  error
		next string
	}{
		{cluster.ErrPeersFile, "lookupctl recover apply with this directory does that, for one peer; the others then join it with empty directories. To start as before, take raft/peers.json away"},
		{store.ErrLocked, "stop the other lookupd, or give this one a -data-path of its own"},
		{store.ErrNewerFormat, "start the version that wrote the directory, or a newer one"},
		{store.ErrOpenToOthers, "chmod 0700 the directory"},
		{store.ErrNotWritable, "give the directory and all in it to the user that runs lookupd"},
		{store.ErrNotDirectory, "give another -data-path"},
		{store.ErrSymlink, "put files and directories in place of the links"},
		{store.ErrIdentityMissing, "put node.json back if it is somewhere; else " + joinAnew},
		{store.ErrIdentityOlder, "put the latest node.json back if it is somewhere; else " + joinAnew},
		{store.ErrLogForeign, "check -data-path; if it is right, " + joinAnew},
		{store.ErrRefused, joinAnew},
		{store.ErrDamaged, joinAnew},
	} {
		if errors.Is(err, step.err) {
			return step.next
		}
	}
	return ""
}
