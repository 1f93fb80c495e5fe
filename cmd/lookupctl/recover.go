package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/fsm"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
)

func newRecover(o *options) *cobra.Command {
	cmd := group("recover", "Makes a cluster of what is left when the quorum is lost for good")
	var dryRun bool
	apply := &cobra.Command{
		Use:   "apply DIR",
		Short: "Makes the stopped peer of that data directory the only voter of a new cluster with its registry",
		Long: "Makes the stopped peer of that data directory the only voter of a new cluster with its registry, after a\n" +
			"copy of the directory beside it. All of its log counts as committed then, what never was too. The others\n" +
			"join with empty directories; those that they have are of the old cluster, and refused. A raft/peers.json in\n" +
			"DIR must name that peer alone, and is taken away.",
		Args: exactly("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error { return o.recoverApply(cmd.Context(), args[0], dryRun) },
	}
	apply.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would be done")
	cmd.AddCommand(&cobra.Command{
		Use: "plan DIR...", Short: "Says which of the data directories that are left is the most advanced, and what may be lost", Args: atLeast("DIR"),
		RunE: func(_ *cobra.Command, args []string) error { return o.recoverPlan(args) },
	}, apply)
	return cmd
}

func (o *options) recoverPlan(dirs []string) error {
	var all []cluster.Remains
	for _, dir := range dirs {
		r, err := cluster.Examine(dir)
		if err != nil {
			return stopFirst(err)
		}
		all = append(all, r)
	}
	if o.output == formatJSON {
		return o.printAsJSON(all)
	}
	for _, r := range all[1:] {
		if r.ClusterID != all[0].ClusterID {
			return fmt.Errorf("%s is of cluster %s, %s of %s: plan for one cluster at a time", all[0].Path, all[0].ClusterID, r.Path, r.ClusterID)
		}
	}
	best := slices.MaxFunc(all, cluster.Remains.Ahead)
	o.sentence("%s is the most advanced: entry %d of term %d.", best.Path, best.LastIndex, best.LastTerm)
	l := listing{columns: columns("DIRECTORY", "PEER", "LAST INDEX", "LAST TERM", "SNAPSHOT", "BEHIND", "+VOTERS")}
	for _, r := range all {
		l.add(r.Path, r.ID, r.LastIndex, r.LastTerm, r.Snapshot, best.LastIndex-min(r.LastIndex, best.LastIndex), idNames(r.Voters))
	}
	o.print(l)
	o.sentence("%s", whatMayBeLost(best, all))
	return nil
}

// whatMayBeLost compares those that are left with a quorum, and says what to do:
// what was acknowledged is on a majority of the voters, so on one of any set that
// every majority meets.
func whatMayBeLost(best cluster.Remains, all []cluster.Remains) string {
	left := 0
	for _, voter := range best.Voters { // a directory and a copy of it are one voter
		if slices.ContainsFunc(all, func(r cluster.Remains) bool { return r.ID == voter }) {
			left++
		}
	}
	voters, quorum := len(best.Voters), len(best.Voters)/2+1
	next := fmt.Sprintf("Next: lookupctl recover apply %s, start that peer, then the others with empty directories and -join.", best.Path)
	switch {
	case left >= quorum:
		return fmt.Sprintf("%d of %d voters are here, a quorum: start them, nothing needs to be recovered.", left, voters)
	case left > voters-quorum:
		return fmt.Sprintf("%d of %d voters are here: every acknowledged change is among them.\n%s", left, voters, next)
	}
	return fmt.Sprintf("%d of %d voters are here: acknowledged changes that only the others have would be lost.\n%s", left, voters, next)
}

func idNames(ids []registry.NodeID) string {
	var parts []string
	for _, id := range ids {
		parts = append(parts, id.Name())
	}
	return strings.Join(parts, ", ")
}

// stopFirst adds what to do about a directory in use.
func stopFirst(err error) error {
	if errors.Is(err, store.ErrLocked) {
		return fmt.Errorf("%w: stop the peer first", err)
	}
	return err
}

func (o *options) recoverApply(ctx context.Context, dir string, dryRun bool) error {
	r, err := cluster.Examine(dir)
	if err != nil {
		return stopFirst(err)
	}
	if err := cluster.CheckPeersFile(dir, r.ID); err != nil {
		return err
	}
	// What systemd makes for DynamicUser is a link; the copy lies beside the data.
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return err
	}
	backup := dir + ".before-recovery-" + time.Now().UTC().Format("20060102T150405Z")
	fmt.Fprintf(o.out, "%s (%s) ends at entry %d of term %d; voters were %s.\n", r.ID.Name(), r.ID, r.LastIndex, r.LastTerm, idNames(r.Voters))
	fmt.Fprintf(o.out, "It becomes the only voter of a new cluster. All of its log counts as committed, what never was too.\nIts directory is copied to %s first.\n", backup)
	if dryRun {
		return nil
	}
	if err := o.confirmed(ctx, "Recover from "+dir+"?"); err != nil {
		return err
	}
	if err := os.Mkdir(backup, 0o700); err != nil {
		return err // another's, and perhaps the only copy
	}
	if err := copyDirectory(dir, backup); err != nil {
		return errors.Join(fmt.Errorf("copy: %w", err), os.RemoveAll(backup))
	}
	done, err := cluster.Recover(dir, slog.New(slog.DiscardHandler))
	if err := errors.Join(err, keepOwners(dir, backup)); err != nil {
		return fmt.Errorf("%w; put %s back in its place", err, backup)
	}
	fmt.Fprintf(o.out, "Recovered: cluster %s. Start this peer with its usual flags, then the others with empty directories and -join.\n", done.ClusterID)
	return nil
}

