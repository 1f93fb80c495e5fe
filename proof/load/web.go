package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/lookupd/lookupd/proof/history"
	"github.com/lookupd/lookupd/registry"
)

// webWithin is how long an HTTP client waits: more than the second in which a
// peer answers even without a quorum.
const webWithin = 2500 * time.Millisecond

// web is one HTTP client.
type web struct {
	load   *Load
	client int
	rand   *rand.Rand
	http   *http.Client
}

func newWeb(l *Load, client int, r *rand.Rand) *web {
	dialer := &net.Dialer{Timeout: dialWithin}
	return &web{load: l, client: client, rand: r, http: &http.Client{
		Timeout: webWithin,
		Transport: &http.Transport{
			DialContext: dialer.DialContext, MaxIdleConnsPerHost: 2, DisableCompression: true,
		},
	}}
}

func (w *web) close() { w.http.CloseIdleConnections() }

// write makes one change.
func (w *web) write(context.Context) {
	n := w.load.names
	op := &history.Op{Client: w.client, Peer: "", Topic: n.topic(w.rand)}
	peer := w.load.pick(w.rand)
	switch w.rand.IntN(10) {
	case 0, 1:
		op.Kind = history.CreateTopic
	case 2:
		op.Kind = history.DeleteTopic
	case 3, 4, 5:
		op.Kind, op.Channel = history.CreateChannel, n.channel(w.rand)
	case 6, 7:
		op.Kind, op.Channel = history.DeleteChannel, n.channel(w.rand)
		peer = w.deleterOf(op.Topic, op.Channel)
	default:
		op.Kind, op.Node = history.Tombstone, node(1+w.rand.IntN(w.load.cfg.Producers))
	}
	op.Peer = peer.Name
	w.do(op, peer, http.MethodPost, changePath(op))
}

// deleterOf is the one peer that deletes a channel: elsewhere a second deletion
// within a minute would be answered 200 although nothing is there, because
// nsqadmin sends each deletion to all.
func (w *web) deleterOf(topic, channel string) Peer {
	h := fnv.New32()
	_, _ = io.WriteString(h, topic+" "+channel)
	peers := w.load.cfg.Peers()
	return peers[int(h.Sum32()%uint32(len(peers)))]
}

func changePath(op *history.Op) string {
	q := url.Values{"topic": {op.Topic}}
	if op.Channel != "" {
		q.Set("channel", op.Channel)
	}
	if op.Node != "" {
		q.Set("node", op.Node)
	}
	path := map[history.Kind]string{
		history.CreateTopic: "/topic/create", history.DeleteTopic: "/topic/delete", history.Tombstone: "/topic/tombstone",
		history.CreateChannel: "/channel/create", history.DeleteChannel: "/channel/delete",
	}[op.Kind]
	return path + "?" + q.Encode()
}

// read asks once.
func (w *web) read(context.Context) {
	op := &history.Op{Client: w.client}
	stale := w.rand.IntN(100) < w.load.cfg.StalePercent
	switch w.rand.IntN(100) {
	case 0, 1:
		op.Kind = history.Nodes
	case 2, 3, 4:
		op.Kind = history.Topics
	case 5, 6, 7, 8, 9, 10, 11, 12, 13, 14:
		op.Kind, op.Topic = history.Channels, w.load.names.topic(w.rand)
	default:
		op.Kind, op.Topic = history.Lookup, w.load.names.topic(w.rand)
	}
	w.ask(op, w.load.pick(w.rand), stale)
}

func (w *web) ask(op *history.Op, peer Peer, stale bool) {
	op.Peer = peer.Name
	q := url.Values{}
	if op.Topic != "" {
		q.Set("topic", op.Topic)
	}
	if stale {
		q.Set("consistency", "stale")
	}
	w.do(op, peer, http.MethodGet, "/"+op.Kind.String()+"?"+q.Encode())
}

// do sends the request of op and records how it ended.
func (w *web) do(op *history.Op, peer Peer, method, path string) {
	request, err := http.NewRequest(method, "http://"+peer.HTTP+path, nil)
	if err != nil {
		panic(fmt.Sprintf("load: %v", err)) // of this package's making
	}
	op.Call = w.load.rec.Now()
	response, err := w.http.Do(request)
	var body []byte
	if err == nil {
		body, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer<<4))
		_ = response.Body.Close()
	}
	op.Return = w.load.rec.Now()
	switch {
	case err != nil:
		op.Outcome = history.Unknown
		var dial *net.OpError
		if errors.As(err, &dial) && dial.Op == "dial" {
			op.Outcome = history.Failed // nothing was sent
		}
	case response.StatusCode == http.StatusOK:
		op.Outcome = history.OK
	case response.StatusCode == http.StatusNotFound:
		op.Outcome = history.NotFound
	default:
		op.Outcome = history.Unknown
	}
	if op.Kind.Reads() && op.Outcome == history.Unknown {
		op.Outcome = history.Failed
	}
	if op.Outcome == history.Unknown {
		op.Return = history.Forever
	}
	if op.Answered() {
		op.Index, _ = strconv.ParseUint(response.Header.Get("X-Lookupd-Index"), 10, 64)
		op.Stale = response.Header.Get("X-Lookupd-Stale-Ms") != ""
		if op.Outcome == history.OK && op.Kind.Reads() {
			decode(op, body)
		}
	}
	w.load.rec.Add(op)
	if !op.Answered() {
		time.Sleep(backOff)
	}
}

// decode reads an answer. One that cannot be read is kept as an empty one, which
// no check will take for right unless it is.
func decode(op *history.Op, body []byte) {
	var answer struct {
		Channels  []string     `json:"channels"`
		Topics    []string     `json:"topics"`
		Producers []nodeAnswer `json:"producers"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return
	}
	op.Topics = answer.Topics
	op.Shown.Channels = answer.Channels
	for _, p := range answer.Producers {
		info := registry.ProducerInfo{
			RemoteAddress: p.RemoteAddress, Hostname: p.Hostname, BroadcastAddress: p.BroadcastAddress, TCPPort: p.TCPPort,
			HTTPPort: p.HTTPPort, Version: p.Version, TopologyZone: p.TopologyZone, TopologyRegion: p.TopologyRegion,
		}
		op.Shown.Producers = append(op.Shown.Producers, info)
		op.Nodes = append(op.Nodes, registry.Node{ProducerInfo: info, Topics: p.Topics, Tombstones: p.Tombstones})
	}
}

type nodeAnswer struct {
	RemoteAddress    string   `json:"remote_address"`
	Hostname         string   `json:"hostname"`
	BroadcastAddress string   `json:"broadcast_address"`
	TCPPort          int      `json:"tcp_port"`
	HTTPPort         int      `json:"http_port"`
	Version          string   `json:"version"`
	TopologyZone     string   `json:"topology_zone"`
	TopologyRegion   string   `json:"topology_region"`
	Topics           []string `json:"topics"`
	Tombstones       []bool   `json:"tombstones"`
}

// ReadAll asks every peer for everything, once all else has ended.
func (l *Load) ReadAll() {
	w := newWeb(l, 0, rand.New(rand.NewPCG(l.cfg.Seed, 0)))
	defer w.close()
	for _, peer := range l.cfg.Peers() {
		for _, kind := range []history.Kind{history.Topics, history.Nodes} {
			w.ask(&history.Op{Kind: kind}, peer, false)
		}
		for _, topic := range l.names.topics {
			w.ask(&history.Op{Kind: history.Lookup, Topic: topic}, peer, false)
			w.ask(&history.Op{Kind: history.Channels, Topic: topic}, peer, false)
		}
	}
}
