package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"
)

// sealFile lies in a snapshot's directory beside raft's own files. It holds the
// CRC32C, in hexadecimal, of what meta.json says of the snapshot's place in the
// log and of who votes: raft checks the content alone.
const (
	sealFile    = "seal"
	contentFile = "state.bin" // raft's name
)

// ErrSnapshotSeal: a snapshot's meta.json is not what was written.
var ErrSnapshotSeal = fmt.Errorf("%w: meta.json of a snapshot", ErrDamaged)

// Snapshots is raft's FileSnapshotStore with a seal on each snapshot's meta.json.
// A snapshot without a seal, from a version that made none, is taken as it is.
// Its methods may be called from any goroutine.
type Snapshots struct {
	files *raft.FileSnapshotStore
	path  string
}

var _ raft.SnapshotStore = (*Snapshots)(nil)

// Create implements raft.SnapshotStore.
func (s *Snapshots) Create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration,
	configurationIndex uint64, transport raft.Transport,
) (raft.SnapshotSink, error) {
	sink, err := s.files.Create(version, index, term, configuration, configurationIndex, transport)
	if err != nil {
		return nil, err
	}
	seal, err := snapshotSeal(&raft.SnapshotMeta{
		Version: version, ID: sink.ID(), Index: index, Term: term,
		Configuration: configuration, ConfigurationIndex: configurationIndex,
	})
	if err == nil {
		err = writeSynced(filepath.Join(s.path, sink.ID()+snapshotTemp, sealFile), seal)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("seal snapshot: %w", err), sink.Cancel())
	}
	return sink, nil
}

// List implements raft.SnapshotStore. It leaves out what has a wrong seal.
func (s *Snapshots) List() ([]*raft.SnapshotMeta, error) {
	all, err := s.files.List()
	if err != nil {
		return nil, err
	}
	var sound []*raft.SnapshotMeta
	seen := map[string]bool{}
	for _, meta := range all {
		// An id twice, or one that no directory has: a meta.json of another
		// snapshot.
		if !seen[meta.ID] && s.check(meta) == nil {
			sound = append(sound, meta)
		}
		seen[meta.ID] = true
	}
	return sound, nil
}

// Open implements raft.SnapshotStore. It fails with ErrSnapshotSeal for a wrong
// seal.
func (s *Snapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	meta, content, err := s.files.Open(id)
	if err != nil {
		return nil, nil, err
	}
	if meta.ID != id {
		err = fmt.Errorf("%w: %s says that it is %s", ErrSnapshotSeal, id, meta.ID)
	} else {
		err = s.check(meta)
	}
	if err != nil {
		return nil, nil, errors.Join(err, content.Close())
	}
	return meta, content, nil
}

// check compares a snapshot's meta.json with its seal.
func (s *Snapshots) check(meta *raft.SnapshotMeta) error {
	dir := filepath.Join(s.path, meta.ID)
	if filepath.Dir(dir) != s.path {
		return fmt.Errorf("%w: id %q", ErrSnapshotSeal, meta.ID)
	}
	content, err := os.Stat(filepath.Join(dir, contentFile))
	if err != nil {
		return err
	}
	if content.Size() != meta.Size {
		return fmt.Errorf("%w: %s says that it has %d bytes, not %d", ErrSnapshotSeal, meta.ID, meta.Size, content.Size())
	}
	if at, ok := snapshotPosition(meta.ID); !ok || at != (Position{Term: meta.Term, Index: meta.Index}) {
		return fmt.Errorf("%w: %s says that it is of entry %d, term %d", ErrSnapshotSeal, meta.ID, meta.Index, meta.Term)
	}
	stored, err := readSeal(filepath.Join(dir, sealFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	seal, err := snapshotSeal(meta)
	if err != nil {
		return err
	}
	if string(stored) != string(seal) {
		return fmt.Errorf("%w: %s has checksum %s, its seal says %q", ErrSnapshotSeal, meta.ID, seal, stored)
	}
	return nil
}

func snapshotSeal(meta *raft.SnapshotMeta) ([]byte, error) {
	// Not Peers, which raft reads in its version 0 alone, nor Size, known later.
	said := *meta
	said.Peers, said.Size = nil, 0
	data, err := json.Marshal(said)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "%08x", crc32.Checksum(data, castagnoli)), nil
}

// readSeal reads a seal, or the beginning of what is in its place.
func readSeal(path string) ([]byte, error) {
	file, err := openFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, 64))
}

// writeSynced makes a file that a power cut leaves whole.
func writeSynced(path string, data []byte) error {
	file, err := openFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}
