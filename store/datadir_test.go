package store_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/lookupd/lookupd/store"
)

func madePrivate(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	path := filepath.Join(t.TempDir(), "lib", "lookupd")
	d := openDir(t, path)
	for _, p := range []string{path, filepath.Dir(path)} {
		info, err := os.Stat(p)
		must(t, err)
		if mode := info.Mode().Perm(); mode != 0o700 {
			t.Errorf("%s has mode %o", p, mode)
		}
	}
	if got := d.Path("raft", "raft.db"); got != path+"/raft/raft.db" {
		t.Errorf("path %s", got)
	}
	if left, err := os.ReadDir(path); err != nil || len(left) != 1 {
		t.Errorf("a new directory holds %v, %v", left, err)
	}
}

func TestOpenDirRefuses(t *testing.T) {
	base := t.TempDir()
	file := filepath.Join(base, "file")
	must(t, os.WriteFile(file, nil, 0o600))
	open := filepath.Join(base, "open")
	must(t, os.Mkdir(open, 0o700))
	must(t, os.Chmod(open, 0o777))
	linked := filepath.Join(base, "linked")
	must(t, os.Mkdir(linked, 0o700))
	must(t, os.Symlink(file, filepath.Join(linked, "LOCK")))
	for _, c := range []struct {
		name, path string
		want       error
	}{
		{"C4 a file", file, store.ErrNotDirectory},
		{"C4 below a file", filepath.Join(file, "data"), store.ErrNotDirectory},
		{"C4 writable for all", open, store.ErrOpenToOthers},
		{"D11 planted link", linked, store.ErrSymlink},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := store.OpenDir(c.path)
			if !errors.Is(err, c.want) || !errors.Is(err, store.ErrRefused) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if !strings.Contains(err.Error(), c.path) {
				t.Errorf("%q does not name %s", err, c.path)
			}
		})
	}
}

func TestOpenDirFollowsALinkToItself(t *testing.T) {
	base := t.TempDir()
	must(t, os.Mkdir(base+"/private", 0o755))
	must(t, os.Symlink("private", base+"/lookupd"))
	openDir(t, base+"/lookupd")
	if _, err := os.Stat(base + "/private/LOCK"); err != nil {
		t.Error(err)
	}
}

func secondProcess(t *testing.T) {
	path := t.TempDir()
	d := openDir(t, path)
	if _, err := store.OpenDir(path); !errors.Is(err, store.ErrLocked) || !errors.Is(err, store.ErrRefused) {
		t.Fatalf("opened twice: %v", err)
	}
	must(t, d.Close())
	must(t, d.Close())
	openDir(t, path)
}

func linksInside(t *testing.T) {
	elsewhere := t.TempDir()
	d := openDir(t, t.TempDir())
	must(t, os.Symlink(elsewhere, d.Path("raft")))
	if _, err := d.OpenLog(store.LogConfig{}); !errors.Is(err, store.ErrSymlink) {
		t.Errorf("raft: %v", err)
	}
	must(t, os.Remove(d.Path("raft")))
	must(t, os.Mkdir(d.Path("raft"), 0o700))
	must(t, os.WriteFile(elsewhere+"/raft.db", nil, 0o600))
	must(t, os.Symlink(elsewhere+"/raft.db", d.Path("raft", "raft.db")))
	if _, err := d.OpenLog(store.LogConfig{}); !errors.Is(err, store.ErrSymlink) {
		t.Errorf("raft.db: %v", err)
	}
}
