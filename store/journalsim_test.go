package store_test

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"

	"github.com/lookupd/lookupd/store"
)

var errCrash = errors.New("crash")

// machine is a computer that loses its power at one of its steps: writes, syncs,
// transactions. The one under way then has happened or not.
type machine struct {
	rng     *rand.Rand
	steps   int
	crashAt int // 0: never
	crashed bool

	journal *simJournal
	db      *simDB
}

func newMachine(rng *rand.Rand) *machine {
	m := &machine{rng: rng}
	m.journal = &simJournal{m: m}
	m.db = &simDB{m: m, logs: map[uint64]raft.Log{}, conf: map[string][]byte{}}
	return m
}

// step does what one step does.
func (m *machine) step(do func()) error {
	if m.crashed {
		return errCrash
	}
	m.steps++
	if m.steps == m.crashAt {
		m.crashed = true
		if m.rng.IntN(2) == 0 {
			do()
		}
		return errCrash
	}
	do()
	return nil
}

// powerCut leaves of each sector that was not synced one of its versions.
func (m *machine) powerCut() {
	j := m.journal
	for sector, versions := range j.unsynced {
		if n := m.rng.IntN(len(versions) + 1); n > 0 {
			copy(j.durable[sector*store.SectorSize:], versions[n-1])
		}
	}
	j.current, j.unsynced = slices.Clone(j.durable), nil
	m.crashed, m.crashAt = false, 0
}

// kill ends the process alone: what it wrote is still written.
func (m *machine) kill() { m.crashed, m.crashAt = false, 0 }

// simJournal is the journal's file; nil content is no file.
type simJournal struct {
	m                *machine
	durable, current []byte
	unsynced         map[int][][]byte // versions of sectors, in the order of their writes
	openErr          error
}

func (j *simJournal) Read(limit int) ([]byte, error) {
	if j.current == nil {
		return nil, fs.ErrNotExist
	}
	return slices.Clone(j.current[:min(len(j.current), limit+1)]), nil
}

func (j *simJournal) Open() (store.JournalFile, error) { return j, j.openErr }

func (j *simJournal) Create(content []byte) (store.JournalFile, error) {
	err := j.m.step(func() { j.durable, j.current, j.unsynced = slices.Clone(content), slices.Clone(content), nil })
	return j, err
}

func (j *simJournal) WriteAt(b []byte, offset int64) (int, error) {
	if offset%store.SectorSize != 0 || len(b)%store.SectorSize != 0 || int(offset)+len(b) > len(j.current) {
		return 0, fmt.Errorf("write of %d bytes at %d", len(b), offset)
	}
	err := j.m.step(func() {
		copy(j.current[offset:], b)
		if j.unsynced == nil {
			j.unsynced = map[int][][]byte{}
		}
		for part := range slices.Chunk(b, store.SectorSize) {
			sector := int(offset) / store.SectorSize
			j.unsynced[sector] = append(j.unsynced[sector], slices.Clone(part))
			offset += store.SectorSize
		}
	})
	return len(b), err
}

func (j *simJournal) Sync() error {
	return j.m.step(func() { j.durable, j.unsynced = slices.Clone(j.current), nil })
}

func (j *simJournal) Close() error { return nil }

// simDB is raft-boltdb: each call is there for good when it returns.
type simDB struct {
	m    *machine
	logs map[uint64]raft.Log
	conf map[string][]byte
}

func (d *simDB) ends() (first, last uint64) {
	for index := range d.logs {
		if first == 0 || index < first {
			first = index
		}
		last = max(last, index)
	}
	return first, last
}

func (d *simDB) FirstIndex() (uint64, error) { first, _ := d.ends(); return first, nil }
func (d *simDB) LastIndex() (uint64, error)  { _, last := d.ends(); return last, nil }

func (d *simDB) GetLog(index uint64, entry *raft.Log) error {
	found, ok := d.logs[index]
	if !ok {
		return raft.ErrLogNotFound
	}
	*entry = found
	return nil
}

func (d *simDB) StoreLog(entry *raft.Log) error { return d.StoreLogs([]*raft.Log{entry}) }

func (d *simDB) StoreLogs(entries []*raft.Log) error {
	return d.m.step(func() {
		for _, e := range entries {
			d.logs[e.Index] = *e
		}
	})
}

func (d *simDB) DeleteRange(first, last uint64) error {
	return d.m.step(func() {
		maps.DeleteFunc(d.logs, func(index uint64, _ raft.Log) bool { return index >= first && index <= last })
	})
}

func (d *simDB) Set(key, value []byte) error {
	return d.m.step(func() { d.conf[string(key)] = slices.Clone(value) })
}

func (d *simDB) Get(key []byte) ([]byte, error) {
	value, ok := d.conf[string(key)]
	if !ok {
		return nil, raftboltdb.ErrKeyNotFound
	}
	return slices.Clone(value), nil
}

func (d *simDB) SetUint64([]byte, uint64) error   { return errors.ErrUnsupported }
func (d *simDB) GetUint64([]byte) (uint64, error) { return 0, errors.ErrUnsupported }
func (d *simDB) Close() error                     { return nil }
