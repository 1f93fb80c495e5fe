package main

import (
	"strings"
	"testing"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/registry"
)

func TestWhatMayBeLost(t *testing.T) {
	of := func(voters string, left string) string {
		r := cluster.Remains{}
		for _, id := range strings.Fields(voters) {
			r.Voters = append(r.Voters, registry.NodeID(id))
		}
		var all []cluster.Remains
		for _, id := range strings.Fields(left) {
			all = append(all, cluster.Remains{ID: registry.NodeID(id)})
		}
		return whatMayBeLost(r, all)
	}
	for _, test := range []struct{ voters, left, want string }{
		{"a b c", "a b", "a quorum"},
		{"a b c", "a", "would be lost"},
		{"a b", "a", "every acknowledged change is among them"},
		{"a b c d", "a b", "every acknowledged change is among them"},
		{"a b c d e", "a b", "would be lost"},
		{"a b c d e", "a b c", "a quorum"},
		{"a b c", "a x y", "1 of 3 voters are here"},
		{"a", "a", "a quorum"},
	} {
		if got := of(test.voters, test.left); !strings.Contains(got, test.want) {
			t.Errorf("voters %s, left %s: %s; want %q", test.voters, test.left, got, test.want)
		}
	}
}

func TestRecoverRefuses(t *testing.T) {
	for _, args := range [][]string{
		{"recover", "plan", t.TempDir()},
		{"recover", "apply", "-y", t.TempDir()},
		{"raft", "info", t.TempDir()},
		{"raft", "log", t.TempDir()},
		{"raft", "state", t.TempDir()},
		{"recover", "plan", "/nothing/there"},
	} {
		if code, out, talk := call(t, nil, args...); code != exitFailed || talk == "" {
			t.Errorf("%v: exit code %d\n%s%s", args, code, out, talk)
		}
	}
	if code, _, talk := call(t, nil, "recover", "plan"); code != exitUsage || !strings.Contains(talk, "wants one DIR or more") {
		t.Errorf("no directory: exit code %d %s", code, talk)
	}
}
