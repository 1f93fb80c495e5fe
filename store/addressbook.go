package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/lookupd/lookupd/registry"
)

const (
	addressBookFile  = "peers.json"
	addressBookLimit = 1 << 20
)

// PeerAddress is where a peer was last heard of, as host:port, and which start
// of it was.
type PeerAddress struct {
	Peer   string `json:"peer"`
	Gossip string `json:"gossip"`
	Epoch  uint64 `json:"epoch,omitempty"` // the latest start that was seen
}

// AddressBook keeps the peers' last known addresses, so that a peer that
// restarts finds the others before gossip has told. It is a hint: who a peer is
// shows in the handshake, and who votes says raft alone.
type AddressBook struct {
	dir *Dir

	mu    sync.Mutex
	saved []byte // what the file holds, as far as known
}

// AddressBook returns the directory's address book. There should be one.
func (d *Dir) AddressBook() *AddressBook { return &AddressBook{dir: d} }

// Load returns the addresses, never nil. With an error, which may wrap
// ErrDamaged, it returns none, and the caller should warn and go on.
func (b *AddressBook) Load() (map[registry.NodeID]PeerAddress, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	peers := map[registry.NodeID]PeerAddress{}
	data, err := b.dir.readFile(addressBookFile, addressBookLimit)
	if errors.Is(err, fs.ErrNotExist) {
		return peers, nil
	}
	if err != nil {
		return peers, err
	}
	if err := json.Unmarshal(data, &peers); err != nil {
		return map[registry.NodeID]PeerAddress{},
			fmt.Errorf("%s: %w: %w", b.dir.Path(addressBookFile), ErrDamaged, err)
	}
	if peers == nil { // the file says null
		peers = map[registry.NodeID]PeerAddress{}
	}
	b.saved = data
	return peers, nil
}

// Save replaces the addresses. It does not touch the disk if they are as they
// were.
func (b *AddressBook) Save(peers map[registry.NodeID]PeerAddress) error {
	data, err := json.MarshalIndent(peers, "", "  ") // sorts the keys
	if err != nil {
		return err
	}
	data = append(data, '\n')
	b.mu.Lock()
	defer b.mu.Unlock()
	if bytes.Equal(data, b.saved) {
		return nil
	}
	if err := b.dir.writeFile(addressBookFile, data); err != nil {
		return fmt.Errorf("save addresses of peers: %w", err)
	}
	b.saved = data
	return nil
}
