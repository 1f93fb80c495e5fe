package store_test

import (
	"errors"
	"os"
	"reflect"
	"slices"
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
	for _, content := range []string{"", "{", `[]`, `{"a": 7}`, `{"peers": {}, "checksum": "00000000"}`, "null"} {
		must(t, os.WriteFile(d.Path("peers.json"), []byte(content), 0o600))
		got, err := d.AddressBook().Load()
		if got == nil || len(got) != 0 || content != "null" && !errors.Is(err, store.ErrDamaged) {
			t.Errorf("%q: %v, %v", content, got, err)
		}
	}
}

// A book's epochs decide who is admitted: with one bit flipped it is not believed.
func TestAddressBookIsChecked(t *testing.T) {
	d := openDir(t, t.TempDir())
	want := map[registry.NodeID]store.PeerAddress{
		"a-00000001": {Peer: "10.0.0.1:4162", Gossip: "10.0.0.1:4163", Epoch: 17},
		"b-00000002": {Peer: "<\xff>", Epoch: 4},
	}
	must(t, d.AddressBook().Save(want))
	sound, err := os.ReadFile(d.Path("peers.json"))
	must(t, err)
	want["b-00000002"] = store.PeerAddress{Peer: "<\ufffd>", Epoch: 4}
	got, err := d.AddressBook().Load()
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("loaded %v, %v", got, err)
	}
	must(t, d.AddressBook().Save(got)) // what was loaded can be saved
	if again, err := d.AddressBook().Load(); err != nil || !reflect.DeepEqual(again, want) {
		t.Errorf("loaded %v, %v", again, err)
	}
	for i := range sound {
		for bit := range 8 {
			damaged := slices.Clone(sound)
			damaged[i] ^= 1 << bit
			must(t, os.WriteFile(d.Path("peers.json"), damaged, 0o600))
			got, err := d.AddressBook().Load()
			if err == nil && !reflect.DeepEqual(got, want) || err != nil && (len(got) > 0 || !errors.Is(err, store.ErrDamaged)) {
				t.Errorf("byte %d, bit %d: %v, %v", i, bit, got, err)
			}
		}
	}
}

// Before there was a checksum the addresses were all of the file.
func TestAddressBookOfOldIsRead(t *testing.T) {
	d := openDir(t, t.TempDir())
	must(t, os.WriteFile(d.Path("peers.json"), []byte(`{"a-00000001": {"peer": "10.0.0.1:4162", "gossip": "10.0.0.1:4163", "epoch": 17}}`), 0o600))
	got, err := d.AddressBook().Load()
	if err != nil || len(got) != 1 || got["a-00000001"].Epoch != 17 {
		t.Errorf("loaded %v, %v", got, err)
	}
}
