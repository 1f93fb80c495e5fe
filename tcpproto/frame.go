package tcpproto

import (
	"bytes"
	"encoding/binary"
	"time"
)

var ok = []byte("OK")

// readLine returns the next line without its newline. It is valid until the
// next read. A line that is too long is a clientError, with its beginning.
func (c *conn) readLine() ([]byte, error) {
	for {
		have, _ := c.in.Peek(c.in.Buffered())
		end := bytes.IndexByte(have, '\n')
		if end > c.s.cfg.Limits.LineBytes || end < 0 && len(have) > c.s.cfg.Limits.LineBytes {
			return have, clientErrorf(errInvalid, "line is longer than %d bytes", c.s.cfg.Limits.LineBytes)
		}
		if end >= 0 {
			c.lineBy = time.Time{}
			_, err := c.in.Discard(end + 1)
			return have[:end], err
		}
		if err := c.fill(len(have)); err != nil {
			return nil, err
		}
	}
}

// fill waits for more input than the have bytes of a line that are there.
func (c *conn) fill(have int) error {
	if err := c.flush(); err != nil {
		return err
	}
	if have > 0 && c.lineBy.IsZero() {
		c.lineBy = time.Now().Add(c.s.cfg.Limits.Line)
	}
	by := c.identifyBy
	if !c.lineBy.IsZero() && (by.IsZero() || c.lineBy.Before(by)) {
		by = c.lineBy
	}
	if err := c.setDeadline(by); err != nil {
		return err
	}
	_, err := c.in.Peek(have + 1)
	return err
}

// answer appends a frame to what will be written.
func (c *conn) answer(body []byte) error {
	c.out = binary.BigEndian.AppendUint32(c.out, uint32(len(body)))
	c.out = append(c.out, body...)
	if len(c.out) < answersAtOnce {
		return nil
	}
	return c.flush()
}

// flush writes all answers. A deadline is set only if the client does not take
// them at once, where that can be known: its timer would outlast the write and wake an idle peer, once for
// each PING.
func (c *conn) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	defer func() { c.out = c.out[:0] }()
	rest := c.out
	if c.quick != nil {
		rest = rest[c.quick.WriteAtOnce(rest):]
	}
	if len(rest) == 0 {
		return nil
	}
	if err := c.nc.SetWriteDeadline(time.Now().Add(c.s.cfg.Limits.Write)); err != nil {
		return err
	}
	if _, err := c.nc.Write(rest); err != nil {
		return err
	}
	return c.nc.SetWriteDeadline(time.Time{}) // once it has passed, nothing goes at once
}
