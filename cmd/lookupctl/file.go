package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/lookupd/lookupd/store"
)

// saveFile writes aside, syncs and renames: path is all that fill writes, or is
// not touched. Only its owner may read it. A file that is there is replaced with
// --yes only.
func (o *options) saveFile(path string, fill func(io.Writer) error) (size int64, err error) {
	if _, err := os.Lstat(path); err == nil && !o.yes {
		return 0, usageError{fmt.Errorf("%s exists; --yes replaces it", path)}
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	aside, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return 0, err
	}
	if err = fill(aside); err == nil {
		err = aside.Sync()
	}
	if info, statErr := aside.Stat(); statErr == nil {
		size = info.Size()
	}
	if err = errors.Join(err, aside.Close()); err == nil {
		err = os.Rename(aside.Name(), path)
	}
	if err != nil {
		return 0, errors.Join(err, os.Remove(aside.Name()))
	}
	return size, store.SyncDir(filepath.Dir(path))
}

// counter is a reader that says, on a line of a terminal, how far it is.
type counter struct {
	io.Reader
	out        io.Writer // nil for nobody who looks
	verb       string
	read, size int64 // size is 0 or less if it is not known
	said       time.Time
}

// sayEvery is fast enough for the eye and slow enough for a serial line.
const sayEvery = 200 * time.Millisecond

// counting returns a counter of what is read from r.
func (o *options) counting(verb string, r io.Reader, size int64) *counter {
	c := &counter{Reader: r, verb: verb, size: size, said: time.Now()}
	if o.errTerminal {
		c.out = o.err
	}
	return c
}

// Read implements io.Reader.
func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.read += int64(n)
	if c.out != nil && time.Since(c.said) > sayEvery {
		c.said = time.Now()
		c.say()
	}
	return n, err
}

func (c *counter) say() {
	const mebibyte = 1 << 20
	if c.size > 0 {
		fmt.Fprintf(c.out, "\r%s %.1f of %.1f MiB (%d %%)\x1b[K", c.verb, float64(c.read)/mebibyte, float64(c.size)/mebibyte, 100*c.read/c.size)
		return
	}
	fmt.Fprintf(c.out, "\r%s %.1f MiB\x1b[K", c.verb, float64(c.read)/mebibyte)
}

// done takes the line away, for what is said next.
func (c *counter) done() {
	if c.out != nil {
		fmt.Fprint(c.out, clearLine)
	}
}

// counted says on that line how much of a work is done; of nothing, it takes the
// line away.
func (o *options) counted(verb string, done, of int) {
	switch {
	case !o.errTerminal:
	case of == 0:
		fmt.Fprint(o.err, clearLine)
	default:
		fmt.Fprintf(o.err, clearLine+"%s %d of %d", verb, done, of)
	}
}

const clearLine = "\r\x1b[K"
