package fsm_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/lookupd/lookupd/fsm"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
)

// FuzzDecodeBatch: what is decoded can be encoded again, is the same then, is
// applied once to a state with a bit of everything, and leaves a sound one.
func FuzzDecodeBatch(f *testing.F) {
	encoded := func(b fsm.Batch) []byte {
		data, err := fsm.EncodeBatch(b)
		if err != nil {
			f.Fatal(err)
		}
		return data
	}
	every := everyCommand()
	f.Add(encoded(every))
	for _, c := range every.Commands {
		f.Add(encoded(fsm.Batch{Origin: nodeA, Epoch: math.MaxUint64, Number: math.MaxUint64, Commands: []registry.Command{c}}))
	}
	p := info("p1").ID()
	for _, commands := range [][]registry.Command{
		{open(nodeA, 2, "p1"), register(nodeA, 1, "p1", "t", "c")}, // a session that was replaced
		{registry.CloseSession{Session: sid(nodeA, math.MaxUint64), Producer: p}},
		{registry.EndOrphan{Session: sid(nodeB, 1), Producer: p, Term: 1}},
		{registry.EndOrphan{Session: sid("x", 1), Producer: p, Term: 1}},
		{registry.Unregister{Session: sid(nodeA, 1), Producer: p, Topic: "u#ephemeral"}},
		{registry.DeleteChannel{Topic: "t", Channel: "c"}, registry.DeleteTopic{Topic: "t"}, registry.CreateChannel{Topic: "t", Channel: "c"}},
		{registry.Tombstone{Topic: "t", Node: "p1:4151"}, registry.EndTombstone{Topic: "t", Producer: p, SetAt: 5}},
		{registry.OpenSession{Session: sid(nodeA, 9)}}, // producer ":0"
	} {
		f.Add(encoded(batch(nodeA, 2, commands...)))
	}
	f.Add([]byte{})
	f.Add([]byte{0x0a, 1, 'a', 0x22, 2, 0x7a, 0})
	f.Add([]byte{0x22, 0xff, 0xff, 0xff, 0xff, 0x0f})
	// Longer than a key of the state may be.
	f.Add(fmt.Appendf(nil, "\x0a\xc0\xb8\x02%s\x22\x04\x3a\x02\x0a\x00", strings.Repeat("o", 40_000)))
	f.Add(fmt.Appendf(nil, "\x0a\xc0\xb8\x02%s\x22\x05\x3a\x03\x0a\x01t", strings.Repeat("o", 40_000)))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := fsm.DecodeBatch(data)
		if err != nil {
			if !errors.Is(err, fsm.ErrBadBatch) && !errors.Is(err, fsm.ErrUnknownCommand) {
				t.Errorf("error %v", err)
			}
			return
		}
		again, err := fsm.EncodeBatch(b)
		if err != nil {
			t.Fatal(err)
		}
		if other, err := fsm.DecodeBatch(again); err != nil || !cmp.Equal(b, other) {
			t.Errorf("not the same again: %v", err)
		}
		m := filled(t)
		first := m.apply(b)
		// One that has the number of an earlier batch gets that one's results.
		if !first.Stale && first.Index == m.index && len(first.Results) != len(b.Commands) {
			t.Errorf("%d results of %d commands", len(first.Results), len(b.Commands))
		}
		if b.Origin == "" {
			return // has no number; only no-ops
		}
		hash := m.hash()
		if second := m.apply(b); second.Stale != first.Stale || !first.Stale && !cmp.Equal(first, second) {
			t.Errorf("answered %+v, then %+v", first, second)
		}
		if m.hash() != hash {
			t.Error("applied twice")
		}
	})
}

