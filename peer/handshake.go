package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/lookupd/lookupd/peer/peerpb"
	"github.com/lookupd/lookupd/registry"
)

// Each connection begins with one frame in each direction, a Hello from the
// side that dialled and a Welcome from the other, in network byte order:
//
//	0       4        6
//	+-------+--------+-----------------
//	| magic | length | message, protobuf
//	+-------+--------+-----------------
//
// Frame and magic stay as they are in all versions; what changes is the
// protocol number that the two messages agree on.
const (
	helloMagic   = "\xa9LKP" // no text protocol begins with it
	helloHeader  = len(helloMagic) + 2
	maxHello     = 1024 // bytes of a message
	maxIDLength  = 128
	runIDLength  = 16
	minProtocol  = 1
	thisProtocol = 1
)

// remote is what a handshake found out about the other side.
type remote struct {
	node  registry.NodeID
	epoch uint64
	run   string // drawn by its process
	kind  peerpb.Kind
	ours  bool // of our cluster, and neither side is fresh
	proof proof
}

// refusals maps the sentinels to numbers and back.
func refusals() map[peerpb.Refusal]error {
	return map[peerpb.Refusal]error{
		peerpb.Refusal_REFUSAL_PROTOCOL_VERSION: ErrProtocolVersion,
		peerpb.Refusal_REFUSAL_FOREIGN_CLUSTER:  ErrForeignCluster,
		peerpb.Refusal_REFUSAL_WRONG_PEER:       ErrWrongPeer,
		peerpb.Refusal_REFUSAL_OLD_EPOCH:        ErrOldEpoch,
		peerpb.Refusal_REFUSAL_REMOVED:          ErrRemoved,
		peerpb.Refusal_REFUSAL_NO_CLUSTER:       ErrNoCluster,
		peerpb.Refusal_REFUSAL_MALFORMED:        ErrHandshake,
		peerpb.Refusal_REFUSAL_STOPPING:         ErrClosed,
		peerpb.Refusal_REFUSAL_DUPLICATE_ID:     ErrDuplicateID,
		peerpb.Refusal_REFUSAL_BUSY:             ErrBusy,
	}
}

func refusalOf(err error) peerpb.Refusal {
	for refusal, sentinel := range refusals() {
		if errors.Is(err, sentinel) {
			return refusal
		}
	}
	return peerpb.Refusal_REFUSAL_MALFORMED
}

// accept does the handshake of a connection that came in. Once it returns
// without an error, the connection is admitted under the name of its peer.
func (n *Network) accept(c net.Conn) (*conn, error) {
	if err := c.SetDeadline(time.Now().Add(n.timings.handshake)); err != nil {
		return nil, err
	}
	c, proven, err := n.tls.server(c)
	if err != nil {
		return nil, err
	}
	var hello peerpb.Hello
	if err := readHello(c, &hello); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHandshake, err)
	}
	r, err := n.checkHello(&hello)
	if err == nil {
		r.proof, err = proven, proven.checkNode(r.node)
	}
	var admitted *conn
	if err == nil {
		admitted, err = n.admit(c, r, true)
	}
	if err != nil {
		// The other side learns why, if it still listens.
		return nil, errors.Join(err, writeHello(c, &peerpb.Welcome{Refusal: refusalOf(err), NodeId: string(n.cfg.Node)}))
	}
	err = writeHello(c, &peerpb.Welcome{
		Protocol:  thisProtocol,
		ClusterId: n.cfg.ClusterID(),
		NodeId:    string(n.cfg.Node),
		Epoch:     n.cfg.Epoch,
		RunId:     []byte(n.run),
	})
	if err == nil {
		err = c.SetDeadline(time.Time{})
	}
	if err != nil {
		return nil, errors.Join(err, admitted.Close())
	}
	return admitted, nil
}

// checkHello decides on a Hello; it changes nothing.
func (n *Network) checkHello(h *peerpb.Hello) (remote, error) {
	r := remote{node: registry.NodeID(h.GetFrom()), epoch: h.GetEpoch(), run: string(h.GetRunId()), kind: h.GetKind()}
	switch {
	case h.GetMinProtocol() > thisProtocol || h.GetMaxProtocol() < minProtocol:
		return r, fmt.Errorf("%w: peer %s speaks %d to %d, this one %d to %d", ErrProtocolVersion,
			r.node, h.GetMinProtocol(), h.GetMaxProtocol(), minProtocol, thisProtocol)
	case r.node == "" || len(r.node) > maxIDLength:
		return r, fmt.Errorf("%w: bad node id", ErrHandshake)
	case r.kind != peerpb.Kind_KIND_RAFT && r.kind != peerpb.Kind_KIND_CALLS:
		return r, fmt.Errorf("%w: unknown kind %d", ErrHandshake, r.kind)
	case h.GetTo() != string(n.cfg.Node) && (h.GetTo() != "" || r.kind == peerpb.Kind_KIND_RAFT):
		return r, fmt.Errorf("%w: %s looks for %q", ErrWrongPeer, r.node, h.GetTo())
	}
	return n.checkRemote(r, h.GetClusterId())
}

