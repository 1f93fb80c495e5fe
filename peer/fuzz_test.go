package peer_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/lookupd/lookupd/peer"
	"github.com/lookupd/lookupd/peer/peerpb"
	"github.com/lookupd/lookupd/registry"
)

// heard is the listening end of a connection on which all has arrived that will.
type heard struct {
	net.Conn // nil: nothing else is called
	in       *bytes.Reader
	out      bytes.Buffer
}

func (h *heard) Read(b []byte) (int, error)  { return h.in.Read(b) }
func (h *heard) Write(b []byte) (int, error) { return h.out.Write(b) }
func (h *heard) SetDeadline(time.Time) error { return nil }
func (h *heard) Close() error                { return nil }
func (h *heard) RemoteAddr() net.Addr        { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1} }

// FuzzHandshake sends any bytes to a listener that was just started. It answers
// nothing but one Welcome, which says no unless the Hello gives it a reason to
// say yes, and reads nothing that comes after the Hello.
func FuzzHandshake(f *testing.F) {
	frame := func(change func(*peerpb.Hello)) []byte {
		var b bytes.Buffer
		if err := peer.WriteHello(&b, hello(change)); err != nil {
			f.Fatal(err)
		}
		return b.Bytes()
	}
	for _, change := range []func(*peerpb.Hello){
		func(*peerpb.Hello) {},
		func(h *peerpb.Hello) { h.Kind = peerpb.Kind_KIND_RAFT },
		func(h *peerpb.Hello) { h.Kind, h.ClusterId = peerpb.Kind_KIND_RAFT, "" },
		func(h *peerpb.Hello) { h.Kind = 7 },
		func(h *peerpb.Hello) { h.ClusterId = "cluster-2" },
		func(h *peerpb.Hello) { h.ClusterId, h.To = "", "" },
		func(h *peerpb.Hello) { h.To = "c-00000003" },
		func(h *peerpb.Hello) { h.From = "" },
		func(h *peerpb.Hello) { h.From = "a-00000001" },
		func(h *peerpb.Hello) { h.From, h.Epoch = "a-00000001", 7 },
		func(h *peerpb.Hello) { h.From, h.Epoch, h.RunId = "a-00000001", 7, runID('z') },
		func(h *peerpb.Hello) { h.From = string(bytes.Repeat([]byte("x"), 129)) },
		func(h *peerpb.Hello) { h.From = "gone-00000009" },
		func(h *peerpb.Hello) { h.Epoch = 1<<64 - 1 },
		func(h *peerpb.Hello) { h.RunId = nil },
		func(h *peerpb.Hello) { h.MinProtocol, h.MaxProtocol = 2, 9 },
		func(h *peerpb.Hello) { h.MinProtocol, h.MaxProtocol = 9, 0 },
	} {
		f.Add(frame(change))
	}
	f.Add(append(frame(func(*peerpb.Hello) {}), "and more"...))
	for _, sent := range []string{"", "GET / HTTP/1.1", "  V1PING\n", "\x16\x03\x01\x02\x00\x01", "\xff\xff", "\x00\x00", "\x00\x03\xff\xff\xff", "\x04\x00", "\x04\x01"} {
		f.Add([]byte(sent))
		f.Add([]byte(peer.HelloMagic + sent))
	}
	cfg := peer.Config{
		Node: "a-00000001", Epoch: 7, ClusterID: func() string { return cluster }, Logger: slog.New(slog.DiscardHandler),
		Refuse: func(n registry.NodeID) bool { return n == "gone-00000009" },
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		c := &heard{in: bytes.NewReader(sent)}
		accepted := peer.New(cfg).Accept(c)
		said, unreadable := peer.ReadHello(bytes.NewReader(sent))
		if unreadable != nil {
			if accepted == nil || c.out.Len() > 0 {
				t.Fatalf("no Hello (%v), and answered %q, %v", unreadable, c.out.Bytes(), accepted)
			}
			return
		}
		if read := len(sent) - c.in.Len(); read != 6+int(binary.BigEndian.Uint16(sent[4:])) {
			t.Errorf("read %d bytes", read)
		}
		answer, err := peer.ReadWelcome(&c.out)
		if err != nil || c.out.Len() > 0 {
			t.Fatalf("answer is no Welcome, or more: %v", err)
		}
		welcome := answer.GetRefusal() == peerpb.Refusal_REFUSAL_NONE
		if welcome != (accepted == nil) || welcome != mayEnter(said) || answer.GetNodeId() != "a-00000001" {
			t.Errorf("%v is answered %v, %v", said, answer, accepted)
		}
		var again bytes.Buffer
		if err := peer.WriteHello(&again, said); err != nil {
			return // its encoding may be longer than what came
		}
		if other, err := peer.ReadHello(&again); err != nil || !proto.Equal(said, other) {
			t.Errorf("%v is %v when sent on, %v", said, other, err)
		}
	})
}

