package fsm

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
)

// A snapshot, numbers big endian:
//
//	offset  bytes
//	0       8      magic "lookupd\n"
//	8       4      format, snapshotFormat
//	12      2      n, length of the cluster id, at most maxClusterID
//	14      n      cluster id
//	14+n    8      index of the last entry in it
//	22+n    8      its term
//	30+n    8      hash of the state
//	38+n    8      s, size of the state file
//	46+n    s      state file (bbolt)
//	46+n+s  32     SHA-256 of all before
//
// The checksum comes last because the file is written as it is read.
const (
	snapshotMagic  = "lookupd\n"
	snapshotFormat = 1
	maxClusterID   = 256
)

// Errors of a snapshot.
var (
	// ErrBadSnapshot: it is damaged, cut short, or of a format this binary does not know.
	ErrBadSnapshot = errors.New("bad snapshot")
	// ErrForeignSnapshot: it is another cluster's.
	ErrForeignSnapshot = errors.New("snapshot of another cluster")
)

// SnapshotInfo is what a snapshot's header says.
type SnapshotInfo struct {
	ClusterID string
	// Index and Term of the last entry in it. Raft's own may be higher, by
	// entries that it does not hand to the FSM.
	Index, Term uint64
	Hash        uint64 // of the state
	Size        int64  // of the state file
}

// length is that of the whole snapshot.
func (i SnapshotInfo) length() int64 {
	return int64(len(snapshotMagic)+4+2+len(i.ClusterID)+4*8) + i.Size + sha256.Size
}

// Inspect reads a whole snapshot and returns its header, or ErrBadSnapshot. It
// verifies the checksum but does not look into the state.
func Inspect(r io.Reader) (SnapshotInfo, error) {
	sr, err := newSnapshotReader(r)
	if err != nil {
		return SnapshotInfo{}, err
	}
	return sr.info, sr.copyTo(io.Discard)
}

// snapshotWriter writes a snapshot: the header at once, the state file by
// Write, the checksum by finish.
type snapshotWriter struct {
	to  io.Writer
	sum hash.Hash
	// left is how much of the state file is to come.
	left int64
}

func newSnapshotWriter(to io.Writer, info SnapshotInfo) (*snapshotWriter, error) {
	if len(info.ClusterID) > maxClusterID {
		return nil, fmt.Errorf("%w: cluster id of %d bytes", ErrBadSnapshot, len(info.ClusterID))
	}
	header := []byte(snapshotMagic)
	header = binary.BigEndian.AppendUint32(header, snapshotFormat)
	header = binary.BigEndian.AppendUint16(header, uint16(len(info.ClusterID)))
	header = append(header, info.ClusterID...)
	for _, n := range []uint64{info.Index, info.Term, info.Hash, uint64(info.Size)} {
		header = binary.BigEndian.AppendUint64(header, n)
	}
	w := &snapshotWriter{to: to, sum: sha256.New(), left: info.Size + int64(len(header))}
	_, err := w.Write(header)
	return w, err
}

func (w *snapshotWriter) Write(p []byte) (int, error) {
	n, err := w.to.Write(p)
	w.sum.Write(p[:n]) // a hash never fails
	w.left -= int64(n)
	return n, err
}

func (w *snapshotWriter) finish() error {
	if w.left != 0 {
		return fmt.Errorf("state file differs by %d bytes from its announced size", -w.left)
	}
	_, err := w.to.Write(w.sum.Sum(nil))
	return err
}

// snapshotReader has read a header; copyTo reads the rest.
type snapshotReader struct {
	info SnapshotInfo
	from io.Reader // without the sum
	body io.Reader // what is read here is in the sum
	sum  hash.Hash
}

func newSnapshotReader(r io.Reader) (*snapshotReader, error) {
	sum := sha256.New()
	sr := &snapshotReader{from: r, sum: sum, body: io.TeeReader(r, sum)}
	start, err := sr.header(len(snapshotMagic) + 4 + 2)
	if err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(start, []byte(snapshotMagic)) {
		return nil, fmt.Errorf("%w: it does not begin as one", ErrBadSnapshot)
	}
	start = start[len(snapshotMagic):]
	if format := binary.BigEndian.Uint32(start); format != snapshotFormat {
		return nil, fmt.Errorf("%w: format %d, this binary knows %d", ErrBadSnapshot, format, snapshotFormat)
	}
	n := int(binary.BigEndian.Uint16(start[4:]))
	if n > maxClusterID {
		return nil, fmt.Errorf("%w: cluster id of %d bytes", ErrBadSnapshot, n)
	}
	rest, err := sr.header(n + 4*8)
	if err != nil {
		return nil, err
	}
	number := func(i int) uint64 { return binary.BigEndian.Uint64(rest[n+8*i:]) }
	sr.info = SnapshotInfo{
		ClusterID: string(rest[:n]),
		Index:     number(0), Term: number(1), Hash: number(2), Size: int64(number(3)),
	}
	if sr.info.Size < 0 {
		return nil, fmt.Errorf("%w: size %d", ErrBadSnapshot, number(3))
	}
	return sr, nil
}

func (sr *snapshotReader) header(n int) ([]byte, error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(sr.body, b); err != nil {
		return nil, fmt.Errorf("%w: header: %w", ErrBadSnapshot, err)
	}
	return b, nil
}

// copyTo writes the state file to w and verifies the checksum and that nothing follows.
func (sr *snapshotReader) copyTo(w io.Writer) error {
	if n, err := io.CopyN(w, sr.body, sr.info.Size); errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: %d of %d bytes", ErrBadSnapshot, n, sr.info.Size)
	} else if err != nil {
		return fmt.Errorf("copy snapshot: %w", err)
	}
	var trailer [sha256.Size]byte
	if _, err := io.ReadFull(sr.from, trailer[:]); err != nil {
		return fmt.Errorf("%w: checksum: %w", ErrBadSnapshot, err)
	}
	if !bytes.Equal(trailer[:], sr.sum.Sum(nil)) {
		return fmt.Errorf("%w: checksum is wrong", ErrBadSnapshot)
	}
	if _, err := io.ReadFull(sr.from, make([]byte, 1)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: it goes on after its end", ErrBadSnapshot)
	}
	return nil
}
