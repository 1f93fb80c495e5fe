package store

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	bbolterrors "go.etcd.io/bbolt/errors"

	"github.com/lookupd/lookupd/seeded"
)

// keyJournal holds which journal goes with the log: a format byte, its id and
// its generation, 8 bytes each, big endian.
const (
	keyJournal       = "lookupd.journal"
	keyJournalFormat = 1
)

// journalLimits say how large a journal is and when it is emptied. The size is
// part of the format.
type journalLimits struct {
	sectors      int // for records
	flushSectors int
	flushEntries int
}

var defaultJournalLimits = journalLimits{sectors: 2048, flushSectors: 512, flushEntries: 512}

func (l journalLimits) size() int { return journalHeader + l.sectors*sectorSize }

// journalDisk is where the journal lies.
type journalDisk interface {
	// Read returns the content, or fails with fs.ErrNotExist. Of a file longer
	// than limit it returns one byte more than that.
	Read(limit int) ([]byte, error)
	// Open opens the journal to be written to, and writes nothing.
	Open() (journalFile, error)
	// Create makes a journal with content: after a crash there is all of it or
	// nothing, and once Create has returned nil all of it.
	Create(content []byte) (journalFile, error)
}

// journalFile is an open journal. When Sync returns nil, what was written before
// survives a power cut.
type journalFile interface {
	WriteAt(b []byte, offset int64) (int, error)
	Sync() error
	Close() error
}

// journaled is raft-boltdb with a journal in front: StoreLogs is one write in
// sequence and one sync, and what came in since is also kept in memory. From time
// to time all of it goes into raft-boltdb, in one transaction, and the journal is
// emptied (flush).
//
// What is in the journal is written to raft-boltdb again after a crash. So
// nothing of it may be deleted or overwritten there before it is emptied.
//
// Up to its first write it changes nothing on disk. That one empties the journal,
// so that each start writes in generations of its own and never behind what a
// crash has left. After a write that failed it must not be used.
type journaled struct {
	logBackend
	disk   journalDisk
	limits journalLimits

	write  sync.Mutex  // held while anything is written; guards what follows
	file   journalFile // nil where there is none yet, and for readers
	head   journalHead
	used   int  // sectors that may not be zero
	reset  bool // the file is in its next generation, and raft-boltdb does not know
	begun  bool
	closed bool

	mu          sync.RWMutex // taken last
	kept        map[uint64]*raft.Log
	order       []*raft.Log // as they were stored
	first, last uint64      // of kept
}

var _ logBackend = (*journaled)(nil)

// openJournaled reads the journal that goes with backend. For readers nothing is
// opened to be written to.
func openJournaled(backend logBackend, disk journalDisk, limits journalLimits, readOnly bool) (*journaled, error) {
	j := &journaled{logBackend: backend, disk: disk, limits: limits, kept: map[uint64]*raft.Log{}}
	stored, keyed, err := readJournalKey(backend)
	if err != nil {
		return nil, err
	}
	content, err := disk.Read(limits.size())
	switch {
	case err == nil:
		err = j.load(content, stored, keyed)
	case !errors.Is(err, fs.ErrNotExist):
	case keyed:
		err = fmt.Errorf("%w: raft.db goes with this journal, and it is not there", ErrLogMissing)
	default: // raft has not written yet, or did before there were journals
		return j, nil
	}
	if seeded.EmptyLogAccepted && errors.Is(err, ErrLogMissing) {
		return j, nil
	}
	if err == nil && !readOnly {
		j.file, err = disk.Open()
	}
	return j, err
}

