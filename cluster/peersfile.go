package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/hashicorp/raft"

	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
)

// ErrPeersFile: raft/peers.json asks for a recovery, as Consul's and Nomad's
// operators do. It is not done by a start: a start after a crash would do it again,
// and two peers that did it each from a log of their own would differ.
var ErrPeersFile = fmt.Errorf("%w: raft/peers.json asks for a recovery", store.ErrRefused)

// peersFile is where raft's users put the configuration to recover with.
func peersFile(dir string) string { return filepath.Join(dir, "raft", "peers.json") }

// refusePeersFile returns ErrPeersFile if there is one.
func refusePeersFile(dir string) error {
	switch _, err := os.Lstat(peersFile(dir)); {
	case err == nil:
		return ErrPeersFile
	case errors.Is(err, fs.ErrNotExist):
		return nil
	default:
		return err
	}
}

// CheckPeersFile returns nil unless raft/peers.json in a data directory asks for
// something else than Recover does for the peer whose directory it is: to make it
// the only voter.
func CheckPeersFile(dir string, of registry.NodeID) error {
	err := refusePeersFile(dir)
	if !errors.Is(err, ErrPeersFile) {
		return err
	}
	const longest = 64 << 10
	if info, err := os.Lstat(peersFile(dir)); err != nil || !info.Mode().IsRegular() || info.Size() > longest {
		return errors.Join(fmt.Errorf("%s is no file of %d bytes at most", peersFile(dir), longest), err)
	}
	configuration, err := raft.ReadConfigJSON(peersFile(dir))
	if err != nil {
		return fmt.Errorf("%s: %w", peersFile(dir), err)
	}
	var named []registry.NodeID
	for _, s := range configuration.Servers {
		named = append(named, registry.NodeID(s.ID))
	}
	if !slices.Equal(named, []registry.NodeID{of}) {
		return fmt.Errorf("%s names %v: one peer begins alone, and the others join it with empty directories: name %s alone, or take the file away",
			peersFile(dir), named, of)
	}
	return nil
}
