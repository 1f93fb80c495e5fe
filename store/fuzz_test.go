package store_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/lookupd/lookupd/store"
)

// FuzzIdentity: node.json with anything in it, and once more with the checksum
// that fits, is refused as damaged or newer, or is an identity that is saved and
// loaded as it is.
func FuzzIdentity(f *testing.F) {
	d := openDir(f, f.TempDir())
	path := d.Path("node.json")
	good := store.Identity{Format: 1, ClusterID: "c", NodeID: "a-00000001", Epoch: 2, LastTerm: 3, LastIndex: 4, Founders: nil}
	must(f, d.SaveIdentity(good))
	whole, err := os.ReadFile(path)
	must(f, err)
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add(bytes.Replace(whole, []byte("a-0"), []byte("b-0"), 1))
	for _, content := range []string{
		"", "null", "{}", "[]", "7", `{"format":2}`, `{"format":1.5}`, `{"format":-1,"node_id":"a-00000001"}`, `{"format":0,"node_id":"a-00000001"}`,
		`{"format":1,"node_id":""}`, `{"format":1,"node_id":"../../etc-00000001"}`, `{"format":1,"node_id":"a-0000000g"}`, `{"format":1,"node_id":"a-00000001\n"}`,
		`{"format":1,"node_id":"a-00000001","epoch":-1}`, `{"format":1,"node_id":"a-00000001","epoch":18446744073709551615}`, `{"format":1,"node_id":"a-00000001","checksum":7}`,
		`{"format":1,"NODE_ID":"a-00000001","node_id":"b-00000002"}`, `{"format":1,"node_id":"a-00000001","founders":["","x"]}`, `{"format":1,"node_id":"a-00000001","founders":[]}`,
		"{\"format\":1,\"node_id\":\"a-00000001\",\"cluster_id\":\"\xff\"}", strings.Repeat("[", 20_000),
	} {
		f.Add([]byte(content))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		loadIdentity(t, d, content)
		var said store.Identity
		if json.Unmarshal(content, &said) != nil {
			return
		}
		sum, err := said.Checksum()
		must(t, err)
		fitting, err := json.Marshal(struct {
			store.Identity
			Checksum string `json:"checksum"`
		}{said, sum})
		must(t, err)
		loadIdentity(t, d, fitting)
	})
}

func loadIdentity(t *testing.T, d *store.Dir, content []byte) {
	t.Helper()
	must(t, os.WriteFile(d.Path("node.json"), content, 0o600))
	id, found, err := d.LoadIdentity()
	if err != nil {
		if found || !errors.Is(err, store.ErrDamaged) && !errors.Is(err, store.ErrNewerFormat) && !errors.Is(err, store.ErrRefused) {
			t.Errorf("%.200q: found %v, %v", content, found, err)
		}
		return
	}
	if !found || id.Format != 1 || !store.ValidNodeID(id.NodeID) {
		t.Errorf("%.200q is %+v", content, id)
	}
	var said struct{ Checksum string }
	must(t, json.Unmarshal(content, &said))
	if sum, err := id.Checksum(); err != nil || sum != said.Checksum {
		t.Errorf("%.200q was taken with a checksum that is not %q, %v", content, sum, err)
	}
	must(t, d.SaveIdentity(id))
	again, found, err := d.LoadIdentity()
	if len(id.Founders) == 0 { // none, written as none
		id.Founders = nil
	}
	if err != nil || !found || !reflect.DeepEqual(id, again) {
		t.Errorf("%+v is loaded as %+v, %v, %v", id, again, found, err)
	}
}

// FuzzAddressBook: peers.json with anything in it gives no address or those that
// are saved and loaded as they are.
func FuzzAddressBook(f *testing.F) {
	for _, content := range []string{
		"", "null", "{}", "[]", "{", `{"a":7}`, `{"a":null}`, `{"a-00000001":{"peer":"10.0.0.1:4162","gossip":"[::1]:4163","epoch":3}}`,
		`{"a":{"epoch":-1}}`, `{"a":{"epoch":18446744073709551616}}`, `{"":{"peer":"\ud800"}}`, "{\"\xff\":{}}", `{"a":{},"a":{"peer":"x"}}`, `{"a":{"PEER":"x","more":[]}}`, "{}{}", strings.Repeat("[", 20_000),
		`{"peers":{"a-00000001":{"epoch":3}},"checksum":"35c1dda7"}`, `{"checksum":""}`, `{"checksum":null}`, `{"peers":null,"checksum":"d4dc3103"}`,
	} {
		f.Add([]byte(content))
	}
	d := openDir(f, f.TempDir())
	f.Fuzz(func(t *testing.T, content []byte) {
		must(t, os.WriteFile(d.Path("peers.json"), content, 0o600))
		book := d.AddressBook()
		peers, err := book.Load()
		if err != nil {
			if peers == nil || len(peers) > 0 || !errors.Is(err, store.ErrDamaged) && !errors.Is(err, store.ErrRefused) {
				t.Errorf("%d peers, %v", len(peers), err)
			}
			return
		}
		must(t, book.Save(peers))
		if again, err := d.AddressBook().Load(); err != nil || !maps.Equal(peers, again) {
			t.Errorf("%v is loaded as %v, %v", peers, again, err)
		}
	})
}

