package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Of the kernel's fs/ext4/ext4.h: shut the file system down as it is, without
// writing out its journal.
const (
	ext4Shutdown   = 0x8004587D
	ext4NoLogFlush = 2
)

// Mount options of an image. The default, ext4's ordered mode with a commit
// interval that never comes, leaves on disk exactly what was synced. The others
// leave something of what was not.
const (
	Ordered   = "commit=1000"
	Writeback = "commit=1000,data=writeback"
	Frequent  = "commit=5"
)

// Image is a disk of its own for one peer: a file with an ext4 file system,
// mounted, that can lose power. Its methods are for one goroutine at a time.
type Image struct {
	file, mount string
	size        int64
	mounted     bool
}

// NewImage makes and mounts an image of size bytes in dir, which takes the file
// and the mount point. The process must have mounts of its own (see Enter).
func NewImage(ctx context.Context, dir, name string, size int64, options string) (*Image, error) {
	i := &Image{file: filepath.Join(dir, name+".ext4"), mount: filepath.Join(dir, name), size: size}
	if err := os.MkdirAll(i.mount, 0o700); err != nil {
		return nil, err
	}
	if err := i.format(ctx); err != nil {
		return nil, err
	}
	if err := i.Mount(ctx, options); err != nil {
		return nil, errors.Join(err, i.Close())
	}
	return i, nil
}

func (i *Image) format(ctx context.Context) error {
	file, err := os.OpenFile(i.file, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(file.Truncate(i.size), file.Close()); err != nil {
		return err
	}
	return run(ctx, "mkfs.ext4", "-q", "-F", "-m", "0", i.file)
}

// Dir is where the file system is mounted.
func (i *Image) Dir() string { return i.mount }

// Mount mounts the image, whose journal is replayed if power was lost.
func (i *Image) Mount(ctx context.Context, options string) error {
	if err := run(ctx, "mount", "-t", "ext4", "-o", "loop,"+options, i.file, i.mount); err != nil {
		return err
	}
	i.mounted = true
	return nil
}

// PowerCut makes the disk forget what was not synced, at once: from here on
// every write and sync fails. The peer that uses it must be killed next.
func (i *Image) PowerCut() error {
	root, err := os.Open(i.mount)
	if err != nil {
		return fmt.Errorf("power cut: %w", err)
	}
	defer root.Close()
	if err := unix.IoctlSetPointerInt(int(root.Fd()), ext4Shutdown, ext4NoLogFlush); err != nil {
		return fmt.Errorf("power cut at %s: %w", i.mount, err)
	}
	return nil
}

// Remount gives the power back. No process may use the image.
func (i *Image) Remount(ctx context.Context, options string) error {
	if err := i.unmount(ctx); err != nil {
		return err
	}
	return i.Mount(ctx, options)
}

// ReadOnly makes the file system read-only, as ext4 does by itself on an error,
// though processes have files open for writing; Remount ends it.
func (i *Image) ReadOnly(ctx context.Context) error {
	return run(ctx, "mount", "-o", "remount,abort,errors=remount-ro", i.mount)
}

// Wipe makes the image empty, as a new disk. No process may use it.
func (i *Image) Wipe(ctx context.Context, options string) error {
	if err := i.unmount(ctx); err != nil {
		return err
	}
	if err := i.format(ctx); err != nil {
		return err
	}
	return i.Mount(ctx, options)
}

// Close unmounts the image, even one in use, and removes it. The kernel then
// frees its loop device. It may be called again.
func (i *Image) Close() error {
	var errs []error
	if i.mounted {
		i.mounted = false
		errs = append(errs, unix.Unmount(i.mount, unix.MNT_DETACH))
	}
	if err := os.Remove(i.file); err != nil && !errors.Is(err, os.ErrNotExist) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (i *Image) unmount(ctx context.Context) error {
	if !i.mounted {
		return nil
	}
	if err := run(ctx, "umount", i.mount); err != nil {
		return err
	}
	i.mounted = false
	return nil
}

// memory mounts a tmpfs at dir, so that disks are files in memory, until release
// is called or the process ends.
func memory(ctx context.Context, dir string) (release func() error, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := run(ctx, "mount", "-t", "tmpfs", "-o", "mode=0700", "none", dir); err != nil {
		return nil, err
	}
	return func() error { return errors.Join(unix.Unmount(dir, unix.MNT_DETACH), os.Remove(dir)) }, nil
}

func run(ctx context.Context, name string, args ...string) error {
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %.300s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
