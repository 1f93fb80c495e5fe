package disk

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Kinds of whole files, as reports call them.
const (
	lockFile     = "LOCK"
	identityFile = "node.json"
	addressFile  = "peers.json"
	logFile      = "raft.db"
	journalFile  = "raft.journal"
	journalUsed  = "raft.journal, what is in use" // its head and its records
	snapshotMeta = "snapshot meta.json"
	snapshotBody = "snapshot state.bin"
	stateFile    = "state file"
)

// target is what a trial damages: a file, or a page of raft.db.
type target struct {
	kind string
	path string // in the data directory
	page int    // -1 for the file as a whole
}

// vital: a peer may not run without what the file says, or with another's.
func (t target) vital() bool {
	return slices.Contains([]string{logFile, journalFile, journalUsed, identityFile}, t.kind)
}

// inUse is the part of a file that is worth damage: of a journal most is zeros.
func (t target) inUse(b []byte) []byte {
	if t.kind != journalUsed {
		return b
	}
	return b[:max(len(bytes.TrimRight(b, "\x00")), 1)]
}

// targets lists what can be damaged in a data directory, by kind.
func targets(dir string, pages boltPages) (map[string][]target, error) {
	found := map[string][]target{}
	add := func(kind, path string, page int) {
		found[kind] = append(found[kind], target{kind: kind, path: path, page: page})
	}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		inside, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		switch name := filepath.Base(path); {
		case inside == lockFile, inside == identityFile, inside == addressFile, name == logFile:
			add(name, inside, -1)
		case name == journalFile:
			add(journalFile, inside, -1)
			add(journalUsed, inside, -1)
		case strings.Contains(inside, "snapshots") && name == "meta.json":
			add(snapshotMeta, inside, -1)
		case strings.Contains(inside, "snapshots"):
			add(snapshotBody, inside, -1)
		case strings.HasPrefix(inside, "state"):
			add(stateFile, inside, -1)
		}
		return nil
	})
	for kind, numbers := range pages.kinds {
		for _, n := range numbers {
			add(kind, filepath.Join("raft", logFile), n)
		}
	}
	return found, err
}

// sources are where foreign content comes from.
type sources struct {
	older string // data directory of the same peer, two starts ago
	other string // data directory of another peer
}

// damage is a way to damage a file. It returns the new content, nil to delete
// the file.
type damage struct {
	name  string
	apply func(t target, content []byte, s sources, pages boltPages, rng *rand.Rand) ([]byte, error)
	// total: the peer would run without what this file says, or with what
	// another file said.
	total bool
}

const block = 4096

// fileDamages are for whole files.
func fileDamages() []damage {
	return []damage{
		{name: "bit flipped", apply: func(t target, b []byte, _ sources, _ boltPages, rng *rand.Rand) ([]byte, error) {
			if len(b) == 0 {
				return []byte{1}, nil
			}
			b[rng.IntN(len(t.inUse(b)))] ^= 1 << rng.IntN(8)
			return b, nil
		}},
		{name: "4 KiB of zeros", apply: func(t target, b []byte, _ sources, _ boltPages, rng *rand.Rand) ([]byte, error) {
			clear(someBlock(t.inUse(b), rng))
			return b, nil
		}},
		{name: "4 KiB of noise", apply: func(t target, b []byte, _ sources, _ boltPages, rng *rand.Rand) ([]byte, error) {
			noise(someBlock(t.inUse(b), rng), rng)
			return b, nil
		}},
		{name: "cut", apply: func(_ target, b []byte, _ sources, _ boltPages, rng *rand.Rand) ([]byte, error) {
			return b[:rng.IntN(max(len(b), 1))], nil
		}},
		{name: "appended to", apply: func(_ target, b []byte, _ sources, _ boltPages, rng *rand.Rand) ([]byte, error) {
			more := make([]byte, 1+rng.IntN(2*block))
			if rng.IntN(2) == 0 {
				noise(more, rng)
			}
			return append(b, more...), nil
		}},
		{name: "emptied", total: true, apply: func(target, []byte, sources, boltPages, *rand.Rand) ([]byte, error) {
			return []byte{}, nil
		}},
		{name: "deleted", total: true, apply: func(target, []byte, sources, boltPages, *rand.Rand) ([]byte, error) {
			return nil, nil
		}},
		{name: "another peer's", total: true, apply: func(t target, _ []byte, s sources, _ boltPages, rng *rand.Rand) ([]byte, error) {
			return sameKind(s.other, t, rng)
		}},
		{name: "an older one", total: true, apply: func(t target, _ []byte, s sources, _ boltPages, rng *rand.Rand) ([]byte, error) {
			return sameKind(s.older, t, rng)
		}},
	}
}

// refusal is a damage that no peer may start with.
type refusal struct {
	kind   string
	damage damage
}

