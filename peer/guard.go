package peer

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hashicorp/raft"

	"github.com/lookupd/lookupd/registry"
)

const (
	// maxTermAhead is how far above its own a peer believes a term: elections
	// do not get there, a damaged or forged number does, and raft would keep it
	// for ever.
	maxTermAhead = 1 << 20
	// maxSnapshotPerState allows snapshots above Limits.SnapshotBytes if the own
	// state is of that order.
	maxSnapshotPerState = 4
	// drainRate is how fast, in bytes a second, a snapshot arrives at least that
	// nobody needs.
	drainRate = 4 << 20
)

var (
	// errRefused is what a sender gets whose request raft must not see.
	errRefused = errors.New("refused raft request")
	// errOvertaken: the state went past a snapshot before raft came to it.
	errOvertaken = errors.New("state is past this snapshot")
)

// receive passes the requests that arrive on c on to raft until c ends, and
// answers those that raft would panic on, or that would harm it for ever.
func (t *transport) receive(c *conn) {
	s := newStreamLayer(t.network)
	s.accepted <- c
	in := newNetworkTransport(t.network.cfg, s)
	defer func() { _ = errors.Join(in.Close(), c.Close()) }() // neither can matter now
	for {
		select {
		case rpc := <-in.Consumer():
			if !t.pass(c, rpc) {
				return
			}
		case <-c.done:
			return
		}
	}
}

// pass gives a request to raft or answers it. It returns false when c is done.
func (t *transport) pass(c *conn, rpc raft.RPC) bool {
	if err := t.check(c.node, rpc.Command); err != nil {
		t.network.cfg.Logger.Error("refused a raft request", "peer", c.node, "error", err)
		t.decline(c, rpc, err)
		return true
	}
	if r, ok := rpc.Command.(*raft.InstallSnapshotRequest); ok {
		if t.overtaken(r) {
			t.skip(c, rpc, r)
			return true
		}
		rpc.Reader = &snapshotReader{t: t, conn: c, request: r, from: rpc.Reader}
	}
	select {
	case t.checked <- rpc:
		return true
	case <-c.done:
		return false
	}
}

// decline answers a request with err. A snapshot is read to its end first: its
// bytes would be taken for the next request. After one that is too large
// nothing more is read from c.
func (t *transport) decline(c *conn, rpc raft.RPC, err error) {
	if r, ok := rpc.Command.(*raft.InstallSnapshotRequest); ok {
		within := time.Duration(0)
		if t.checkSize(r) == nil {
			within = t.drainTime(r)
		}
		err = errors.Join(err, drain(c, rpc.Reader, within))
	}
	rpc.Respond(nil, err)
}

// skip answers a late snapshot as if it were installed: its sender learns that
// all that is in it is here. Raft would install it and fall back to it.
func (t *transport) skip(c *conn, rpc raft.RPC, r *raft.InstallSnapshotRequest) {
	t.network.cfg.Logger.Info("skipped a snapshot that the state is past", "peer", c.node, "index", r.LastLogIndex)
	if err := drain(c, rpc.Reader, t.drainTime(r)); err != nil {
		rpc.Respond(nil, err)
		return
	}
	resp := &raft.InstallSnapshotResponse{Success: true}
	if t.network.cfg.Term != nil {
		resp.Term = t.network.cfg.Term()
	}
	rpc.Respond(resp, nil)
}

func (t *transport) drainTime(r *raft.InstallSnapshotRequest) time.Duration {
	return t.patience() + time.Duration(r.Size/drainRate)*time.Second
}

// drain reads from to its end within that time. If it does not come to it,
// nothing more can be read from c, which so ends once its answer is sent.
func drain(c *conn, from io.Reader, within time.Duration) error {
	if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, from); err != nil {
		return err
	}
	if within == 0 {
		return nil
	}
	return c.SetReadDeadline(time.Time{})
}

// snapshotReader is what raft reads a snapshot from, in its main loop: entries
// that are committed while the request waits for that loop may overtake the
// snapshot, and a sender that falls silent must not stop the loop for ever.
type snapshotReader struct {
	t       *transport
	conn    *conn
	request *raft.InstallSnapshotRequest
	from    io.Reader
	ended   bool // raft has all and asks once more
}

