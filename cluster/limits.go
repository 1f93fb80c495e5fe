package cluster

import (
	"cmp"

	"github.com/lookupd/lookupd/peer"
)

// Limits bound what clients and other peers may cost.
type Limits struct {
	// PendingCommands and PendingBytes bound what this peer has waiting for raft.
	// A proposal of MaxProposalCommands must fit.
	PendingCommands int
	PendingBytes    int64
	Members         int // that gossip takes notice of
	LogLines        int // on what strangers send to the gossip port, per second
	Peer            peer.Limits
}

// DefaultLimits returns the limits that a proper cluster never meets.
func DefaultLimits() Limits {
	return Limits{PendingCommands: 4096, PendingBytes: 16 << 20, Members: 64, LogLines: 10, Peer: peer.DefaultLimits()}
}

func (l Limits) withDefaults() Limits {
	d := DefaultLimits()
	l.PendingCommands = cmp.Or(l.PendingCommands, d.PendingCommands)
	l.PendingBytes = cmp.Or(l.PendingBytes, d.PendingBytes)
	l.Members = cmp.Or(l.Members, d.Members)
	l.LogLines = cmp.Or(l.LogLines, d.LogLines)
	return l // peer.New fills in what is its
}
