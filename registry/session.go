package registry

import "fmt"

// nodeSuffixLength is "-" and eight hexadecimal digits.
const nodeSuffixLength = 9

// NodeID names a peer for ever: its name, "-" and eight random hexadecimal
// digits. A peer that lost its disk comes back with a new one.
type NodeID string

// Name returns the name that operators gave the peer.
func (n NodeID) Name() string {
	if len(n) <= nodeSuffixLength {
		return string(n)
	}
	return string(n[:len(n)-nodeSuffixLength])
}

// SessionID names one TCP connection of a producer to a peer.
type SessionID struct {
	Node  NodeID
	Epoch uint64 // the peer's start
	Seq   uint64 // counts the peer's sessions since that start
}

// Newer reports whether s was opened after o; both must be of one peer.
func (s SessionID) Newer(o SessionID) bool {
	if s.Epoch != o.Epoch {
		return s.Epoch > o.Epoch
	}
	return s.Seq > o.Seq
}

func (s SessionID) String() string { return fmt.Sprintf("%s/%d/%d", s.Node, s.Epoch, s.Seq) }
