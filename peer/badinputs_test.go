package peer_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/lookupd/lookupd/peer"
	"github.com/lookupd/lookupd/peer/peerpb"
)

// TestBadInputs has the rows of docs/bad-inputs.md that are more than bytes and
// their end.
func TestBadInputs(t *testing.T) {
	for name, test := range map[string]func(*testing.T){
		"R3 silent handshakes wait for their turn": handshakesUnderWay,
		"R3 1,000 silent connections":              silentConnections,
		"R7 more bytes than said":                  longSnapshot,
		"R8 entry with a wrong checksum":           damagedEntry,
		"D10 epoch that goes back":                 epochs,
		"R10 election at once":                     electionAtOnce,
		"R11 moved peer is resolved again":         redialAtNewAddress,
	} {
		t.Run(name, test)
	}
}

// longSnapshot: what follows a snapshot is no part of it, and no request.
func longSnapshot(t *testing.T) {
	g := guard(t, func(*peer.Config) {})
	installed := make(chan error, 1)
	go func() {
		_, err := g.install(60, 4, strings.NewReader("1234 and more"))
		installed <- err
	}()
	rpc := <-g.reached
	if read, err := io.ReadAll(rpc.Reader); err != nil || string(read) != "1234" {
		t.Errorf("raft could read %q, %v", read, err)
	}
	rpc.Respond(&raft.InstallSnapshotResponse{Success: true}, nil)
	<-installed
	eventually(t, func() error {
		if open := g.b.Connections(); len(open) != 0 {
			return fmt.Errorf("%d connections are open", len(open))
		}
		return nil
	})
	if len(g.reached) != 0 {
		t.Error("raft was given what followed")
	}
}

// rawRaft opens a connection for raft's requests, as a peer that then sends
// what it likes.
func rawRaft(t *testing.T, n *peer.Network) net.Conn {
	t.Helper()
	conn := dialRaw(t, n.Addr())
	if err := peer.WriteHello(conn, hello(func(h *peerpb.Hello) { h.Kind = peerpb.Kind_KIND_RAFT })); err != nil {
		t.Fatal(err)
	}
	if w, err := peer.ReadWelcome(conn); err != nil || w.GetRefusal() != peerpb.Refusal_REFUSAL_NONE {
		t.Fatalf("%v, %v", w, err)
	}
	return conn
}

// TestRaftStreamOfNonsense: a connection for raft that sends what raft's codec
// cannot decode is closed, and takes memory for what was received only.
func TestRaftStreamOfNonsense(t *testing.T) {
	const (
		appendEntries, requestVote, installSnapshot = "\x00", "\x01", "\x02" // raft's numbers
		most                                        = 4 << 20
	)
	length := func(code string, n uint32) string { return code + string(binary.BigEndian.AppendUint32(nil, n)) }
	field := func(name string) string { return string([]byte{0xa0 | byte(len(name))}) + name }
	for name, sent := range map[string]string{
		"R4 unknown type":          "\x63rubbish",
		"R4 half a request":        appendEntries + "\x82" + field("Term"),
		"R4 4 GB of fields":        appendEntries + length("\xdf", 1<<32-1),
		"R4 field name of 4 GB":    appendEntries + "\x81" + length("\xdb", 1<<32-1) + strings.Repeat("x", 1000),
		"R4 leader of 4 GB":        appendEntries + "\x81" + field("Leader") + length("\xc6", 1<<32-1) + strings.Repeat("x", 1000),
		"R4 4 G entries":           appendEntries + "\x81" + field("Entries") + length("\xdd", 1<<32-1),
		"R4 unknown field of 4 GB": requestVote + "\x81" + field("Nobody") + length("\xc6", 1<<32-1) + strings.Repeat("x", 1000),
		"R4 unknown text of 2 GB":  requestVote + "\x81" + field("Nobody") + length("\xdb", 1<<31-1) + strings.Repeat("x", 1000),
		"R4 configuration of 4 GB": installSnapshot + "\x81" + field("Configuration") + length("\xc6", 1<<32-1) + strings.Repeat("x", 1000),
		"R4 deep nesting":          requestVote + "\x81" + field("Nobody") + strings.Repeat("\x91", 1<<20),
	} {
		t.Run(name, func(t *testing.T) {
			n := newAddresses().open(t, "a-00000001", &handler{}, func(c *peer.Config) { c.RaftTimeout = 200 * time.Millisecond })
			conn := rawRaft(t, n)
			before := allocated()
			// Both fail if the peer has closed already.
			_, _ = io.WriteString(conn, sent)
			_ = conn.(*net.TCPConn).CloseWrite()
			ends(t, conn)
			if used := allocated() - before; used > most {
				t.Errorf("%d bytes allocated for %d received", used, len(sent))
			}
			eventually(t, func() error {
				if open := n.Connections(); len(open) != 0 {
					return fmt.Errorf("%d connections are open", len(open))
				}
				return nil
			})
		})
	}
}

func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}
