package fault

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"sync/atomic"

	"github.com/lookupd/lookupd/proof/history"
	"github.com/lookupd/lookupd/supervisor"
)

// importPath is where a restore sends its changes.
const importPath = "/v1/import"

// gateway stands between lookupctl and a peer's HTTP port and records the
// changes that a restore asks for, which lookupctl alone knows.
type gateway struct {
	target   *Target
	peer     *supervisor.Peer
	listener net.Listener
	server   *http.Server
	served   chan struct{}
	changes  atomic.Int64 // that were asked for
}

func newGateway(t *Target, p *supervisor.Peer) (*gateway, error) {
	listener, err := net.Listen("tcp4", net.JoinHostPort(supervisor.Loopback, "0"))
	if err != nil {
		return nil, err
	}
	g := &gateway{target: t, peer: p, listener: listener, served: make(chan struct{})}
	to := &url.URL{Scheme: "http", Host: t.HTTPAddress(p)}
	g.server = &http.Server{Handler: &httputil.ReverseProxy{
		// X-Forwarded-For would make the caller one from outside.
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(to) },
		Transport: g,
	}}
	go func() {
		defer close(g.served)
		_ = g.server.Serve(listener) // ends by close
	}()
	return g, nil
}

func (g *gateway) address() string { return g.listener.Addr().String() }

// imports returns how many changes were asked for.
func (g *gateway) imports() int { return int(g.changes.Load()) }

func (g *gateway) close() {
	_ = g.server.Close() // nothing of it is left to lose
	<-g.served
}

var _ http.RoundTripper = (*gateway)(nil)

// RoundTrip passes a request on; what an import asks for, and how that ended, is
// recorded.
func (g *gateway) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Path != importPath {
		return http.DefaultTransport.RoundTrip(r)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	ops, err := importOps(body)
	if err != nil {
		return nil, err
	}
	g.changes.Add(int64(len(ops)))
	called := g.target.Recorder.Now()
	response, err := http.DefaultTransport.RoundTrip(r)
	returned := g.target.Recorder.Now()
	outcome, index := history.Unknown, uint64(0)
	if err == nil {
		switch {
		case response.StatusCode == http.StatusOK:
			outcome = history.OK
			index, _ = strconv.ParseUint(response.Header.Get("X-Lookupd-Index"), 10, 64) // 0 is no index, which is judged
		case response.StatusCode < http.StatusInternalServerError:
			outcome = history.Failed // refused before it was proposed
		}
	}
	if outcome == history.Unknown {
		returned = history.Forever
	}
	for _, op := range ops {
		op.Client, op.Peer, op.Outcome, op.Index, op.Call, op.Return = Operator, g.peer.Name(), outcome, index, called, returned
		g.target.Recorder.Add(op)
	}
	return response, err
}

// importOps returns the changes that the body of an import asks for: each topic,
// and each channel of it. A restore that deletes nothing has no others.
func importOps(body []byte) (ops []*history.Op, err error) {
	var names struct {
		Create []struct {
			Topic    string   `json:"topic"`
			Channels []string `json:"channels"`
		} `json:"create"`
	}
	if err := json.Unmarshal(body, &names); err != nil {
		return nil, err
	}
	for _, t := range names.Create {
		ops = append(ops, &history.Op{Kind: history.CreateTopic, Topic: t.Topic})
		for _, channel := range t.Channels {
			ops = append(ops, &history.Op{Kind: history.CreateChannel, Topic: t.Topic, Channel: channel})
		}
	}
	return ops, nil
}
