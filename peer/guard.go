package peer

import (
	"errors"
	"fmt"
	"io"

	"github.com/hashicorp/raft"
)

const (
	// maxTermAhead is how far above its own a peer believes a term: elections
	// do not get there, a damaged or forged number does, and raft would keep it
	// for ever.
	maxTermAhead = 1 << 20
	// maxSnapshot bounds what a peer may announce, in bytes.
	maxSnapshot = 1 << 40
)

// errRefused is what a sender gets whose request raft must not see.
var errRefused = errors.New("refused raft request")

// guard passes raft's requests on and answers those that raft would panic on,
// or that would harm it for ever.
func (t *transport) guard() {
	n := t.network
	for {
		select {
		case rpc := <-t.NetworkTransport.Consumer():
			if err := t.check(rpc.Command); err != nil {
				n.cfg.Logger.Error("refused a raft request", "error", err)
				t.decline(rpc, err)
				continue
			}
			select {
			case t.checked <- rpc:
			case <-n.ctx.Done():
				return
			}
		case <-n.ctx.Done():
			return
		}
	}
}

// decline answers a request with err. A snapshot is read to its end first: its
// bytes would be taken for the next request. One that says it has no end is not
// from raft, and its sender harms nobody but itself.
func (t *transport) decline(rpc raft.RPC, err error) {
	snapshot, ok := rpc.Command.(*raft.InstallSnapshotRequest)
	if !ok || snapshot.Size > maxSnapshot {
		rpc.Respond(nil, err)
		return
	}
	t.network.start(func() {
		_, drained := io.Copy(io.Discard, rpc.Reader)
		rpc.Respond(nil, errors.Join(err, drained))
	})
}

func (t *transport) check(command any) error {
	switch c := command.(type) {
	case *raft.AppendEntriesRequest:
		return errors.Join(t.checkTerm(c.Term), checkEntries(c.Entries))
	case *raft.RequestVoteRequest:
		return t.checkTerm(c.Term)
	case *raft.RequestPreVoteRequest:
		return t.checkTerm(c.Term)
	case *raft.InstallSnapshotRequest:
		return errors.Join(t.checkTerm(c.Term), checkSnapshot(c))
	}
	return nil
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

func checkEntries(entries []*raft.Log) error {
	for _, e := range entries {
		if e == nil {
			return fmt.Errorf("%w: missing entry", errRefused)
		}
		if e.Type == raft.LogConfiguration {
			if err := checkConfiguration(e.Data); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkSnapshot(r *raft.InstallSnapshotRequest) error {
	if r.Size < 0 || r.Size > maxSnapshot {
		return fmt.Errorf("%w: snapshot of %d bytes", errRefused, r.Size)
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
