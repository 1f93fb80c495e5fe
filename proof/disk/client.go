package disk

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	// answerWithin is far above what any answer may take.
	answerWithin = 5 * time.Second
	producerPort = 4150
	maxFrame     = 1 << 20
	maxBody      = 64 << 20
)

// errNotOK: the peer answered, and not with OK.
var errNotOK = errors.New("not OK")

// nsqd is a connection that speaks V1 as an nsqd does, but never PINGs.
type nsqd struct {
	conn net.Conn
	read *bufio.Reader
}

// dialNSQD opens a connection and says IDENTIFY for host:4150.
func dialNSQD(ctx context.Context, address, host string) (*nsqd, error) {
	conn, err := (&net.Dialer{Timeout: answerWithin}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	n := &nsqd{conn: conn, read: bufio.NewReader(conn)}
	body := fmt.Sprintf(`{"broadcast_address":%q,"hostname":%q,"tcp_port":%d,"http_port":%d,"version":"1.3.0"}`,
		host, host, producerPort, producerPort+1)
	answer, err := n.call("  V1IDENTIFY\n" + string(binary.BigEndian.AppendUint32(nil, uint32(len(body)))) + body)
	if err == nil && !strings.HasPrefix(answer, "{") {
		err = fmt.Errorf("IDENTIFY: %w: %q", errNotOK, answer)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return n, nil
}

// register sends REGISTER and returns nil for OK, errNotOK for another answer,
// and any other error if there was none.
func (n *nsqd) register(topic, channel string) error {
	answer, err := n.call(strings.TrimRight("REGISTER "+topic+" "+channel, " ") + "\n")
	if err == nil && answer != "OK" {
		err = fmt.Errorf("%w: %q", errNotOK, answer)
	}
	return err
}

func (n *nsqd) call(command string) (string, error) {
	if err := n.conn.SetDeadline(time.Now().Add(answerWithin)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(n.conn, command); err != nil {
		return "", err
	}
	var size uint32
	if err := binary.Read(n.read, binary.BigEndian, &size); err != nil {
		return "", err
	}
	if size > maxFrame {
		return "", fmt.Errorf("frame of %d bytes", size)
	}
	body := make([]byte, size)
	_, err := io.ReadFull(n.read, body)
	return string(body), err
}

func (n *nsqd) close() { _ = n.conn.Close() }

// web asks peers over HTTP, on connections that it keeps.
type web struct{ client *http.Client }

func newWeb() *web {
	return &web{&http.Client{Timeout: answerWithin, Transport: &http.Transport{MaxIdleConnsPerHost: 8}}}
}

func (w *web) close() { w.client.CloseIdleConnections() }

// create makes a topic, or a channel if that is not "". Errors are as those of
// register.
func (w *web) create(ctx context.Context, address, topic, channel string) error {
	path := "/topic/create?topic=" + url.QueryEscape(topic)
	if channel != "" {
		path = "/channel/create?topic=" + url.QueryEscape(topic) + "&channel=" + url.QueryEscape(channel)
	}
	status, body, err := w.do(ctx, http.MethodPost, "http://"+address+path)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%w: %d %.200s", errNotOK, status, body)
	}
	return err
}

// shown is what a peer shows of a topic.
type shown struct {
	exists    bool
	channels  map[string]bool
	producers map[string]bool // by broadcast address
}

// lookup makes a linearizable lookup.
func (w *web) lookup(ctx context.Context, address, topic string) (shown, error) {
	s := shown{channels: map[string]bool{}, producers: map[string]bool{}}
	status, body, err := w.do(ctx, http.MethodGet, "http://"+address+"/lookup?topic="+url.QueryEscape(topic))
	switch {
	case err != nil:
		return s, err
	case status == http.StatusNotFound && strings.Contains(string(body), "TOPIC_NOT_FOUND"):
		return s, nil
	case status != http.StatusOK:
		return s, fmt.Errorf("lookup: %w: %d %.200s", errNotOK, status, body)
	}
	var answer struct {
		Channels  []string `json:"channels"`
		Producers []struct {
			Address string `json:"broadcast_address"`
		} `json:"producers"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return s, fmt.Errorf("lookup: %w", err)
	}
	s.exists = true
	for _, c := range answer.Channels {
		s.channels[c] = true
	}
	for _, p := range answer.Producers {
		s.producers[p.Address] = true
	}
	return s, nil
}

// status is the part of /v1/status that tells states apart.
type status struct {
	Leader    string `json:"leader"`
	Index     uint64 `json:"index"`
	StateHash string `json:"state_hash"`
}

func (w *web) status(ctx context.Context, address string) (s status, err error) {
	code, body, err := w.do(ctx, http.MethodGet, "http://"+address+"/v1/status")
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("status: %w: %d %.200s", errNotOK, code, body)
	}
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(body, &s)
}

func (w *web) do(ctx context.Context, method, target string) (int, []byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, target, nil)
	if err != nil {
		return 0, nil, err
	}
	response, err := w.client.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	return response.StatusCode, body, err
}
