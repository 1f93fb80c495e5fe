package main

import (
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
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
		{"a b c", "a a", "would be lost"}, // a copy
	} {
		if got := of(test.voters, test.left); !strings.Contains(got, test.want) {
			t.Errorf("voters %s, left %s: %s; want %q", test.voters, test.left, got, test.want)
		} else if strings.Contains(got, "recover apply") == (test.want == "a quorum") {
			t.Errorf("voters %s, left %s: %s: it must be recovered only where there is no quorum", test.voters, test.left, got)
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

// stoppedPeer makes the data directory of a peer that was a cluster alone.
func stoppedPeer(t *testing.T, path string) {
	t.Helper()
	dir, err := store.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	n := cluster.New(cluster.Config{
		Name: "a", Version: "0.0.0-test", Dir: dir, PeerAddress: "127.0.0.1:0", GossipAddress: "127.0.0.1:0",
		TombstoneLifetime: time.Hour, InactiveTimeout: time.Hour, Logger: slog.New(slog.DiscardHandler),
		OnFatal: func(err error) { t.Errorf("fatal: %v", err) },
	})
	if err := n.Open(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := n.Propose(t.Context(), registry.CreateTopic{Topic: "kept"}); err != nil {
		t.Error(err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	if err := dir.Close(); err != nil {
		t.Error(err)
	}
}

// systemd's DynamicUser makes a link to the data, which belong to a user of its own.
func TestRecoverALinkAndItsOwner(t *testing.T) {
	const user = 12345
	above := t.TempDir()
	path, link := filepath.Join(above, "private"), filepath.Join(above, "lookupd")
	stoppedPeer(t, path)
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	root := os.Geteuid() == 0
	each := func(dir string, do func(path string, owner *syscall.Stat_t) error) {
		t.Helper()
		err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || path == above {
				return err
			}
			info, err := entry.Info()
			if err != nil {
				return err
			}
			return do(path, info.Sys().(*syscall.Stat_t))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if root {
		each(path, func(path string, _ *syscall.Stat_t) error { return os.Lchown(path, user, user+1) })
	}
	code, out, talk := call(t, nil, "recover", "apply", "-y", link)
	if code != 0 || !strings.Contains(out, "Recovered: cluster ") {
		t.Fatalf("exit code %d\n%s%s", code, out, talk)
	}
	if backups, err := filepath.Glob(path + ".before-recovery-*"); err != nil || len(backups) != 1 {
		t.Errorf("copies: %v %v", backups, err)
	}
	if !root {
		line := "SKIPPED the end of " + t.Name() + ": needs root, whose the files are was not tested"
		if os.Getenv("LOOKUPD_FAULTS") == "require" {
			t.Fatal(line)
		}
		fmt.Println(line) // go test hides what a skip says
		t.Skip(line)
	}
	each(above, func(path string, owner *syscall.Stat_t) error {
		if path != link && (owner.Uid != user || owner.Gid != user+1) {
			t.Errorf("%s belongs to %d:%d", path, owner.Uid, owner.Gid)
		}
		return nil
	})
}

// TestRecoverKeepsOtherBackups: a second attempt in the same second leaves the
// copy of the first alone.
func TestRecoverKeepsOtherBackups(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a")
	stoppedPeer(t, dir)
	var backups []string
	for second := range 10 {
		at := time.Now().Add(time.Duration(second) * time.Second)
		backups = append(backups, dir+".before-recovery-"+at.UTC().Format("20060102T150405Z"))
	}
	for _, backup := range backups {
		if err := os.MkdirAll(filepath.Join(backup, "only copy"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if code, _, talk := call(t, nil, "recover", "apply", "-y", dir); code != exitFailed || !strings.Contains(talk, "exists") {
		t.Errorf("exit code %d: %s", code, talk)
	}
	for _, backup := range backups {
		if _, err := os.Stat(filepath.Join(backup, "only copy")); err != nil {
			t.Error(err)
		}
	}
}
