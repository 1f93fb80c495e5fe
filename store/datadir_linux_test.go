package store_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/lookupd/lookupd/store"
)

// TestDirectoriesOfLinux has rows of docs/bad-inputs.md that need Linux to show.
func TestDirectoriesOfLinux(t *testing.T) {
	for name, test := range map[string]func(*testing.T){
		"C4 not writable":       notWritable,
		"C4 tmpfs is warned of": onTmpfs,
		"D11 mode 000":          modeZero,
	} {
		t.Run(name, test)
	}
}

func notWritable(t *testing.T) {
	base := t.TempDir()
	path := filepath.Join(base, "data")
	must(t, os.Mkdir(path, 0o500))
	must(t, os.Chmod(path, 0o555))
	asOrdinaryUser(t, base)
	for _, p := range []string{path, filepath.Join(path, "below")} {
		if _, err := store.OpenDir(p); !errors.Is(err, store.ErrNotWritable) || !errors.Is(err, store.ErrRefused) {
			t.Errorf("%s: %v", p, err)
		}
	}
	if left, err := os.ReadDir(path); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func onTmpfs(t *testing.T) {
	path, err := os.MkdirTemp("/dev/shm", "lookupd-test-")
	must(t, err)
	defer os.RemoveAll(path)
	if got := openDir(t, path).Warnings(); len(got) != 1 || !strings.Contains(got[0], path+" is on tmpfs") {
		t.Errorf("warnings %q", got)
	}
}

func modeZero(t *testing.T) {
	base := t.TempDir()
	path := filepath.Join(base, "data")
	must(t, os.Mkdir(path, 0o700))
	must(t, os.Chmod(path, 0))
	asOrdinaryUser(t, base)
	if _, err := store.OpenDir(path); !errors.Is(err, store.ErrNotWritable) || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}
}

// asOrdinaryUser makes root's rights to files end until the test does, for the
// goroutine that calls it; base must then be readable.
func asOrdinaryUser(t *testing.T, base string) {
	t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	for dir := base; dir != "/" && dir != os.TempDir(); dir = filepath.Dir(dir) {
		must(t, os.Chmod(dir, 0o755))
	}
	runtime.LockOSThread()
	must(t, syscall.Setfsuid(65534))
	t.Cleanup(func() {
		must(t, syscall.Setfsuid(0))
		runtime.UnlockOSThread()
	})
}
