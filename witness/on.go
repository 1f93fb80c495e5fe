//go:build witness

package witness

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// On reports whether this binary takes notes.
const On = true

// EnvDir names the directory that takes the notes; without it none are taken.
const EnvDir = "LOOKUPD_WITNESS"

// files are the process's own, opened at the first note.
var files = sync.OnceValue(func() (f struct{ applied, answered *os.File }) {
	dir := os.Getenv(EnvDir)
	if dir == "" {
		return f
	}
	open := func(kind string) *os.File {
		name := fmt.Sprintf("%s-%d-%d", kind, os.Getpid(), time.Now().UnixNano())
		file, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_EXCL|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			panic(fmt.Sprintf("witness: %v", err)) // a proof without its witness proves nothing
		}
		return file
	}
	f.applied, f.answered = open(AppliedPrefix), open(AnsweredPrefix)
	return f
})

// Applied notes an entry of the log that the state machine has applied.
func Applied(index, term uint64, kind uint8, data []byte) {
	file := files().applied
	if file == nil {
		return
	}
	note := binary.BigEndian.AppendUint32(nil, uint32(len(data)))
	note = binary.BigEndian.AppendUint64(note, index)
	note = binary.BigEndian.AppendUint64(note, term)
	note = append(append(note, kind), data...)
	write(file, note)
}

// Answered notes that the n-th change on the connection whose IDENTIFY gave
// hostname was answered OK, because of the state at a log index.
func Answered(hostname string, n int, index uint64) {
	if file := files().answered; file != nil {
		write(file, []byte(hostname+" "+strconv.Itoa(n)+" "+strconv.FormatUint(index, 10)+"\n"))
	}
}

// write hands one note to the kernel in one call: O_APPEND keeps notes of
// several goroutines whole.
func write(file *os.File, note []byte) {
	if _, err := file.Write(note); err != nil {
		panic(fmt.Sprintf("witness: %v", err))
	}
}
