package store

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"regexp"

	"github.com/lookupd/lookupd/registry"
)

const (
	identityFile   = "node.json"
	identityFormat = 1
	identityLimit  = 64 << 10
)

// ErrBadNodeName: a peer's name must be 1 to 64 letters, digits, dots,
// underscores and dashes.
var ErrBadNodeName = errors.New("invalid node name")

var (
	nodeName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,64}$`)
	nodeID   = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,64}-[0-9a-f]{8}$`)
)

// Identity is who the peer is, for as long as its data directory lasts. It is
// written before the first raft byte and at each start.
type Identity struct {
	Format    int             `json:"format"`
	ClusterID string          `json:"cluster_id"` // "" until the peer belongs to a cluster
	NodeID    registry.NodeID `json:"node_id"`
	// Epoch counts the starts; 0 means that raft has never run here.
	Epoch uint64 `json:"epoch"`
	// LastTerm and LastIndex are the log's last entry as it was at the latest
	// start. A log that is behind them is an old copy.
	LastTerm  uint64 `json:"last_term"`
	LastIndex uint64 `json:"last_index"`
	// Founders are the first configuration, if this peer makes it: stored with
	// ClusterID, so that a crash before raft has it is repaired.
	Founders []registry.NodeID `json:"founders,omitempty"`
}

// identityRecord is node.json: the identity, and the CRC32C of its JSON, so
// that a flipped bit does not make the peer somebody else.
type identityRecord struct {
	Identity
	Checksum string `json:"checksum"`
}

// ValidNodeID reports whether NewIdentity can have made id.
func ValidNodeID(id registry.NodeID) bool { return nodeID.MatchString(string(id)) }

// NewIdentity draws an identity for a peer that has none: name, and eight
// random hexadecimal digits that make sure that no peer ever had its node id.
func NewIdentity(name string) (Identity, error) {
	if !nodeName.MatchString(name) {
		return Identity{}, fmt.Errorf("%w %q: 1 to 64 of a-z, A-Z, 0-9, '.', '_' and '-'", ErrBadNodeName, name)
	}
	var suffix [4]byte
	if _, err := rand.Read(suffix[:]); err != nil {
		return Identity{}, err
	}
	return Identity{
		Format: identityFormat,
		NodeID: registry.NodeID(name + "-" + hex.EncodeToString(suffix[:])),
	}, nil
}

// LoadIdentity reads the identity; found is false if there is none yet. It
// fails with ErrNewerFormat or ErrDamaged.
func (d *Dir) LoadIdentity() (id Identity, found bool, err error) {
	data, err := d.readFile(identityFile, identityLimit)
	if errors.Is(err, fs.ErrNotExist) {
		return Identity{}, false, nil
	}
	if err != nil {
		return Identity{}, false, err
	}
	if id, err = decodeIdentity(data); err != nil {
		return Identity{}, false, fmt.Errorf("%s: %w", d.Path(identityFile), err)
	}
	return id, true, nil
}

// SaveIdentity makes id last: it is on disk, whole, when SaveIdentity returns.
func (d *Dir) SaveIdentity(id Identity) error {
	sum, err := id.checksum()
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(identityRecord{Identity: id, Checksum: sum}, "", "  ")
	if err != nil {
		return err
	}
	if err := d.writeFile(identityFile, append(data, '\n')); err != nil {
		return fmt.Errorf("save identity: %w", err)
	}
	return nil
}

// NextEpoch begins a start of the peer: it raises the epoch of id, notes the
// log's last entry, and makes both last, in the log first. So a log that is
// older than the identity, or an identity that is older than the log, shows at
// the next start, whatever was copied over the other. The caller must have had
// id and log verified.
func (d *Dir) NextEpoch(id Identity, log *Log) (Identity, error) {
	term, index, err := log.LastTermIndex()
	if err != nil {
		return Identity{}, err
	}
	if term > id.LastTerm || term == id.LastTerm && index > id.LastIndex {
		id.LastTerm, id.LastIndex = term, index
	}
	id.Epoch++
	if err := log.setOwner(owner{Node: id.NodeID, Epoch: id.Epoch}); err != nil {
		return Identity{}, err
	}
	return id, d.SaveIdentity(id)
}

func (id Identity) checksum() (string, error) {
	data, err := json.Marshal(id)
	if err != nil {
		return "", err
	}
	return checksumOf(data), nil
}

// checksumOf is the CRC32C as the files in JSON have it.
func checksumOf(data []byte) string { return fmt.Sprintf("%08x", crc32.Checksum(data, castagnoli)) }

func decodeIdentity(data []byte) (Identity, error) {
	// The format first: a newer one may have fields that the rest would call damage.
	var version struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(data, &version); err != nil {
		return Identity{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if version.Format > identityFormat {
		return Identity{}, fmt.Errorf("%w: format %d, this one knows up to %d", ErrNewerFormat, version.Format, identityFormat)
	}
	var record identityRecord
	if err := json.Unmarshal(data, &record); err != nil {
		return Identity{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	sum, err := record.checksum()
	if err != nil {
		return Identity{}, err
	}
	if record.Checksum != sum {
		return Identity{}, fmt.Errorf("%w: checksum %q, expected %q", ErrDamaged, record.Checksum, sum)
	}
	if record.Format < 1 || !ValidNodeID(record.NodeID) {
		return Identity{}, fmt.Errorf("%w: node id %q", ErrDamaged, record.NodeID)
	}
	return record.Identity, nil
}