// load takes what is in the file. stored is what raft-boltdb knows of it; flush
// says why it may be one generation behind.
func (j *journaled) load(content []byte, stored journalHead, keyed bool) (err error) {
	if len(content) != j.limits.size() {
		return fmt.Errorf("%w: it should have %d bytes", ErrDamaged, j.limits.size())
	}
	if j.head, err = decodeHead(content); err != nil {
		return err
	}
	records := content[journalHeader:]
	j.used = usedSectors(records)
	switch {
	case !keyed && (j.head.generation != 1 || j.head.end > 0 || j.used > 0):
		return fmt.Errorf("%w: raft.db knows nothing of this journal", ErrLogMissing)
	case !keyed: // a crash came after it was made
		j.reset = true
		return nil
	case j.head.id != stored.id:
		return fmt.Errorf("%w: raft.db goes with another journal", ErrLogForeign)
	case j.head.generation < stored.generation:
		return fmt.Errorf("%w: the journal is of generation %d, raft.db has seen %d", ErrLogOlder, j.head.generation, stored.generation)
	case j.head.generation-stored.generation > 1, j.head.generation > stored.generation && j.head.end > 0:
		return fmt.Errorf("%w: raft.db is, it has seen generation %d of the journal, which is of %d", ErrLogOlder, stored.generation, j.head.generation)
	case j.head.generation > stored.generation: // what it held is in raft.db
		j.reset = true
		last, err := j.logBackend.LastIndex()
		if err == nil && last < j.head.moved {
			err = fmt.Errorf("%w: raft.db is, it ends at entry %d, the journal has seen entry %d in it", ErrLogOlder, last, j.head.moved)
		}
		return err
	}
	entries, err := j.head.decodeRecords(records)
	j.keep(entries)
	return err
}

func readJournalKey(backend logBackend) (stored journalHead, keyed bool, err error) {
	value, err := readValue(backend, []byte(keyJournal))
	if errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return stored, false, nil
	}
	if err != nil {
		return stored, false, err
	}
	if len(value) > 0 && value[0] > keyJournalFormat {
		return stored, false, fmt.Errorf("%w: journal of format %d, this one knows up to %d", ErrNewerFormat, value[0], keyJournalFormat)
	}
	if len(value) != 17 {
		return stored, false, fmt.Errorf("%w: %s has %d bytes", ErrDamaged, keyJournal, len(value))
	}
	return journalHead{id: binary.BigEndian.Uint64(value[1:]), generation: binary.BigEndian.Uint64(value[9:])}, true, nil
}

// keep adds entries to those in memory.
func (j *journaled) keep(entries []*raft.Log) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range entries {
		if len(j.order) == 0 {
			j.first, j.last = e.Index, e.Index
		}
		j.first, j.last = min(j.first, e.Index), max(j.last, e.Index)
		j.kept[e.Index] = e
		j.order = append(j.order, e)
	}
}

func (j *journaled) forget() {
	j.mu.Lock()
	defer j.mu.Unlock()
	clear(j.kept)
	j.order, j.first, j.last = nil, 0, 0
}

// begin comes before the first write.
func (j *journaled) begin() error {
	if j.closed {
		return bbolterrors.ErrDatabaseNotOpen
	}
	if j.begun {
		return nil
	}
	if j.file == nil {
		var id [8]byte
		rand.Read(id[:]) // never fails
		head := journalHead{id: binary.BigEndian.Uint64(id[:]), generation: 1}
		content := make([]byte, j.limits.size())
		copy(content, head.encode())
		file, err := j.disk.Create(content)
		if err != nil {
			return err
		}
		j.file, j.head, j.reset = file, head, true
	}
	// A process that was killed in a flush may have left the head in memory alone,
	// and zeros must not come before it; nor may raft acknowledge again what one that
	// was killed in StoreLogs has left there.
	if err := j.file.Sync(); err != nil {
		return err
	}
	if err := j.flush(); err != nil {
		return err
	}
	j.begun = true
	return nil
}

// flush moves all entries to raft-boltdb and empties the journal. Whenever a
// crash comes, one of them has every entry:
//
//  1. raft-boltdb has the entries too
//  2. the head says the next generation: the entries no longer count. Until step
//     4 raft-boltdb is one behind, which says that nothing is to be taken from here
//  3. zeros, so that what a crash leaves of a record can be told from damage
//  4. raft-boltdb knows the generation; records may follow
//
// So an older copy of the journal is always behind raft-boltdb, and found.
func (j *journaled) flush() error {
	if !j.reset {
		if len(j.order) > 0 {
			if err := j.logBackend.StoreLogs(j.order); err != nil {
				return err
			}
		}
		head := journalHead{id: j.head.id, generation: j.head.generation + 1, moved: j.last}
		if err := j.put(head.encode(), 0); err != nil {
			return err
		}
		j.head, j.reset = head, true
	}
	if err := j.put(make([]byte, j.used*sectorSize), journalHeader); err != nil {
		return err
	}
	j.used = 0
	value := binary.BigEndian.AppendUint64([]byte{keyJournalFormat}, j.head.id)
	value = binary.BigEndian.AppendUint64(value, j.head.generation)
	if err := j.logBackend.Set([]byte(keyJournal), sealValue([]byte(keyJournal), value)); err != nil {
		return err
	}
	j.reset = false
	j.forget()
	return nil
}