// mustRefuse lists what takes away a peer's identity or log, or puts another in
// its place.
func mustRefuse() (all []refusal) {
	for _, kind := range []string{logFile, journalFile, identityFile} {
		for _, d := range fileDamages() {
			if d.total {
				all = append(all, refusal{kind, d})
			}
		}
	}
	return all
}

// pageDamages are for pages of raft.db.
func pageDamages() []damage {
	page := func(b []byte, t target, p boltPages) []byte { return b[t.page*p.size : (t.page+1)*p.size] }
	flip := func(t target, b []byte, _ sources, p boltPages, rng *rand.Rand) ([]byte, error) {
		at := page(b, t, p)
		at[place(at, t.kind, rng)] ^= 1 << rng.IntN(8)
		return b, nil
	}
	return []damage{
		{name: "bit flipped", apply: flip},
		{name: "byte overwritten", apply: func(t target, b []byte, _ sources, p boltPages, rng *rand.Rand) ([]byte, error) {
			at := page(b, t, p)
			at[place(at, t.kind, rng)] = byte(rng.Uint32())
			return b, nil
		}},
		{name: "zeroed", apply: func(t target, b []byte, _ sources, p boltPages, _ *rand.Rand) ([]byte, error) {
			clear(page(b, t, p))
			return b, nil
		}},
		{name: "noise", apply: func(t target, b []byte, _ sources, p boltPages, rng *rand.Rand) ([]byte, error) {
			noise(page(b, t, p), rng)
			return b, nil
		}},
		{name: "noise behind a good header", apply: func(t target, b []byte, _ sources, p boltPages, rng *rand.Rand) ([]byte, error) {
			noise(page(b, t, p)[16:], rng)
			return b, nil
		}},
		{name: "half zeroed", apply: func(t target, b []byte, _ sources, p boltPages, _ *rand.Rand) ([]byte, error) {
			clear(page(b, t, p)[p.size/2:])
			return b, nil
		}},
		{name: "another page", apply: func(t target, b []byte, _ sources, p boltPages, rng *rand.Rand) ([]byte, error) {
			other := rng.IntN(len(b) / p.size)
			copy(page(b, t, p), b[other*p.size:])
			return b, nil
		}},
		{name: "another peer's page", apply: foreignPage(page, func(s sources) string { return s.other })},
		{name: "an older page", apply: foreignPage(page, func(s sources) string { return s.older })},
	}
}

// foreignPage takes the page of the same number from another directory.
func foreignPage(page func([]byte, target, boltPages) []byte, dir func(sources) string) func(target, []byte, sources, boltPages, *rand.Rand) ([]byte, error) {
	return func(t target, b []byte, s sources, p boltPages, _ *rand.Rand) ([]byte, error) {
		foreign, err := os.ReadFile(filepath.Join(dir(s), t.path))
		if err != nil {
			return nil, err
		}
		if end := (t.page + 1) * p.size; end <= len(foreign) {
			copy(page(b, t, p), foreign[t.page*p.size:end])
		} else {
			clear(page(b, t, p)) // that file was shorter
		}
		return b, nil
	}
}

// sameKind reads a file of t's kind in dir, nil if there is none.
func sameKind(dir string, t target, rng *rand.Rand) ([]byte, error) {
	all, err := targets(dir, boltPages{})
	if err != nil {
		return nil, err
	}
	of := all[t.kind]
	if len(of) == 0 {
		return nil, nil
	}
	return os.ReadFile(filepath.Join(dir, of[rng.IntN(len(of))].path))
}

func someBlock(b []byte, rng *rand.Rand) []byte {
	first := rng.IntN(len(b)/block+1) * block
	return b[min(first, len(b)):min(first+block, len(b))]
}

func noise(b []byte, rng *rand.Rand) {
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
}

// hurt applies d to the file in a data directory. It reports whether the file
// changed.
func hurt(dir string, t target, d damage, s sources, pages boltPages, rng *rand.Rand) (changed bool, err error) {
	path := filepath.Join(dir, t.path)
	before, err := os.ReadFile(path)
	if err != nil {
		return false, err
	}
	after, err := d.apply(t, append([]byte(nil), before...), s, pages, rng)
	if err != nil {
		return false, err
	}
	if after == nil {
		return true, os.Remove(path)
	}
	if string(after) == string(before) {
		return false, nil
	}
	return true, os.WriteFile(path, after, 0o600)
}

// digest returns the content of every file that a start which refuses must not
// change, by path.
func digest(dir string) (map[string]string, error) {
	content := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == "state" || strings.HasSuffix(entry.Name(), ".tmp")):
			return fs.SkipDir // made anew at each start; what a crash left
		case entry.IsDir() || entry.Name() == lockFile || strings.HasSuffix(entry.Name(), ".tmp"):
			return nil
		}
		b, err := os.ReadFile(path)
		content[path] = string(b)
		return err
	})
	return content, err
}

// copyDir replaces the directory to by a copy of from.
func copyDir(from, to string) error {
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	return errors.Join(os.CopyFS(to, os.DirFS(from)), os.Chmod(to, 0o700))
}
