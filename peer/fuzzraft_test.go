package peer_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/lookupd/lookupd/peer"
	"github.com/lookupd/lookupd/peer/peerpb"
	"github.com/lookupd/lookupd/registry"
)

// ownTerm is that of the raft behind FuzzRaftStream's peer.
const ownTerm = 5

var errDamaged = errors.New("damaged")

// FuzzRaftStream sends any bytes where raft's requests are expected. What
// reaches raft must be what it can take without a panic or a lasting harm, in
// the sender's name, and memory is taken for what arrived.
func FuzzRaftStream(f *testing.F) {
	n := openInside(f, func(c *peer.Config) {
		c.Term = func() uint64 { return ownTerm }
		c.Leader = func() registry.NodeID { return "b-00000002" }
		c.CheckEntry = func(l *raft.Log) error {
			if len(l.Extensions) > 0 {
				return errDamaged
			}
			return nil
		}
		c.RaftTimeout = time.Second
	})
	for _, seed := range raftRequests(f) {
		f.Add(seed)
	}
	// Lengths of what does not follow: an array, bytes and a map in msgpack.
	for _, start := range []string{"\x00\x87\xa7Entries", "\x00\x81\xa6Leader", "\x01\x81\xa9Candidate", "\x00", "\x02\x81\xadConfiguration"} {
		for _, length := range []string{"\xdd\xff\xff\xff\xff", "\xc6\xff\xff\xff\xff", "\xdb\x7f\xff\xff\xff", "\xdf\xff\xff\xff\xff"} {
			f.Add([]byte(start + length))
		}
	}
	f.Add([]byte{9})
	got := newRaft(f, n)
	f.Fuzz(func(t *testing.T, sent []byte) {
		got.check(t)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		c := dialInside(t, n, peerpb.Kind_KIND_RAFT)
		var reading sync.WaitGroup
		reading.Go(func() { _, _ = io.Copy(io.Discard, c) })
		_, _ = c.Write(sent) // fails when the other side ends it
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		reading.Wait()
		settled(t, n)
		runtime.ReadMemStats(&after)
		if taken := after.TotalAlloc - before.TotalAlloc; taken > 4<<20+1<<10*uint64(len(sent)) {
			t.Errorf("%d bytes of memory for %d", taken, len(sent))
		}
		got.check(t)
	})
}

// gotRaft stands for raft behind a Network: it says yes to all that reaches it
// and keeps the first fault.
type gotRaft struct {
	mu    sync.Mutex
	fault error
}

func newRaft(f *testing.F, n *peer.Network) *gotRaft {
	f.Helper()
	g := &gotRaft{}
	stop := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		for {
			select {
			case rpc := <-n.Transport().Consumer():
				if err := g.take(rpc); err != nil {
					g.mu.Lock()
					g.fault = errors.Join(g.fault, err)
					g.mu.Unlock()
				}
			case <-stop:
				return
			}
		}
	})
	f.Cleanup(func() {
		close(stop)
		running.Wait()
	})
	return g
}

func (g *gotRaft) check(t *testing.T) {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.fault != nil {
		t.Fatal(g.fault)
	}
}

func (g *gotRaft) take(rpc raft.RPC) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("raft would panic: %v", p)
		}
	}()
	var term uint64
	var answer any
	switch c := rpc.Command.(type) {
	case *raft.AppendEntriesRequest:
		term, answer = c.Term, &raft.AppendEntriesResponse{Success: true}
		for _, e := range c.Entries {
			if e == nil || len(e.Extensions) > 0 {
				err = fmt.Errorf("entry %v reached raft", e)
			} else if e.Type == raft.LogConfiguration {
				raft.DecodeConfiguration(e.Data)
			}
		}
	case *raft.RequestVoteRequest:
		term, answer = c.Term, &raft.RequestVoteResponse{Granted: true}
	case *raft.RequestPreVoteRequest:
		term, answer = c.Term, &raft.RequestPreVoteResponse{Granted: true}
	case *raft.TimeoutNowRequest:
		answer = &raft.TimeoutNowResponse{}
	case *raft.InstallSnapshotRequest:
		term, answer = c.Term, &raft.InstallSnapshotResponse{Success: true}
		raft.DecodeConfiguration(c.Configuration)
		if c.Size < 0 || c.Size > 1<<30 || c.SnapshotVersion != 1 {
			err = fmt.Errorf("snapshot of %d bytes, version %d reached raft", c.Size, c.SnapshotVersion)
		}
		if n, _ := io.Copy(io.Discard, rpc.Reader); n > c.Size {
			err = fmt.Errorf("%d bytes of a snapshot of %d", n, c.Size)
		}
	default:
		err = fmt.Errorf("%T reached raft", c)
	}
	if term > ownTerm+peer.MaxTermAhead {
		err = fmt.Errorf("term %d reached raft", term)
	}
	if with, ok := rpc.Command.(raft.WithRPCHeader); ok {
		for _, name := range []string{string(with.GetRPCHeader().ID), string(with.GetRPCHeader().Addr)} {
			if name != "" && name != "b-00000002" {
				err = fmt.Errorf("a request in the name of %q reached raft", name)
			}
		}
	}
	rpc.Respond(answer, nil)
	return err
}

