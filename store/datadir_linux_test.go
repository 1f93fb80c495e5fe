package store_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/lookupd/lookupd/store"
)

func TestOpenDirNotWritable(t *testing.T) {
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
