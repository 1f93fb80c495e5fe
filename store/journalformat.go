package store

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/hashicorp/raft"
)

// raft.journal is made of sectors of 512 bytes, the unit of which a disk writes
// all or nothing. Numbers are big endian.
//
//	sector 0       the head
//	sectors 1-7    zero
//	from sector 8  records, one behind the other, each beginning a sector of its
//	               own; zero behind the last
//
// The head:
//
//	 0       4         12     20             28        32      36      44
//	+-------+---------+------+--------------+---------+-------+-------+------+
//	| CRC   | magic   | id   | generation   | begin   | end   | moved | zero |
//	+-------+---------+------+--------------+---------+-------+-------+------+
//
// begin and end are where the last record lies, counted in sectors from the
// first record. moved is the highest index that went to raft.db when the
// generation began, 0 if none did. The head is written with every record: it is the second place
// that knows of it, so that more than one record cannot vanish without a trace.
//
// Each sector of a record:
//
//	 0       4        8          12
//	+-------+--------+----------+------------------------+
//	| CRC   | part   | length   | 500 bytes of content   |
//	+-------+--------+----------+------------------------+
//
// part counts the record's sectors, length is the record's in bytes without the
// zeros that fill its last sector. The CRC32C is over id, generation, the
// sector's number (8 bytes each) and the rest of the sector: nothing of another
// journal, generation or place passes. No sealed sector is all zeros, as length
// is not 0. So a sector that is neither sealed nor zero is damaged, also where a
// crash has cut a record: that leaves zeros in place of some of its sectors.
//
// The content is the entries of one StoreLogs:
//
//	 0       8      16     17        25            29           33     37
//	+-------+------+------+---------+-------------+------------+------+------------+------+
//	| index | term | type | seconds | nanoseconds | extensions | data | extensions | data |
//	|       |      |      | of AppendedAt         | length     |length|            |      |
//	+-------+------+------+---------+-------------+------------+------+------------+------+
const (
	journalMagic  = 0x6c6b75706a6e6c00 | journalFormat // "lkupjnl" and the format
	journalFormat = 1

	sectorSize    = 512
	sectorHead    = 12
	sectorContent = sectorSize - sectorHead
	journalHeader = 8 * sectorSize

	journalEntryHead = 37
)

// journalHead is a journal's first sector. No two journals have the same id, and
// a journal that was emptied has another generation.
type journalHead struct {
	id, generation uint64
	begin, end     uint32
	moved          uint64
}

func (h journalHead) encode() []byte {
	b := make([]byte, sectorSize)
	binary.BigEndian.PutUint64(b[4:], journalMagic)
	binary.BigEndian.PutUint64(b[12:], h.id)
	binary.BigEndian.PutUint64(b[20:], h.generation)
	binary.BigEndian.PutUint32(b[28:], h.begin)
	binary.BigEndian.PutUint32(b[32:], h.end)
	binary.BigEndian.PutUint64(b[36:], h.moved)
	binary.BigEndian.PutUint32(b, crc32.Checksum(b[4:], castagnoli))
	return b
}

// sum is the checksum of the record sector b with the number n.
func (h journalHead) sum(n int, b []byte) uint32 {
	var seed [24]byte
	binary.BigEndian.PutUint64(seed[0:], h.id)
	binary.BigEndian.PutUint64(seed[8:], h.generation)
	binary.BigEndian.PutUint64(seed[16:], uint64(n))
	return crc32.Update(crc32.Checksum(seed[:], castagnoli), castagnoli, b[4:])
}

// sectorsOf is how many sectors a record of so many bytes takes.
func sectorsOf(length int) int { return (length + sectorContent - 1) / sectorContent }

// encodeRecord makes the sectors of a record that begins at sector at.
func (h journalHead) encodeRecord(at int, content []byte) []byte {
	length := uint32(len(content))
	record := make([]byte, sectorsOf(len(content))*sectorSize)
	for part := 0; len(content) > 0; part++ {
		b := record[part*sectorSize:][:sectorSize]
		binary.BigEndian.PutUint32(b[4:], uint32(part))
		binary.BigEndian.PutUint32(b[8:], length)
		content = content[copy(b[sectorHead:], content):]
		binary.BigEndian.PutUint32(b, h.sum(at+part, b))
	}
	return record
}

// entriesLength is the length of encodeEntries' result.
func entriesLength(entries []*raft.Log) (n int) {
	for _, e := range entries {
		n += journalEntryHead + len(e.Extensions) + len(e.Data)
	}
	return n
}

func encodeEntries(entries []*raft.Log) []byte {
	b := make([]byte, 0, entriesLength(entries))
	for _, e := range entries {
		b = binary.BigEndian.AppendUint64(b, e.Index)
		b = binary.BigEndian.AppendUint64(b, e.Term)
		b = append(b, byte(e.Type))
		b = binary.BigEndian.AppendUint64(b, uint64(e.AppendedAt.Unix()))
		b = binary.BigEndian.AppendUint32(b, uint32(e.AppendedAt.Nanosecond()))
		b = binary.BigEndian.AppendUint32(b, uint32(len(e.Extensions)))
		b = binary.BigEndian.AppendUint32(b, uint32(len(e.Data)))
		b = append(append(b, e.Extensions...), e.Data...)
	}
	return b
}

