package wire

import (
	"io"
	"time"
)

// MaxBacklog is what may wait to be written.
const MaxBacklog = maxBacklog

// ReadFrame reads one frame.
func ReadFrame(r io.Reader) (seq uint64, code uint8, timeout time.Duration, body []byte, err error) {
	f, err := readFrame(r)
	return f.seq, f.code, f.timeout, f.body, err
}