// FuzzInspect: no snapshot makes it panic, or take memory or time for what a
// header claims.
func FuzzInspect(f *testing.F) {
	good := sealed([]byte("state"))
	for _, cut := range []int{0, 7, 12, 13, 14, 20, 30, len(good) - 33, len(good) - 32, len(good) - 1, len(good)} {
		f.Add(good[:cut])
	}
	for _, edit := range []struct {
		at   int
		with byte
	}{{0, 1}, {11, 2}, {12, 0xff}, {13, 0xff}, {14, 1}, {30, 0x80}, {47, 0xff}, {48, 0x7f}, {len(good) - 1, 1}} {
		b := bytes.Clone(good)
		b[edit.at] ^= edit.with
		f.Add(b)
	}
	f.Add(append(bytes.Clone(good), 0))
	f.Add([]byte("lookupd\n\x00\x00\x00\x01\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		info, err := fsm.Inspect(bytes.NewReader(data))
		runtime.ReadMemStats(&after)
		if taken := after.TotalAlloc - before.TotalAlloc; taken > 256<<10 {
			t.Errorf("%d bytes taken for %d", taken, len(data))
		}
		switch {
		case err != nil && !errors.Is(err, fsm.ErrBadSnapshot):
			t.Errorf("error %v", err)
		case err == nil && int64(len(data)) != 14+int64(len(info.ClusterID))+32+info.Size+sha256.Size:
			t.Errorf("%d bytes are a snapshot with %+v", len(data), info)
		}
	})
}

// FuzzRestore changes bytes of a good snapshot's state file and makes its
// checksum right again, as nothing but a peer that is broken or bad would: the
// restore must fail and leave everything as it was, or give a sound state. An
// edit is a place in the file, 3 bytes, and what comes there.
func FuzzRestore(f *testing.F) {
	donor := filled(f)
	good, hash, rows, index := donor.snapshot(), donor.hash(), donor.rows(), donor.index
	const header = 14 + len("cluster-1") + 4*8
	file := good[header : len(good)-sha256.Size]
	page := binary.NativeEndian.Uint32(file[16+8:])
	at := func(page, offset uint32, with ...byte) (edits []byte) {
		for i, b := range with {
			place := page + offset + uint32(i)
			edits = append(edits, byte(place>>16), byte(place>>8), byte(place), b)
		}
		return edits
	}
	f.Add([]byte{}, uint32(0))
	f.Add([]byte{}, page)
	f.Add([]byte{}, uint32(len(file)))
	for n := uint32(0); n < uint32(len(file)); n += page {
		f.Add(at(n, 0, 0xff), uint32(0))                   // page id
		f.Add(at(n, 8, 0x01), uint32(0))                   // flags: a branch
		f.Add(at(n, 10, 0xff, 0xff), uint32(0))            // count
		f.Add(at(n, 12, 0xff, 0xff, 0xff, 0), uint32(0))   // overflow
		f.Add(at(n, 16, 1), uint32(0))                     // first element: a bucket
		f.Add(at(n, 20, 0xff, 0xff, 0xff, 0xf), uint32(0)) // its position
		f.Add(at(n, 24, 0, 0, 0, 0x7f), uint32(0))         // its key's size
		f.Add(at(n, page-1, 1), uint32(0))                 // maybe a key or value
	}
	f.Fuzz(func(t *testing.T, edits []byte, cut uint32) {
		state := bytes.Clone(file)
		for ; len(edits) >= 4; edits = edits[4:] {
			state[(int(edits[0])<<16|int(edits[1])<<8|int(edits[2]))%len(state)] = edits[3]
		}
		state = state[:len(state)-int(cut)%(len(state)+1)]
		snapshot := append(bytes.Clone(good[:header]), state...)
		binary.BigEndian.PutUint64(snapshot[header-8:], uint64(len(state)))
		sum := sha256.Sum256(snapshot)

		m := filled(t)
		m.apply(batch(nodeA, 2, registry.CreateTopic{Topic: "own"}))
		own := m.hash()
		switch err := m.restore(append(snapshot, sum[:]...)); {
		case err == nil:
			m.index = index
			if m.hash() != hash || !cmp.Equal(m.rows(), rows) {
				t.Error("restored to another state")
			}
		case !errors.Is(err, fsm.ErrBadSnapshot):
			t.Fatalf("error %v", err)
		case m.hash() != own:
			t.Fatal("failed and changed the state")
		}
		m.view((*store.View).Check)
		m.apply(batch(nodeA, 3, registry.DeleteTopic{Topic: "t"}, open(nodeA, 3, "p2"), register(nodeA, 3, "p2", "t", "c")))
	})
}