// decodeEntries returns entries that share b.
func decodeEntries(b []byte) (entries []*raft.Log, err error) {
	for len(b) > 0 {
		if len(b) < journalEntryHead {
			return nil, fmt.Errorf("%w: an entry is cut", ErrDamaged)
		}
		extensions, data := uint64(binary.BigEndian.Uint32(b[29:])), uint64(binary.BigEndian.Uint32(b[33:]))
		rest := b[journalEntryHead:]
		if extensions+data > uint64(len(rest)) {
			return nil, fmt.Errorf("%w: an entry of %d bytes in a record of %d", ErrDamaged, extensions+data, len(rest))
		}
		at := time.Unix(int64(binary.BigEndian.Uint64(b[17:])), int64(binary.BigEndian.Uint32(b[25:])))
		entries = append(entries, &raft.Log{
			Index:      binary.BigEndian.Uint64(b),
			Term:       binary.BigEndian.Uint64(b[8:]),
			Type:       raft.LogType(b[16]),
			AppendedAt: at.UTC(),
			Extensions: rest[:extensions:extensions],
			Data:       rest[extensions : extensions+data : extensions+data],
		})
		b = rest[extensions+data:]
	}
	return entries, nil
}

// decodeHead reads what is before the records of a journal with content.
func decodeHead(content []byte) (h journalHead, err error) {
	if len(content) < journalHeader || len(content)%sectorSize != 0 {
		return h, fmt.Errorf("%w: a journal of %d bytes", ErrDamaged, len(content))
	}
	b, sectors := content[:sectorSize], (len(content)-journalHeader)/sectorSize
	if binary.BigEndian.Uint32(b) != crc32.Checksum(b[4:], castagnoli) {
		return h, fmt.Errorf("%w: the head's checksum is wrong", ErrDamaged)
	}
	switch magic := binary.BigEndian.Uint64(b[4:]); {
	case magic>>8 != journalMagic>>8:
		return h, fmt.Errorf("%w: it begins with %#x", ErrDamaged, magic)
	case byte(magic) > journalFormat:
		return h, fmt.Errorf("%w: format %d, this one knows up to %d", ErrNewerFormat, byte(magic), journalFormat)
	}
	h = journalHead{
		id: binary.BigEndian.Uint64(b[12:]), generation: binary.BigEndian.Uint64(b[20:]),
		begin: binary.BigEndian.Uint32(b[28:]), end: binary.BigEndian.Uint32(b[32:]),
		moved: binary.BigEndian.Uint64(b[36:]),
	}
	if h.begin > h.end || uint64(h.end) > uint64(sectors) || string(h.encode()) != string(b) || !allZero(content[sectorSize:journalHeader]) {
		return h, fmt.Errorf("%w: the head makes no sense", ErrDamaged)
	}
	return h, nil
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// usedSectors is where the zeros behind the records begin.
func usedSectors(records []byte) int {
	n := len(records) / sectorSize
	for n > 0 && allZero(records[(n-1)*sectorSize:n*sectorSize]) {
		n--
	}
	return n
}

// decodeRecords returns the entries of all whole records. What a crash can have
// left of one more, that was never acknowledged, is left out; whatever else is
// not as it was written is ErrDamaged.
//
// One thing it cannot tell apart: the last record with sectors of zeros, after a
// write that the disk reported and lost. Also an earlier version of the whole
// journal of this start goes unseen, as one of raft.db's pages does.
func (h journalHead) decodeRecords(records []byte) (entries []*raft.Log, err error) {
	used := usedSectors(records)
	begin, end, torn := 0, 0, 0 // torn: the sectors of a record that is not whole
	for end < used {
		content, n, whole, err := h.decodeRecord(records, end)
		if err != nil {
			return nil, err
		}
		if !whole {
			if end+n < used {
				return nil, fmt.Errorf("%w: the record at sector %d has holes", ErrDamaged, end)
			}
			torn = n
			break
		}
		more, err := decodeEntries(content)
		if err != nil {
			return nil, err
		}
		entries = append(entries, more...)
		begin, end = end, end+n
	}
	begins, ends := int(h.begin), int(h.end)
	switch {
	case end == ends: // the next one may have been under way
	case end == begins && (torn == 0 || torn == ends-begins): // the head came through, its record did not
	case begin == ends && torn == 0: // the record came through, the head did not
	default:
		return nil, fmt.Errorf("%w: the records end at sector %d, the head says from %d to %d", ErrDamaged, end, begins, ends)
	}
	return entries, nil
}

// decodeRecord reads the record that begins at sector at, where or behind which
// some sector is not zero. n is how many sectors it takes.
func (h journalHead) decodeRecord(records []byte, at int) (content []byte, n int, whole bool, err error) {
	length := 0
	whole = true
	for part := 0; n == 0 || part < n; part++ {
		b := records[(at+part)*sectorSize:][:sectorSize]
		if allZero(b) {
			whole = false
			continue
		}
		if binary.BigEndian.Uint32(b) != h.sum(at+part, b) {
			return nil, 0, false, fmt.Errorf("%w: sector %d has a wrong checksum", ErrDamaged, at+part)
		}
		says := int(binary.BigEndian.Uint32(b[8:]))
		if n == 0 { // the first that is there
			length, n = says, sectorsOf(says)
			if n == 0 || n > len(records)/sectorSize-at {
				return nil, 0, false, fmt.Errorf("%w: a record of %d bytes at sector %d", ErrDamaged, length, at)
			}
			content = make([]byte, n*sectorContent) // within the file's size
		}
		if int(binary.BigEndian.Uint32(b[4:])) != part || says != length {
			return nil, 0, false, fmt.Errorf("%w: sector %d is another record's", ErrDamaged, at+part)
		}
		copy(content[part*sectorContent:], b[sectorHead:])
	}
	return content[:length], n, whole, nil
}
