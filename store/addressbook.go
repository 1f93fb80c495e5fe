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
// restarts finds the others before gossip has told. Its addresses are a hint: who
// a peer is shows in the handshake, and who votes says raft alone. Its epochs are
// more, as a peer whose start is below is refused.
type AddressBook struct {
	dir *Dir

	mu    sync.Mutex
	saved []byte // what the file holds, as far as known
}

// addressRecord is peers.json: a PeerAddress for each node id, and the CRC32C of
// that, compact. Files from before there was one have the addresses alone.
type addressRecord struct {
	Peers    json.RawMessage `json:"peers"`
	Checksum *string         `json:"checksum"`
}

func decodeAddresses(data []byte) (peers map[registry.NodeID]PeerAddress, err error) {
	var record addressRecord
	if err := json.Unmarshal(data, &record); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if record.Checksum != nil {
		var compact bytes.Buffer
		if err := json.Compact(&compact, record.Peers); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		data = compact.Bytes()
		if sum := checksumOf(data); *record.Checksum != sum {
			return nil, fmt.Errorf("%w: checksum %q, expected %q", ErrDamaged, *record.Checksum, sum)
		}
	}
	if err := json.Unmarshal(data, &peers); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return peers, nil
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
	found, err := decodeAddresses(data)
	if err != nil {
		return peers, fmt.Errorf("%s: %w", b.dir.Path(addressBookFile), err)
	}
	b.saved = data
	if found == nil { // the file says null
		return peers, nil
	}
	return found, nil
}

// Save replaces the addresses. It does not touch the disk if they are as they
// were.
func (b *AddressBook) Save(peers map[registry.NodeID]PeerAddress) error {
	list, err := json.Marshal(peers) // sorts the keys
	if err != nil {
		return err
	}
	sum := checksumOf(list)
	data, err := json.MarshalIndent(addressRecord{Peers: list, Checksum: &sum}, "", "  ")
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