// recorded is a stream layer whose one connection notes what raft sends.
type recorded struct {
	conn net.Conn
	done chan struct{}
}

func (r recorded) Accept() (net.Conn, error)                                { <-r.done; return nil, net.ErrClosed }
func (r recorded) Close() error                                             { return nil }
func (r recorded) Addr() net.Addr                                           { return &net.TCPAddr{} }
func (r recorded) Dial(raft.ServerAddress, time.Duration) (net.Conn, error) { return r.conn, nil }

// raftRequests returns requests as raft sends them, good ones and bad ones.
func raftRequests(f *testing.F) (all [][]byte) {
	f.Helper()
	from := raft.RPCHeader{ProtocolVersion: 3, ID: []byte("b-00000002"), Addr: []byte("b-00000002")}
	config := raft.EncodeConfiguration(members("a-00000001"))
	add := func(entries ...*raft.Log) *raft.AppendEntriesRequest {
		return &raft.AppendEntriesRequest{RPCHeader: from, Term: ownTerm, PrevLogEntry: 1, PrevLogTerm: 1, Entries: entries}
	}
	snapshot := func(size int64) *raft.InstallSnapshotRequest {
		return &raft.InstallSnapshotRequest{RPCHeader: from, SnapshotVersion: 1, Configuration: config, LastLogIndex: 9, Size: size, Term: ownTerm}
	}
	future, other := add(), add()
	future.Term, other.RPCHeader.ID = 1<<64-1, []byte("c-00000003")
	badConfig := snapshot(3)
	badConfig.Configuration = []byte("x")
	for _, request := range []any{
		add(), add(&raft.Log{Index: 2, Term: 1, Data: []byte("data")}), future, other,
		add(&raft.Log{Index: 2, Extensions: []byte{1}}), add(&raft.Log{Type: raft.LogConfiguration, Data: config}), add(&raft.Log{Type: raft.LogConfiguration, Data: []byte("x")}),
		add(&raft.Log{Type: 200}), &raft.RequestVoteRequest{RPCHeader: from, Term: ownTerm + 1, LastLogIndex: 1}, &raft.RequestVoteRequest{RPCHeader: from, Term: 1 << 63},
		&raft.RequestPreVoteRequest{RPCHeader: from, Term: ownTerm + 1}, &raft.TimeoutNowRequest{RPCHeader: from}, snapshot(3), snapshot(0), snapshot(4), snapshot(-1), snapshot(1 << 62), badConfig,
	} {
		all = append(all, record(f, request))
	}
	return append(all, bytes.Join(all[:4], nil))
}

func record(f *testing.F, request any) []byte {
	f.Helper()
	c := &heard{in: bytes.NewReader(nil)}
	stream := recorded{c, make(chan struct{})}
	t := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{Stream: stream, MaxPool: 1, Logger: hclog.NewNullLogger()})
	switch r := request.(type) { // nobody answers: all of them fail
	case *raft.AppendEntriesRequest:
		_ = t.AppendEntries("a", "a", r, &raft.AppendEntriesResponse{})
	case *raft.RequestVoteRequest:
		_ = t.RequestVote("a", "a", r, &raft.RequestVoteResponse{})
	case *raft.RequestPreVoteRequest:
		_ = t.RequestPreVote("a", "a", r, &raft.RequestPreVoteResponse{})
	case *raft.TimeoutNowRequest:
		_ = t.TimeoutNow("a", "a", r, &raft.TimeoutNowResponse{})
	case *raft.InstallSnapshotRequest:
		_ = t.InstallSnapshot("a", "a", r, &raft.InstallSnapshotResponse{}, bytes.NewReader([]byte("abc")))
	}
	close(stream.done)
	if err := t.Close(); err != nil || c.out.Len() == 0 {
		f.Fatalf("%T was not recorded: %v", request, err)
	}
	return c.out.Bytes()
}
