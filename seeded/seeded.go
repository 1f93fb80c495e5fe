// Package seeded plants known bugs in lookupd, so that the tests of its promises
// can show that they would notice: whoever checks the checkers builds with one
// of the tags seeded_s1 to seeded_s13 and expects a failure.
//
// Each bug is a constant, false without its tag, so that the compiler leaves out
// what it guards. One build has one bug at most; two tags do not compile. No
// binary that is released has a tag: a test holds that, and the daemon warns at
// its start.
package seeded

import "fmt"

// The bugs. Each is planted where the right behaviour is, under its name.
const (
	// S1: a follower that knows a leader reads what it has, without a read index.
	FollowerReadsWithoutIndex = number == 1

	// S2: the leader's round of the read index asks raft's VerifyLeader in place of the
	// voters for their term. That counts answers to requests which were sent before the
	// round began.
	VerifyLeaderForTerm = number == 2

	// S3: REGISTER and UNREGISTER are answered OK once the change waits to be proposed.
	OKBeforeCommit = number == 3

	// S4: the raft log is written without fsync.
	LogNotSynced = number == 4

	// S5: the state takes a REGISTER for a session that is not open.
	RegisterWithoutSession = number == 5

	// S6: readers wait for raft's AppliedIndex, which is ahead of the state: it counts
	// what is queued for it.
	RaftAppliedIndex = number == 6

	// S7: a restored snapshot lacks the channels that no producer has.
	SnapshotForgetsIdleChannels = number == 7

	// S8: a write or fsync of the log that fails is taken for done.
	FailedWriteIgnored = number == 8

	// S9: what a REGISTER does depends on the clock of the peer that applies it: in the
	// first 4 ms of a second it leaves out the channel.
	ApplyReadsClock = number == 9

	// S10: a batch whose outcome is unknown is sent again under a new number.
	ResentUnderNewNumber = number == 10

	// S11: a vote's term is stored before its candidate, and stands beside the one of the
	// vote before until then (hashicorp/raft #661).
	VoteInTwoSteps = number == 11

	// S12: a peer that has an identity starts on an empty log.
	EmptyLogAccepted = number == 12

	// S13: a change that was answered E_UNAVAILABLE is given up.
	UnavailableForgotten = number == 13
)

// Active returns the number and name of this build's bug, "" if it has none.
func Active() string {
	names := [...]string{
		1:  "FollowerReadsWithoutIndex",
		2:  "VerifyLeaderForTerm",
		3:  "OKBeforeCommit",
		4:  "LogNotSynced",
		5:  "RegisterWithoutSession",
		6:  "RaftAppliedIndex",
		7:  "SnapshotForgetsIdleChannels",
		8:  "FailedWriteIgnored",
		9:  "ApplyReadsClock",
		10: "ResentUnderNewNumber",
		11: "VoteInTwoSteps",
		12: "EmptyLogAccepted",
		13: "UnavailableForgotten",
	}
	if number == 0 {
		return ""
	}
	return fmt.Sprintf("S%d %s", number, names[number])
}
