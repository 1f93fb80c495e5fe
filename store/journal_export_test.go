package store

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/hashicorp/raft"
)

// For tests that put their own disk under a journal.
type (
	JournalDisk   = journalDisk
	JournalFile   = journalFile
	JournalLimits struct{ Sectors, FlushSectors, FlushEntries int }
)

// The parts of a journal's file.
const (
	JournalHeader = journalHeader
	SectorSize    = sectorSize
)

// OpenJournaled opens the journal on disk in front of backend.
func OpenJournaled(backend Backend, disk JournalDisk, l JournalLimits, readOnly bool) (Backend, error) {
	return openJournaled(backend, disk, journalLimits{l.Sectors, l.FlushSectors, l.FlushEntries}, readOnly)
}

// DecodeJournal returns the entries of a journal with content.
func DecodeJournal(content []byte) ([]*raft.Log, error) {
	head, err := decodeHead(content)
	if err != nil {
		return nil, err
	}
	return head.decodeRecords(content[journalHeader:])
}

// EncodeJournal makes a journal of so many sectors with a record for each list.
func EncodeJournal(sectors int, records ...[]*raft.Log) []byte {
	head := journalHead{id: 7, generation: 3}
	content := make([]byte, journalHeader+sectors*sectorSize)
	for _, entries := range records {
		record := head.encodeRecord(int(head.end), encodeEntries(entries))
		copy(content[journalHeader+int(head.end)*sectorSize:], record)
		head.begin, head.end = head.end, head.end+uint32(len(record)/sectorSize)
	}
	copy(content, head.encode())
	return content
}

// SealJournal gives the head and the records of content, if it has them, the
// checksums that fit.
func SealJournal(content []byte) {
	if len(content) < journalHeader {
		return
	}
	binary.BigEndian.PutUint32(content, crc32.Checksum(content[4:sectorSize], castagnoli))
	head, err := decodeHead(content)
	if err != nil {
		return
	}
	records := content[journalHeader:]
	for n := range len(records) / sectorSize {
		if b := records[n*sectorSize:][:sectorSize]; !allZero(b) {
			binary.BigEndian.PutUint32(b, head.sum(n, b))
		}
	}
}

// EncodeEntries is the content of a record with entries.
func EncodeEntries(entries []*raft.Log) []byte { return encodeEntries(entries) }