// mayEnter says what FuzzHandshake's listener must make of a Hello.
func mayEnter(h *peerpb.Hello) bool {
	raft, calls := h.GetKind() == peerpb.Kind_KIND_RAFT, h.GetKind() == peerpb.Kind_KIND_CALLS
	switch {
	case h.GetMinProtocol() > 1 || h.GetMaxProtocol() < 1, !raft && !calls:
	case h.GetFrom() == "" || len(h.GetFrom()) > 128 || h.GetFrom() == "gone-00000009" || h.GetFrom() == "a-00000001":
		// Its own id is another process's: nobody else knows this one's run.
	case len(h.GetRunId()) != 16:
	case h.GetTo() != "a-00000001" && (h.GetTo() != "" || raft):
	default:
		return h.GetClusterId() == cluster || h.GetClusterId() == "" && calls
	}
	return false
}

// dialInside connects to n without a network, after a good handshake.
func dialInside(t *testing.T, n *peer.Network, kind peerpb.Kind) net.Conn {
	t.Helper()
	here, there := net.Pipe()
	if err := here.SetDeadline(time.Now().Add(soon)); err != nil {
		t.Fatal(err)
	}
	n.Take(there)
	if err := peer.WriteHello(here, hello(func(h *peerpb.Hello) { h.Kind = kind })); err != nil {
		t.Fatal(err)
	}
	if w, err := peer.ReadWelcome(here); err != nil || w.GetRefusal() != 0 {
		t.Fatalf("welcome %v, %v", w, err)
	}
	return here
}

// openInside is a Network for fuzz targets, and its memory use.
func openInside(f *testing.F, change func(*peer.Config)) *peer.Network {
	f.Helper()
	cfg := peer.Config{
		Node: "a-00000001", Epoch: 1, ClusterID: func() string { return cluster }, Address: "127.0.0.1:0",
		Resolve: newAddresses().resolve, Handler: &handler{}, Logger: slog.New(slog.DiscardHandler),
	}
	change(&cfg)
	n := peer.New(cfg)
	n.SetTimings(time.Hour, 0, 0) // a slow machine is none of the inputs
	if err := n.Open(); err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := n.Close(); err != nil {
			f.Error(err)
		}
	})
	return n
}

// settled waits until the network has let go of all connections.
func settled(t *testing.T, n *peer.Network) {
	t.Helper()
	eventually(t, func() error {
		if open := len(n.Connections()); open > 0 {
			return fmt.Errorf("%d connections are open", open)
		}
		return nil
	})
}

// FuzzCalls sends any bytes where calls are expected. Each whole frame gets one
// answer with its number, a bad length ends the connection, and memory is taken
// for what arrived.
func FuzzCalls(f *testing.F) {
	n := openInside(f, func(*peer.Config) {})
	call := func(seq uint64, method byte, body string) []byte {
		b := binary.BigEndian.AppendUint32(nil, uint32(13+len(body)))
		b = append(binary.BigEndian.AppendUint64(b, seq), method)
		return append(append(b, 0, 0, 0x27, 0x10), body...)
	}
	for method := range byte(8) {
		f.Add(call(1, method, ""))
		f.Add(append(call(1, method, "\x08\x07"), call(2, method, "\xff")...))
	}
	f.Add(append(call(1, 1, "\x0a\x03abc"), call(1, 1, "\x0a\x03abc")...)) // one number twice
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{0, 0, 0, 12, 1, 2, 3})
	f.Add(append(call(1, 3, ""), 0, 0x40, 0, 0x0d, 1, 2))
	f.Fuzz(func(t *testing.T, sent []byte) {
		want, broken := map[uint64]int{}, false
		frames := 0
		for rest := sent; len(rest) >= 17; frames++ {
			length := int(binary.BigEndian.Uint32(rest))
			if broken = length < 13 || length > 13+peer.MaxMessage; broken || len(rest) < 4+length {
				break
			}
			want[binary.BigEndian.Uint64(rest[4:])]++
			rest = rest[4+length:]
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		c := dialInside(t, n, peerpb.Kind_KIND_CALLS)
		var writing sync.WaitGroup
		writing.Go(func() { _, _ = c.Write(sent) }) // fails when the other side ends it
		for range frames {
			var header [17]byte
			_, err := io.ReadFull(c, header[:])
			if err == nil {
				_, err = io.CopyN(io.Discard, c, int64(binary.BigEndian.Uint32(header[:]))-13)
			}
			if broken && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)) {
				break // it may have ended before all was answered
			}
			seq := binary.BigEndian.Uint64(header[4:])
			if err != nil || want[seq] == 0 || header[12] > 1 {
				t.Fatalf("answer %x: %v", header, err)
			}
			want[seq]--
		}
		if broken {
			if n, err := io.Copy(io.Discard, c); err != nil || n > 0 {
				t.Fatalf("a bad length, then %d bytes, %v", n, err)
			}
		}
		writing.Wait()
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		settled(t, n)
		runtime.ReadMemStats(&after)
		if taken := after.TotalAlloc - before.TotalAlloc; taken > 2<<20+1<<12*uint64(len(sent)) {
			t.Errorf("%d bytes of memory for %d", taken, len(sent))
		}
	})
}
