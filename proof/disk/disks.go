package disk

import (
	"cmp"
	"context"
	"errors"
	"path/filepath"

	"github.com/lookupd/lookupd/supervisor"
)

// imageSize is of each peer's disk; it takes memory only as it is written.
const imageSize = 512 << 20

// Disks are a disk for each of some peers.
type Disks struct {
	dir     string
	images  map[string]*Image
	release func() error
}

// NewDisks makes disks, in memory, below dir, which it makes. The process must
// have mounts of its own.
func NewDisks(ctx context.Context, dir string, peers ...string) (d *Disks, err error) {
	d = &Disks{dir: dir, images: map[string]*Image{}}
	if d.release, err = memory(ctx, dir); err != nil {
		return nil, err
	}
	for _, name := range peers {
		image, err := NewImage(ctx, dir, name, imageSize, Ordered)
		if err != nil {
			return nil, errors.Join(err, d.Close())
		}
		d.images[name] = image
	}
	return d, nil
}

// Image returns a peer's disk, nil if it has none.
func (d *Disks) Image(peer string) *Image {
	if d == nil {
		return nil
	}
	return d.images[peer]
}

// Configure puts a peer's data on its disk; its output stays where it was.
func (d *Disks) Configure(c *supervisor.PeerConfig) {
	if image := d.Image(c.Name); image != nil {
		c.Log = cmp.Or(c.Log, filepath.Join(c.Dir, c.Name+".log"))
		c.Dir = image.Dir()
	}
}

// Close removes the disks. Peers that use them must have ended.
func (d *Disks) Close() error {
	var errs []error
	for _, image := range d.images {
		errs = append(errs, image.Close())
	}
	return errors.Join(append(errs, d.release())...)
}
