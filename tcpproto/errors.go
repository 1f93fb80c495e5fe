package tcpproto

import (
	"errors"
	"fmt"

	"github.com/lookupd/lookupd/session"
)

// Kinds of client errors; the table below has their codes.
var (
	errBadProtocol = errors.New("bad protocol")
	errInvalid     = errors.New("invalid")
	errBadTopic    = errors.New("bad topic")
	errBadChannel  = errors.New("bad channel")
	errBadBody     = errors.New("bad body")
)

// codes maps errors to what the client reads. V1 clients expect that an error
// closes the connection; those that leave it open are lookupd's own.
var codes = []struct {
	err   error
	code  string
	stays bool
}{
	{session.ErrUnavailable, "E_UNAVAILABLE", true},
	{session.ErrDiskLow, "E_UNAVAILABLE", true},
	{session.ErrLimit, "E_LIMIT", true},
	{session.ErrStopped, "E_UNAVAILABLE", false},
	{errBadProtocol, "E_BAD_PROTOCOL", false},
	{errInvalid, "E_INVALID", false},
	{errBadTopic, "E_BAD_TOPIC", false},
	{errBadChannel, "E_BAD_CHANNEL", false},
	{errBadBody, "E_BAD_BODY", false},
}

// clientError is a kind with the text that follows its code.
type clientError struct {
	kind error
	text string
}

func (e *clientError) Error() string { return e.text }
func (e *clientError) Unwrap() error { return e.kind }

func clientErrorf(kind error, format string, args ...any) error {
	return &clientError{kind, fmt.Sprintf(format, args...)}
}

// refusal is an error as the client is told it.
type refusal struct {
	code   string
	answer string // code and text
	stays  bool   // the connection goes on
	known  bool   // false: a fault of ours, not the client's
}

func refusalOf(err error) refusal {
	for _, c := range codes {
		if !errors.Is(err, c.err) {
			continue
		}
		r := refusal{code: c.code, answer: c.code, stays: c.stays, known: true}
		if text := err.Error(); text != "" {
			r.answer += " " + text
		}
		return r
	}
	return refusal{code: "E_INVALID", answer: "E_INVALID internal error"}
}
