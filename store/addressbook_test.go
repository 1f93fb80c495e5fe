package store_test

import (
	"errors"
	"os"
	"reflect"
	"testing"

	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
)

func TestAddressBook(t *testing.T) {
	d := openDir(t, t.TempDir())
	book := d.AddressBook()
	if peers, err := book.Load(); err != nil || peers == nil || len(peers) != 0 {
		t.Fatalf("new directory: %v, %v", peers, err)
	}
	want := map[registry.NodeID]store.PeerAddress{
		"a-00000001": {Peer: "10.0.0.1:4162", Gossip: "10.0.0.1:4163"},
		"b-00000002": {Peer: "[::1]:4162", Gossip: "[::1]:4163"},
	}
	must(t, book.Save(want))
	before, err := os.Stat(d.Path("peers.json"))
	must(t, err)
	must(t, book.Save(want))
	after, err := os.Stat(d.Path("peers.json"))
	must(t, err)
	if !os.SameFile(before, after) {
		t.Error("the same addresses were written again")
	}
	if got, err := d.AddressBook().Load(); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("loaded %v, %v", got, err)
	}
	for _, content := range []string{"", "{", `[]`, `{"a": 7}`, "null"} {
		must(t, os.WriteFile(d.Path("peers.json"), []byte(content), 0o600))
		got, err := d.AddressBook().Load()
		if got == nil || len(got) != 0 || content != "null" && !errors.Is(err, store.ErrDamaged) {
			t.Errorf("%q: %v, %v", content, got, err)
		}
	}
}