// put writes b and makes it last.
func (j *journaled) put(b []byte, offset int64) error {
	if _, err := j.file.WriteAt(b, offset); err != nil {
		return err
	}
	return j.file.Sync()
}

// StoreLog implements raft.LogStore.
func (j *journaled) StoreLog(entry *raft.Log) error { return j.StoreLogs([]*raft.Log{entry}) }

// StoreLogs implements raft.LogStore. What is larger than the journal goes past it.
func (j *journaled) StoreLogs(entries []*raft.Log) error {
	if len(entries) == 0 {
		return nil
	}
	j.write.Lock()
	defer j.write.Unlock()
	if err := j.begin(); err != nil {
		return err
	}
	sectors := sectorsOf(entriesLength(entries))
	full := j.used >= j.limits.flushSectors || len(j.order)+len(entries) > j.limits.flushEntries || j.used+sectors > j.limits.sectors
	if full && j.used > 0 {
		if err := j.flush(); err != nil {
			return err
		}
	}
	if sectors > j.limits.sectors {
		return j.logBackend.StoreLogs(entries)
	}
	content := encodeEntries(entries)
	own, err := decodeEntries(content) // raft may change its own
	if err != nil {
		return err
	}
	head := j.head
	head.begin, head.end = uint32(j.used), uint32(j.used+sectors)
	if _, err := j.file.WriteAt(head.encode(), 0); err != nil {
		return err
	}
	if err := j.put(head.encodeRecord(j.used, content), journalHeader+int64(j.used)*sectorSize); err != nil {
		return err
	}
	j.head, j.used = head, int(head.end)
	j.keep(own)
	return nil
}

// DeleteRange implements raft.LogStore. If the journal has none of the entries
// it cannot bring one back.
func (j *journaled) DeleteRange(first, last uint64) error {
	j.write.Lock()
	defer j.write.Unlock()
	if err := j.begin(); err != nil {
		return err
	}
	if len(j.order) > 0 && j.first <= last && j.last >= first {
		if err := j.flush(); err != nil {
			return err
		}
	}
	return j.logBackend.DeleteRange(first, last)
}

// Set implements raft.StableStore.
func (j *journaled) Set(key, value []byte) error {
	j.write.Lock()
	defer j.write.Unlock()
	if err := j.begin(); err != nil {
		return err
	}
	return j.logBackend.Set(key, value)
}

// SetUint64 implements raft.StableStore.
func (j *journaled) SetUint64(key []byte, value uint64) error {
	return j.Set(key, binary.BigEndian.AppendUint64(nil, value))
}

// GetLog implements raft.LogStore. Entries are forgotten after raft-boltdb has
// them, so that none is missed that is looked for here first.
func (j *journaled) GetLog(index uint64, entry *raft.Log) error {
	j.mu.RLock()
	kept := j.kept[index]
	j.mu.RUnlock()
	if kept != nil {
		*entry = *kept
		return nil
	}
	return j.logBackend.GetLog(index, entry)
}

// ends returns the lowest and the highest index in memory, 0 if there is none.
func (j *journaled) ends() (first, last uint64) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	return j.first, j.last
}

// FirstIndex implements raft.LogStore.
func (j *journaled) FirstIndex() (uint64, error) {
	kept, _ := j.ends()
	first, err := j.logBackend.FirstIndex()
	if err != nil || kept == 0 || first > 0 && first < kept {
		return first, err
	}
	return kept, nil
}

// LastIndex implements raft.LogStore.
func (j *journaled) LastIndex() (uint64, error) {
	_, kept := j.ends()
	last, err := j.logBackend.LastIndex()
	if err != nil {
		return 0, err
	}
	return max(last, kept), nil
}

// Close flushes if this start has written anything: a log that was opened to be
// looked at, and refused, stays as it is.
func (j *journaled) Close() error {
	j.write.Lock()
	defer j.write.Unlock()
	if j.closed {
		return nil
	}
	j.closed = true
	var errs []error
	if j.begun && len(j.order) > 0 {
		errs = append(errs, j.flush())
	}
	if j.file != nil {
		errs = append(errs, j.file.Close())
	}
	return errors.Join(append(errs, j.logBackend.Close())...)
}
