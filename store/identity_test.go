package store_test

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
)

func TestNewIdentity(t *testing.T) {
	seen := map[registry.NodeID]bool{}
	for range 100 {
		id, err := store.NewIdentity("peer-1.eu_west")
		must(t, err)
		if !regexp.MustCompile(`^peer-1\.eu_west-[0-9a-f]{8}$`).MatchString(string(id.NodeID)) {
			t.Fatalf("node id %q", id.NodeID)
		}
		if id.NodeID.Name() != "peer-1.eu_west" || id.Epoch != 0 || id.ClusterID != "" || seen[id.NodeID] {
			t.Fatalf("identity %+v", id)
		}
		seen[id.NodeID] = true
	}
	for _, name := range []string{"", "a b", "ü", "a/b", "a\n", strings.Repeat("a", 65)} {
		if _, err := store.NewIdentity(name); !errors.Is(err, store.ErrBadNodeName) {
			t.Errorf("name %q: %v", name, err)
		}
	}
}

func TestIdentityIsKept(t *testing.T) {
	d := openDir(t, t.TempDir())
	if _, found, err := d.LoadIdentity(); found || err != nil {
		t.Fatalf("new directory: %v, %v", found, err)
	}
	id, err := store.NewIdentity("a")
	must(t, err)
	id.ClusterID, id.Epoch, id.LastTerm, id.LastIndex = "c", 1<<60+1, 7, 9
	id.Founders = []registry.NodeID{"a-00000001", "b-00000002"}
	must(t, d.SaveIdentity(id))
	got, found, err := d.LoadIdentity()
	if !found || err != nil || !reflect.DeepEqual(got, id) {
		t.Fatalf("loaded %+v, %v, %v; saved %+v", got, found, err, id)
	}
}

func TestDamagedIdentity(t *testing.T) {
	d := openDir(t, t.TempDir())
	id, err := store.NewIdentity("a")
	must(t, err)
	id.ClusterID = "0123456789"
	must(t, d.SaveIdentity(id))
	path := d.Path("node.json")
	good, err := os.ReadFile(path)
	must(t, err)
	check := func(what string, content []byte) {
		t.Helper()
		must(t, os.WriteFile(path, content, 0o600))
		got, found, err := d.LoadIdentity()
		if err == nil && found && reflect.DeepEqual(got, id) { // in white space, or case of a key
			return
		}
		if !errors.Is(err, store.ErrDamaged) && !errors.Is(err, store.ErrNewerFormat) {
			t.Errorf("%s: %+v, %v, %v", what, got, found, err)
		}
	}
	for i := range good {
		for bit := range 8 {
			bad := append([]byte(nil), good...)
			bad[i] ^= 1 << bit
			check(fmt.Sprintf("bit %d of byte %d", bit, i), bad)
		}
		check(fmt.Sprintf("cut at %d", i), good[:i])
	}
	check("too long", make([]byte, 1<<20))
	must(t, os.WriteFile(path, []byte(`{"format": 2, "shape": ["new"]}`), 0o600))
	if _, _, err := d.LoadIdentity(); !errors.Is(err, store.ErrNewerFormat) || !strings.Contains(err.Error(), "format 2") {
		t.Errorf("newer format: %v", err)
	}
}

func TestNextEpoch(t *testing.T) {
	d := openDir(t, t.TempDir())
	id, l := mustStart(t, d)
	if id.Epoch != 1 || id.LastIndex != 0 {
		t.Fatalf("first start: %+v", id)
	}
	fill(t, l, 2, 1, 10)
	must(t, l.Close())
	again, l := mustStart(t, d)
	if again.NodeID != id.NodeID || again.Epoch != 2 || again.LastTerm != 2 || again.LastIndex != 10 {
		t.Fatalf("second start: %+v", again)
	}
	if saved, _, err := d.LoadIdentity(); err != nil || !reflect.DeepEqual(saved, again) {
		t.Fatalf("saved %+v, %v", saved, err)
	}
	// A later leader cuts the log: the identity does not go back with it.
	must(t, l.SetUint64([]byte("CurrentTerm"), 3))
	must(t, l.DeleteRange(5, 10))
	must(t, l.Close())
	third, _ := mustStart(t, d)
	if third.Epoch != 3 || third.LastTerm != 2 || third.LastIndex != 10 {
		t.Fatalf("third start: %+v", third)
	}
}