func (r *snapshotReader) Read(b []byte) (int, error) {
	if r.ended {
		return 0, io.EOF
	}
	if r.t.overtaken(r.request) {
		// The rest is not read: the sender tries again on a new connection.
		return 0, errors.Join(errOvertaken, r.conn.Close())
	}
	if err := r.conn.SetReadDeadline(time.Now().Add(r.t.patience())); err != nil {
		return 0, err
	}
	n, err := r.from.Read(b)
	switch {
	case errors.Is(err, io.EOF):
		r.ended = true
		_ = r.conn.SetReadDeadline(time.Time{}) // fails on a closed one only
	case err != nil:
		_ = r.conn.Close() // raft reads on, and must not wait again
	}
	return n, err
}

// patience is how long a peer may be silent inside a snapshot.
func (t *transport) patience() time.Duration {
	if d := t.network.cfg.RaftTimeout; d > 0 {
		return d
	}
	return raftTimeout
}

// check decides on a request that came from peer from.
func (t *transport) check(from registry.NodeID, command any) error {
	if err := checkSender(from, command); err != nil {
		return err
	}
	switch c := command.(type) {
	case *raft.AppendEntriesRequest:
		return errors.Join(t.checkTerm(c.Term), t.checkEntries(c.Entries))
	case *raft.RequestVoteRequest:
		return t.checkTerm(c.Term)
	case *raft.RequestPreVoteRequest:
		return t.checkTerm(c.Term)
	case *raft.InstallSnapshotRequest:
		return errors.Join(t.checkTerm(c.Term), t.checkSnapshot(c))
	case *raft.TimeoutNowRequest:
		return t.checkLeader(from)
	}
	return nil
}

// checkSender refuses a request in another peer's name. Raft takes leaders and
// candidates from the header.
func checkSender(from registry.NodeID, command any) error {
	with, ok := command.(raft.WithRPCHeader)
	if !ok {
		return nil
	}
	header := with.GetRPCHeader()
	for _, said := range []string{string(header.ID), string(header.Addr)} {
		if said != "" && said != string(from) {
			return fmt.Errorf("%w: from %s in the name of %.64q", errRefused, from, said)
		}
	}
	return nil
}

// checkLeader refuses whom raft does not take for the leader.
func (t *transport) checkLeader(from registry.NodeID) error {
	if t.network.cfg.Leader == nil {
		return nil
	}
	if leader := t.network.cfg.Leader(); from != leader {
		return fmt.Errorf("%w: %s asks for an election, the leader is %q", errRefused, from, leader)
	}
	return nil
}

func (t *transport) overtaken(r *raft.InstallSnapshotRequest) bool {
	applied := t.network.cfg.Applied
	return applied != nil && r.LastLogIndex < applied()
}

func (t *transport) checkTerm(term uint64) error {
	if t.network.cfg.Term == nil {
		return nil
	}
	if own := t.network.cfg.Term(); term > own && term-own > maxTermAhead {
		return fmt.Errorf("%w: term %d, own term %d", errRefused, term, own)
	}
	return nil
}

func (t *transport) checkEntries(entries []*raft.Log) error {
	for _, e := range entries {
		if e == nil {
			return fmt.Errorf("%w: missing entry", errRefused)
		}
		if t.network.cfg.CheckEntry != nil {
			if err := t.network.cfg.CheckEntry(e); err != nil {
				return fmt.Errorf("%w: entry %d: %w", errRefused, e.Index, err)
			}
		}
		if e.Type == raft.LogConfiguration {
			if err := checkConfiguration(e.Data); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *transport) checkSize(r *raft.InstallSnapshotRequest) error {
	most := t.network.cfg.Limits.SnapshotBytes
	if t.network.cfg.StateSize != nil {
		most = max(most, maxSnapshotPerState*t.network.cfg.StateSize())
	}
	if r.Size < 0 || r.Size > most {
		return fmt.Errorf("%w: snapshot of %d bytes, the limit is %d", errRefused, r.Size, most)
	}
	return nil
}

func (t *transport) checkSnapshot(r *raft.InstallSnapshotRequest) error {
	if err := t.checkSize(r); err != nil {
		return err
	}
	if r.SnapshotVersion != raft.SnapshotVersionMax {
		return fmt.Errorf("%w: snapshot version %d", errRefused, r.SnapshotVersion)
	}
	return checkConfiguration(r.Configuration)
}

// checkConfiguration finds out whether raft could decode b; where it cannot, it
// panics.
func checkConfiguration(b []byte) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: configuration does not decode: %v", errRefused, p)
		}
	}()
	raft.DecodeConfiguration(b)
	return nil
}