// greet does the handshake of a connection that was dialled, to to or, if that
// is "", to whoever lives there. The caller bounds it by closing c.
func (n *Network) greet(c net.Conn, to registry.NodeID, kind peerpb.Kind) (*conn, error) {
	c, proven, err := n.tls.client(c)
	if err != nil {
		return nil, err
	}
	err = writeHello(c, &peerpb.Hello{
		MinProtocol: minProtocol,
		MaxProtocol: thisProtocol,
		Kind:        kind,
		ClusterId:   n.cfg.ClusterID(),
		From:        string(n.cfg.Node),
		To:          string(to),
		Epoch:       n.cfg.Epoch,
		RunId:       []byte(n.run),
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHandshake, err)
	}
	var welcome peerpb.Welcome
	if err := readHello(c, &welcome); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHandshake, explainAlert(err))
	}
	r, err := n.checkWelcome(&welcome, to, kind)
	if err == nil {
		r.proof, err = proven, proven.checkNode(r.node)
	}
	if err != nil {
		return nil, err
	}
	return n.admit(c, r, false)
}

// admit takes in a connection whose other side is r.
func (n *Network) admit(c net.Conn, r remote, inbound bool) (*conn, error) {
	admitted, err := n.conns.admit(c, r, inbound)
	if errors.Is(err, ErrDuplicateID) {
		n.tellDuplicate(r.node, r.epoch, c.RemoteAddr().String())
	}
	return admitted, err
}

// tellDuplicate logs, once for each peer, that two processes claim to be it.
func (n *Network) tellDuplicate(node registry.NodeID, epoch uint64, by string) {
	n.mu.Lock()
	told := n.duplicates[node]
	n.duplicates[node] = true
	n.mu.Unlock()
	if !told {
		n.cfg.Logger.Error("two processes run with one identity: stop one and give it a data directory of its own",
			"peer", node, "epoch", epoch, "found_by", by)
	}
}

func (n *Network) checkWelcome(w *peerpb.Welcome, to registry.NodeID, kind peerpb.Kind) (remote, error) {
	r := remote{node: registry.NodeID(w.GetNodeId()), epoch: w.GetEpoch(), run: string(w.GetRunId()), kind: kind}
	switch refusal := w.GetRefusal(); {
	case refusal != peerpb.Refusal_REFUSAL_NONE:
		sentinel, ok := refusals()[refusal]
		if !ok {
			sentinel = ErrHandshake
		}
		if errors.Is(sentinel, ErrDuplicateID) {
			n.tellDuplicate(n.cfg.Node, n.cfg.Epoch, string(r.node))
		}
		return r, fmt.Errorf("refused by %q: %w", r.node, sentinel)
	case r.node == "" || len(r.node) > maxIDLength:
		return r, fmt.Errorf("%w: bad node id", ErrHandshake)
	case to != "" && r.node != to:
		return r, fmt.Errorf("%w: %s instead of %s", ErrWrongPeer, r.node, to)
	case w.GetProtocol() < minProtocol || w.GetProtocol() > thisProtocol:
		return r, fmt.Errorf("%w: peer chose %d", ErrProtocolVersion, w.GetProtocol())
	}
	return n.checkRemote(r, w.GetClusterId())
}

// checkRemote is what both sides check of each other. Whether the epoch went
// back or has two processes is conns.admit's question.
func (n *Network) checkRemote(r remote, cluster string) (remote, error) {
	own := n.cfg.ClusterID()
	switch {
	case len(r.run) != runIDLength:
		return r, fmt.Errorf("%w: bad run id", ErrHandshake)
	case own != "" && cluster != "" && own != cluster:
		return r, fmt.Errorf("%w: %s is of %.64q", ErrForeignCluster, r.node, cluster)
	case (own == "" || cluster == "") && r.kind == peerpb.Kind_KIND_RAFT:
		return r, fmt.Errorf("%w: raft with %s", ErrNoCluster, r.node)
	case r.node == n.cfg.Node && r.epoch != n.cfg.Epoch:
		return r, fmt.Errorf("%w: it claims this peer's id at epoch %d", ErrWrongPeer, r.epoch)
	case n.cfg.Refuse != nil && n.cfg.Refuse(r.node):
		return r, fmt.Errorf("%w: %s", ErrRemoved, r.node)
	}
	r.ours = own != "" && own == cluster
	return r, nil
}

func writeHello(w io.Writer, message proto.Message) error {
	b := make([]byte, helloHeader, 256)
	copy(b, helloMagic)
	b, err := proto.MarshalOptions{}.MarshalAppend(b, message)
	if err != nil {
		return err
	}
	size := len(b) - helloHeader
	if size > maxHello {
		return fmt.Errorf("message of %d bytes", size)
	}
	binary.BigEndian.PutUint16(b[len(helloMagic):], uint16(size))
	_, err = w.Write(b)
	return err
}

// readHello reads exactly one frame: what follows it is not the handshake's.
func readHello(r io.Reader, message proto.Message) error {
	var header [helloHeader]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return err
	}
	switch {
	case string(header[:len(helloMagic)]) == helloMagic:
	case header[0] == tlsHandshake && header[1] == tlsMajor:
		return errors.New("it speaks TLS, and this peer has no certificates")
	default:
		return errors.New("not a peer's handshake")
	}
	size := binary.BigEndian.Uint16(header[len(helloMagic):])
	if size > maxHello {
		return fmt.Errorf("message of %d bytes", size)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return err
	}
	return proto.Unmarshal(body, message)
}