// keepOwners gives what root has written anew in a data directory to whom it
// belonged before, or to lookupd's user, so that lookupd can read it.
func keepOwners(dir, before string) error {
	user, err := os.Stat(filepath.Join(before, "node.json")) // lookupd has written it
	if err != nil {
		return err
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		was, err := os.Lstat(filepath.Join(before, relative))
		if errors.Is(err, fs.ErrNotExist) {
			was, err = user, nil
		}
		if err != nil {
			return err
		}
		return giveTo(was, path)
	})
}

// giveTo gives path to the owner of file, if root may.
func giveTo(file fs.FileInfo, path string) error {
	owner, ok := file.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 {
		return nil // who can read a data directory without being root is its owner
	}
	return os.Lchown(path, int(owner.Uid), int(owner.Gid))
}

// copyDirectory copies files and directories, with their owners, into a directory
// that is there, and makes them last.
func copyDirectory(from, to string) error {
	err := filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		target := filepath.Join(to, relative)
		switch {
		case entry.IsDir():
			if relative != "." {
				err = os.Mkdir(target, 0o700)
			}
		case entry.Type().IsRegular():
			err = copyFile(path, target)
		default:
			err = fmt.Errorf("%s is neither file nor directory", path)
		}
		if err != nil {
			return err
		}
		return giveTo(info, target)
	})
	if err != nil {
		return err
	}
	return filepath.WalkDir(to, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			err = store.SyncDir(path)
		}
		return err
	})
}

func copyFile(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(target, source)
	if err == nil {
		err = target.Sync()
	}
	return errors.Join(err, target.Close())
}

func newRaft(o *options) *cobra.Command {
	cmd := group("raft", "Looks into the data directory of a stopped peer, or a copy of one")
	cmd.AddCommand(
		&cobra.Command{
			Use: "info DIR", Short: "Shows who the peer is, how far its log goes and who votes", Args: exactly("DIR"),
			RunE: func(_ *cobra.Command, args []string) error { return o.raftInfo(args[0]) },
		},
		newRaftLog(o), newRaftState(o),
	)
	return cmd
}

func (o *options) raftInfo(dir string) error {
	r, err := cluster.Examine(dir)
	if err != nil {
		return stopFirst(err)
	}
	if o.output == formatJSON {
		return o.printAsJSON(r)
	}
	l := listing{columns: columns("WHAT", "VALUE")}
	l.add("peer", r.ID)
	l.add("cluster", r.ClusterID)
	l.add("starts", r.Epoch)
	l.add("term", r.Term)
	l.add("log begins at", r.FirstLog)
	l.add("last index", r.LastIndex)
	l.add("last term", r.LastTerm)
	l.add("snapshot", r.Snapshot)
	l.add("voters", idNames(r.Voters))
	l.add("non-voters", idNames(r.NonVoters))
	o.print(l)
	return nil
}

func newRaftLog(o *options) *cobra.Command {
	var from uint64
	var limit int
	cmd := &cobra.Command{
		Use: "log DIR", Short: "Lists the entries of the log", Args: exactly("DIR"),
		RunE: func(_ *cobra.Command, args []string) error { return o.raftLog(args[0], from, limit) },
	}
	cmd.Flags().Uint64Var(&from, "from", 0, "first index")
	cmd.Flags().IntVar(&limit, "limit", 100, "number of entries, 0 for all")
	return cmd
}

func (o *options) raftLog(dir string, from uint64, limit int) error {
	l := listing{columns: columns("INDEX", "TERM", "KIND", "WHAT", "+BYTES")}
	var entries []cluster.Entry
	err := cluster.ReadLog(dir, from, func(e cluster.Entry) bool {
		entries = append(entries, e)
		return len(entries) != limit
	})
	if err != nil {
		return stopFirst(err)
	}
	if o.output == formatJSON {
		return o.printAsJSON(entries)
	}
	const widest = 100 // of a command, in a table for people
	for _, e := range entries {
		if o.output == formatTable && len(e.What) > widest {
			e.What = e.What[:widest] + "..."
		}
		l.add(e.Index, e.Term, e.Kind, strings.TrimSpace(e.What), e.Bytes)
	}
	o.print(l)
	return nil
}

func newRaftState(o *options) *cobra.Command {
	var save string
	cmd := &cobra.Command{
		Use: "state DIR", Short: "Builds the registry from snapshot and log, and says what is in it; entries that were never committed count too",
		Args: exactly("DIR"),
		RunE: func(_ *cobra.Command, args []string) error { return o.raftState(args[0], save) },
	}
	cmd.Flags().StringVar(&save, "save", "", "also write it to this file, for snapshot restore")
	return cmd
}

func (o *options) raftState(dir, save string) (err error) {
	scratch, err := os.MkdirTemp("", "lookupctl-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	path := filepath.Join(scratch, "snapshot")
	err = cluster.Rebuild(dir, scratch, slog.New(slog.DiscardHandler), func(s *fsm.Saved) error {
		file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = s.WriteTo(file)
		return errors.Join(err, file.Close())
	})
	if err != nil {
		return stopFirst(err)
	}
	if save != "" {
		if err := copyFile(path, save); err != nil {
			return err
		}
	}
	return o.inspect(path, "")
}
