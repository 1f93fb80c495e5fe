package tcpproto

import (
	"bytes"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/witness"
)

// execute does what a line says, which began to be done then, and returns the
// answer. An error is the client's, the session's or the socket's.
func (c *conn) execute(line []byte, began time.Time) (answer []byte, err error) {
	word, params, some := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
	var requests prometheus.Observer
	switch m := c.s.cfg.Metrics; string(word) {
	case "PING":
		requests = m.ping
		answer, err = c.ping()
	case "IDENTIFY":
		requests = m.identify
		answer, err = c.identify()
	case "REGISTER":
		requests = m.register
		answer, err = c.change("REGISTER", params, some)
	case "UNREGISTER":
		requests = m.unregister
		answer, err = c.change("UNREGISTER", params, some)
	default:
		return nil, clientErrorf(errInvalid, "invalid command %s", word)
	}
	requests.Observe(time.Since(began).Seconds())
	return answer, err
}

func (c *conn) ping() ([]byte, error) {
	if c.debugging() {
		c.s.log.Debug("PING", "remote", c.remote)
	}
	if c.session != nil {
		c.session.Ping()
	} else {
		c.identifyBy = c.greeted.Add(c.s.cfg.Limits.IdentifyPing)
	}
	return ok, nil
}

// change does REGISTER or UNREGISTER.
func (c *conn) change(command string, params []byte, some bool) ([]byte, error) {
	if c.session == nil {
		return nil, clientErrorf(errInvalid, "client must IDENTIFY")
	}
	if !some {
		return nil, clientErrorf(errInvalid, "%s insufficient number of params", command)
	}
	topic, channel, err := names(command, string(params))
	if err != nil {
		return nil, err
	}
	if err := c.flush(); err != nil { // the session may wait
		return nil, err
	}
	if c.debugging() {
		c.s.log.Debug(command, "remote", c.remote, "topic", topic, "channel", channel)
	}
	if command == "REGISTER" {
		err = c.session.Register(topic, channel)
	} else {
		err = c.session.Unregister(topic, channel)
	}
	if witness.On {
		c.changes++
	}
	if err != nil {
		return nil, err
	}
	if witness.On {
		witness.Answered(c.hostname, c.changes, c.session.AnsweredAt())
	}
	return ok, nil
}

// names returns the first two of params, which single spaces separate: two
// spaces in a row make an empty name, and an empty channel means none.
func names(command, params string) (topic, channel string, err error) {
	topic, rest, _ := strings.Cut(params, " ")
	channel, _, _ = strings.Cut(rest, " ")
	if !registry.ValidName(topic) {
		return "", "", clientErrorf(errBadTopic, "%s topic name '%s' is not valid", command, topic)
	}
	if channel != "" && !registry.ValidName(channel) {
		return "", "", clientErrorf(errBadChannel, "%s channel name '%s' is not valid", command, channel)
	}
	return topic, channel, nil
}
