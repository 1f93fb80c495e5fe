package tcpproto

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"time"

	"github.com/lookupd/lookupd/registry"
)

// identification is the JSON of IDENTIFY, decoded by encoding/json's rules as
// nsqlookupd does: keys in any case, unknown ones ignored, the last repeat wins.
type identification struct {
	// RemoteAddress must be text if it is there, and is not used.
	RemoteAddress    string `json:"remote_address"`
	Hostname         string `json:"hostname"`
	BroadcastAddress string `json:"broadcast_address"`
	TCPPort          int    `json:"tcp_port"`
	HTTPPort         int    `json:"http_port"`
	Version          string `json:"version"`
	TopologyZone     string `json:"topology_zone"`
	TopologyRegion   string `json:"topology_region"`
}

// identity is the answer to IDENTIFY: who this daemon is.
type identity struct {
	BroadcastAddress string `json:"broadcast_address"`
	Hostname         string `json:"hostname"`
	HTTPPort         int    `json:"http_port"`
	TCPPort          int    `json:"tcp_port"`
	Version          string `json:"version"`
}

func (c *conn) identify() ([]byte, error) {
	if c.session != nil {
		return nil, clientErrorf(errInvalid, "cannot IDENTIFY again")
	}
	body, err := c.readBody()
	if err != nil {
		return nil, err
	}
	info, err := c.decode(body)
	if err != nil {
		return nil, err
	}
	if err := c.open(info); err != nil {
		return nil, err
	}
	c.identifyBy = time.Time{}
	return json.Marshal(identity{
		BroadcastAddress: c.s.cfg.BroadcastAddress,
		Hostname:         c.s.cfg.Hostname,
		HTTPPort:         c.s.cfg.HTTPPort(),
		TCPPort:          c.s.port(),
		Version:          c.s.cfg.Version,
	})
}

// open begins the session, unless the connection has ended already. An nsqd that
// was kept waiting for more than a second, by a paused peer, closes and tries
// again later; a session of the old attempt would replace the one that keeps its
// registrations, and end at once.
func (c *conn) open(info registry.ProducerInfo) (err error) {
	if c.in.Buffered() == 0 && hasEnded(c.nc) {
		c.s.log.Debug("no session: the connection has ended", "remote", c.remote)
		return nil
	}
	c.hostname = info.Hostname
	c.session, err = c.s.cfg.Sessions.Open(info, c.end)
	return err
}

// readBody reads a length and so many bytes, and never allocates for bytes that
// have not arrived.
func (c *conn) readBody() ([]byte, error) {
	if err := c.flush(); err != nil {
		return nil, err
	}
	if err := c.setDeadline(time.Now().Add(c.s.cfg.Limits.Body)); err != nil {
		return nil, err
	}
	var prefix [4]byte
	if _, err := io.ReadFull(c.in, prefix[:]); err != nil {
		return nil, cutShort(err, "size")
	}
	length := int32(binary.BigEndian.Uint32(prefix[:]))
	if length < 0 || int(length) > c.s.cfg.Limits.BodyBytes {
		return nil, clientErrorf(errBadBody, "IDENTIFY invalid body size %d", length)
	}
	body, err := io.ReadAll(io.LimitReader(c.in, int64(length)))
	if err == nil && len(body) < int(length) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, cutShort(err, "")
	}
	return body, nil
}

// cutShort is the client's error if its input ended, else the socket's.
func cutShort(err error, what string) error {
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	if what != "" {
		what = " " + what
	}
	return clientErrorf(errBadBody, "IDENTIFY failed to read body%s", what)
}

func (c *conn) decode(body []byte) (registry.ProducerInfo, error) {
	var said identification
	if err := json.Unmarshal(body, &said); err != nil {
		return registry.ProducerInfo{}, clientErrorf(errBadBody, "IDENTIFY failed to decode JSON body")
	}
	info := registry.ProducerInfo{
		RemoteAddress:    c.remote,
		Hostname:         said.Hostname,
		BroadcastAddress: said.BroadcastAddress,
		TCPPort:          said.TCPPort,
		HTTPPort:         said.HTTPPort,
		Version:          said.Version,
		TopologyZone:     said.TopologyZone,
		TopologyRegion:   said.TopologyRegion,
	}
	if err := info.Validate(); err != nil {
		return registry.ProducerInfo{}, clientErrorf(errBadBody, "IDENTIFY %v", err)
	}
	return info, nil
}
