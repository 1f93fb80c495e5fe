package tcpproto_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/lookupd/lookupd/registry"
)

// script is what a connection with some input comes to: an account of the V1
// protocol that shares no code with the server's.
type script struct {
	answers, calls []string
	info           registry.ProducerInfo // of IDENTIFY; without the remote address
	// endsAfterIdentify: nothing followed, so the server may know that nobody
	// waits for the session, and begin none.
	endsAfterIdentify bool

	rest       []byte
	identified bool
}

// Answers of which script knows the beginning: serve's server to a good
// IDENTIFY, up to its port, and to a field out of lookupd's own limits.
const (
	identityOf = `{"broadcast_address":"peer-a","hostname":"host-a","http_port":4161,"tcp_port":`
	badField   = "E_BAD_BODY IDENTIFY invalid field"
)

// read follows a connection that sends input and ends.
func read(input []byte) script {
	s := script{rest: input}
	if len(input) < 4 {
		return s
	}
	s.rest = input[4:]
	if string(input[:4]) != "  V1" {
		s.answers = []string{"E_BAD_PROTOCOL"}
		return s
	}
	for s.line() {
	}
	if s.identified {
		s.calls = append(s.calls, "close")
	}
	return s
}

// say appends an answer and reports whether the connection goes on.
func (s *script) say(format string, args ...any) bool {
	s.answers = append(s.answers, fmt.Sprintf(format, args...))
	return !strings.HasPrefix(format, "E_")
}

func (s *script) line() bool {
	line, rest, whole := bytes.Cut(s.rest, []byte("\n"))
	switch {
	case len(line) > 512:
		return s.say("E_INVALID line is longer than 512 bytes")
	case !whole:
		return false
	}
	s.rest = rest
	words := strings.Split(strings.TrimFunc(string(line), unicode.IsSpace), " ")
	switch words[0] {
	case "PING":
		if s.identified {
			s.calls = append(s.calls, "ping")
		}
		return s.say("OK")
	case "IDENTIFY":
		return s.identify()
	case "REGISTER", "UNREGISTER":
		return s.change(words[0], words[1:])
	}
	return s.say("E_INVALID invalid command %s", words[0])
}

func (s *script) change(command string, names []string) bool {
	switch {
	case !s.identified:
		return s.say("E_INVALID client must IDENTIFY")
	case len(names) == 0:
		return s.say("E_INVALID %s insufficient number of params", command)
	}
	topic, channel := names[0], append(names, "")[1]
	if !isName(topic) {
		return s.say("E_BAD_TOPIC %s topic name '%s' is not valid", command, topic)
	}
	if channel != "" && !isName(channel) {
		return s.say("E_BAD_CHANNEL %s channel name '%s' is not valid", command, channel)
	}
	s.calls = append(s.calls, strings.ToLower(command)+" "+topic+"/"+channel)
	return s.say("OK")
}

func isName(name string) bool {
	letters := strings.TrimSuffix(name, "#ephemeral")
	return letters != "" && len(name) <= 64 &&
		strings.Trim(letters, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == "" &&
		!strings.ContainsFunc(letters, func(r rune) bool { return r == '#' || r > unicode.MaxASCII || unicode.IsSpace(r) })
}

func (s *script) identify() bool {
	if s.identified {
		return s.say("E_INVALID cannot IDENTIFY again")
	}
	n, ok := length(s.rest)
	switch {
	case !ok:
		return s.say("E_BAD_BODY IDENTIFY failed to read body size")
	case n < 0 || n > 64<<10:
		return s.say("E_BAD_BODY IDENTIFY invalid body size %d", n)
	case len(s.rest) < 4+n:
		return s.say("E_BAD_BODY IDENTIFY failed to read body")
	}
	body := s.rest[4 : 4+n]
	s.rest = s.rest[4+n:]
	info, err := producerOf(body)
	if err != nil {
		return s.say("E_BAD_BODY IDENTIFY %v", err)
	}
	s.info, s.identified, s.endsAfterIdentify = info, true, len(s.rest) == 0
	s.calls = append(s.calls, "open "+string(info.ID()))
	return s.say(identityOf)
}

// producerOf is what nsqlookupd's decoder makes of the body, within lookupd's limits.
func producerOf(body []byte) (p registry.ProducerInfo, err error) {
	var fields struct {
		RemoteAddress    string `json:"remote_address"`
		Hostname         string `json:"hostname"`
		BroadcastAddress string `json:"broadcast_address"`
		TCPPort          int    `json:"tcp_port"`
		HTTPPort         int    `json:"http_port"`
		Version          string `json:"version"`
		TopologyZone     string `json:"topology_zone"`
		TopologyRegion   string `json:"topology_region"`
	}
	if json.Unmarshal(body, &fields) != nil {
		return p, errors.New("failed to decode JSON body")
	}
	if fields.BroadcastAddress == "" || fields.TCPPort == 0 || fields.HTTPPort == 0 || fields.Version == "" {
		return p, errors.New("missing fields")
	}
	for _, port := range []int{fields.TCPPort, fields.HTTPPort} {
		if port < 1 || port > 65535 {
			return p, errors.New("invalid field")
		}
	}
	for text, limit := range map[string]int{fields.BroadcastAddress: 255, fields.Hostname: 255, fields.TopologyZone: 255, fields.TopologyRegion: 255} {
		if len(text) > limit || strings.IndexFunc(text, unicode.IsControl) >= 0 {
			return p, errors.New("invalid field")
		}
	}
	if len(fields.Version) > 64 || strings.IndexFunc(fields.Version, unicode.IsControl) >= 0 {
		return p, errors.New("invalid field")
	}
	return registry.ProducerInfo{
		Hostname: fields.Hostname, BroadcastAddress: fields.BroadcastAddress, TCPPort: fields.TCPPort, HTTPPort: fields.HTTPPort,
		Version: fields.Version, TopologyZone: fields.TopologyZone, TopologyRegion: fields.TopologyRegion,
	}, nil
}