// FuzzLogFile changes bytes of a raft log's file, and its length: a start must
// refuse it, or read what was there before. An edit is a place in the file, 3
// bytes, and what comes there.
func FuzzLogFile(f *testing.F) {
	base := openDir(f, f.TempDir())
	_, l := mustStart(f, base)
	fill(f, l, 4, 1, 40)
	must(f, l.StoreLog(command(41, 4, strings.Repeat("long ", 2000))))
	fill(f, l, 5, 42, 60)
	must(f, l.SetUint64([]byte("LastVoteTerm"), 5))
	must(f, l.Close())
	want, err := reopen(f, base)
	must(f, err)
	identity, err := os.ReadFile(base.Path("node.json"))
	must(f, err)
	file, err := os.ReadFile(base.Path("raft", "raft.db"))
	must(f, err)

	edit := func(place int, with ...byte) (edits []byte) {
		for i, b := range with {
			edits = append(edits, byte((place+i)>>16), byte((place+i)>>8), byte(place+i), b)
		}
		return edits
	}
	f.Add([]byte{}, uint32(0))
	f.Add([]byte{}, uint32(len(file)))
	f.Add([]byte{}, uint32(pageSize))
	f.Add([]byte{}, uint32(len(file)/2))
	for n := 0; n < 8*pageSize; n += pageSize {
		f.Add(edit(n+8, 1), uint32(0))                   // flags: a branch
		f.Add(edit(n+10, 0xff, 0xff), uint32(0))         // count
		f.Add(edit(n+24, 0, 0, 0, 0x7f), uint32(0))      // a key's size
		f.Add(edit(n+pageSize-1, 0xff, 0xff), uint32(0)) // a value, and the next page's id
	}
	f.Fuzz(func(t *testing.T, edits []byte, cut uint32) {
		damaged := bytes.Clone(file)
		for ; len(edits) >= 4; edits = edits[4:] {
			place := binary.BigEndian.Uint32(append([]byte{0}, edits[:3]...))
			damaged[int(place)%len(damaged)] = edits[3]
		}
		damaged = damaged[:len(damaged)-int(cut)%(len(damaged)+1)]
		d := openDir(t, t.TempDir())
		must(t, os.Mkdir(filepath.Dir(d.Path("raft", "raft.db")), 0o700))
		must(t, os.WriteFile(d.Path("node.json"), identity, 0o600))
		must(t, os.WriteFile(d.Path("raft", "raft.db"), damaged, 0o600))
		copyFile(t, journalOf(base), journalOf(d))
		switch got, err := reopen(t, d); {
		case err == nil && !maps.Equal(got, want):
			t.Error("damaged, and read as something else")
		case err != nil && !refused(err):
			t.Error(err)
		}
	})
}

// FuzzJournal: a journal with anything in it, as it is and with checksums that
// fit, is refused, or is a list of entries that are in it.
func FuzzJournal(f *testing.F) {
	entries := []*raft.Log{command(1, 1, "one"), command(2, 1, strings.Repeat("two", 200))}
	whole := store.EncodeJournal(6, entries[:1], entries, entries[:1])
	for _, n := range []int{0, 1, store.SectorSize, store.JournalHeader, store.JournalHeader + store.SectorSize} {
		f.Add(whole[:n])
	}
	f.Add(whole)
	f.Add(store.EncodeJournal(6))
	for _, edit := range []struct{ at, with int }{
		{11, 2}, {31, 9}, {35, 200}, // format, begin, end
		{store.JournalHeader + 7, 1}, {store.JournalHeader + 8, 0xff}, {store.JournalHeader + 11, 0}, // part, length
		{store.JournalHeader + 12 + 29, 0xff}, {store.JournalHeader + 12 + 33, 0xff}, // of extensions, of data
	} {
		bad := bytes.Clone(whole)
		bad[edit.at] = byte(edit.with)
		f.Add(bad)
	}
	long := store.EncodeJournal(1, entries[:1]) // longer than the file
	long[store.JournalHeader+10] = 8
	f.Add(long)
	f.Fuzz(func(t *testing.T, content []byte) {
		sealed := bytes.Clone(content)
		store.SealJournal(sealed)
		for _, content := range [][]byte{content, sealed} {
			entries, err := store.DecodeJournal(content)
			switch {
			case err != nil && !refused(err):
				t.Error(err)
			case err == nil && len(store.EncodeEntries(entries)) > len(content):
				t.Errorf("%d entries of more bytes than the journal's %d", len(entries), len(content))
			}
		}
	})
}
