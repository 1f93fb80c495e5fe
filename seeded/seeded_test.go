package seeded_test

import (
	"testing"

	"github.com/lookupd/lookupd/seeded"
)

// make check builds as a release is built.
func TestTheBuildHasNoBug(t *testing.T) {
	if bug := seeded.Active(); bug != "" {
		t.Errorf("this build has bug %s", bug)
	}
	for i, on := range []bool{
		seeded.FollowerReadsWithoutIndex, seeded.VerifyLeaderForTerm, seeded.OKBeforeCommit, seeded.LogNotSynced,
		seeded.RegisterWithoutSession, seeded.RaftAppliedIndex, seeded.SnapshotForgetsIdleChannels,
		seeded.FailedWriteIgnored, seeded.ApplyReadsClock, seeded.ResentUnderNewNumber, seeded.VoteInTwoSteps,
		seeded.EmptyLogAccepted, seeded.UnavailableForgotten,
	} {
		if on {
			t.Errorf("S%d is on", i+1)
		}
	}
}
