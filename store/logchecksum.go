package store

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/hashicorp/raft"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Log.Extensions of an entry:
//
//	 0        1                              5
//	+--------+------------------------------+
//	| format | CRC32C, big endian           |
//	+--------+------------------------------+
//
// The CRC is over the index, the term (8 bytes each, big endian), the type (1
// byte) and the data. AppendedAt is left out: nothing rests on it.
const (
	sealFormat = 1
	sealLength = 5
)

func entrySeal(entry *raft.Log) [sealLength]byte {
	var head [17]byte
	binary.BigEndian.PutUint64(head[0:], entry.Index)
	binary.BigEndian.PutUint64(head[8:], entry.Term)
	head[16] = byte(entry.Type)
	crc := crc32.Update(crc32.Checksum(head[:], castagnoli), castagnoli, entry.Data)
	seal := [sealLength]byte{sealFormat}
	binary.BigEndian.PutUint32(seal[1:], crc)
	return seal
}

// sealEntry gives entry its checksum, or checks the one that it has.
func sealEntry(entry *raft.Log) error {
	if len(entry.Extensions) > 0 {
		return CheckSeal(entry)
	}
	seal := entrySeal(entry)
	entry.Extensions = seal[:]
	return nil
}

// CheckSeal returns ErrChecksum unless entry carries the checksum that a leader's
// StoreLogs gave it.
func CheckSeal(entry *raft.Log) error {
	if len(entry.Extensions) > 0 && entry.Extensions[0] > sealFormat {
		return fmt.Errorf("%w: entry %d: checksum of format %d, this version knows up to %d",
			ErrChecksum, entry.Index, entry.Extensions[0], sealFormat)
	}
	if seal := entrySeal(entry); string(entry.Extensions) != string(seal[:]) {
		return fmt.Errorf("%w: entry %d of term %d", ErrChecksum, entry.Index, entry.Term)
	}
	return nil
}

// readEntry reads the entry at index and checks it. Its error wraps ErrDamaged
// if it is not the entry that was stored there.
func readEntry(backend logBackend, index uint64, entry *raft.Log) error {
	if err := backend.GetLog(index, entry); err != nil {
		return err
	}
	if entry.Index != index {
		return fmt.Errorf("%w: entry %d says that it is %d", ErrDamaged, index, entry.Index)
	}
	if err := CheckSeal(entry); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return nil
}

// A value of the stable store is followed by a CRC32C, big endian, of its key
// and itself.
const valueSealLength = 4

func sealValue(key, value []byte) []byte {
	crc := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
	sealed := make([]byte, 0, len(value)+valueSealLength)
	return binary.BigEndian.AppendUint32(append(sealed, value...), crc)
}

func openValue(key, sealed []byte) ([]byte, error) {
	if n := len(sealed) - valueSealLength; n >= 0 && string(sealValue(key, sealed[:n])) == string(sealed) {
		return sealed[:n], nil
	}
	return nil, fmt.Errorf("%w: value of %q in the stable store", ErrDamaged, key)
}
