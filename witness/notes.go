package witness

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Names of the files begin with these.
const (
	AppliedPrefix  = "applied"
	AnsweredPrefix = "answered"
)

// Entry is a note of Applied.
type Entry struct {
	Index, Term uint64
	Kind        uint8 // raft's LogType
	Data        []byte
}

// Answer is a note of Answered.
type Answer struct {
	Hostname string
	N        int
	Index    uint64
}

// maxEntry is more than any entry holds, in bytes.
const maxEntry = 64 << 20

// ReadApplied calls fn for each note of Applied in a directory, file by file, in
// the order of writing. The last note of a file may be cut short by a kill; it
// is left out.
func ReadApplied(dir string, fn func(file string, e Entry) error) error {
	return eachFile(dir, AppliedPrefix, func(name string, r *bufio.Reader) error {
		for {
			var head struct {
				Length      uint32
				Index, Term uint64
				Kind        uint8
			}
			err := binary.Read(r, binary.BigEndian, &head)
			if err == nil && head.Length > maxEntry {
				return fmt.Errorf("%s: a note of %d bytes", name, head.Length)
			}
			data := make([]byte, head.Length)
			if err == nil {
				_, err = io.ReadFull(r, data)
			}
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if err := fn(name, Entry{Index: head.Index, Term: head.Term, Kind: head.Kind, Data: data}); err != nil {
				return err
			}
		}
	})
}

// ReadAnswered calls fn for each note of Answered in a directory.
func ReadAnswered(dir string, fn func(Answer) error) error {
	return eachFile(dir, AnsweredPrefix, func(name string, r *bufio.Reader) error {
		for {
			line, err := r.ReadString('\n')
			if errors.Is(err, io.EOF) {
				return nil
			}
			var a Answer
			if err == nil {
				_, err = fmt.Sscanf(strings.TrimSpace(line), "%s %d %d", &a.Hostname, &a.N, &a.Index)
			}
			if err != nil {
				return fmt.Errorf("%s: %q: %w", name, line, err)
			}
			if err := fn(a); err != nil {
				return err
			}
		}
	})
}

func eachFile(dir, prefix string, read func(name string, r *bufio.Reader) error) error {
	paths, err := filepath.Glob(filepath.Join(dir, prefix+"-*"))
	if err != nil {
		return err
	}
	for _, path := range paths {
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		err = read(path, bufio.NewReaderSize(file, 1<<20))
		if err = errors.Join(err, file.Close()); err != nil {
			return err
		}
	}
	return nil
}
