package wire_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/rpc"
	"runtime"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/lookupd/lookupd/peer/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func pipe(t *testing.T) (*wire.ClientCodec, net.Conn) {
	t.Helper()
	here, there := net.Pipe()
	c := wire.NewClientCodec(here)
	t.Cleanup(func() {
		_ = c.Close()
		_ = there.Close()
		c.Wait()
	})
	return c, there
}

func write(c *wire.ClientCodec, seq uint64, timeout time.Duration, body []byte) error {
	return c.WriteRequest(&rpc.Request{Seq: seq}, &wire.Call{Method: 3, Timeout: timeout, Message: wrapperspb.Bytes(body)})
}

func TestFrame(t *testing.T) {
	c, there := pipe(t)
	if err := write(c, 1<<40, 1500*time.Microsecond, []byte("body")); err != nil {
		t.Fatal(err)
	}
	seq, code, timeout, body, err := wire.ReadFrame(there)
	if err != nil || seq != 1<<40 || code != 3 || timeout != 2*time.Millisecond || !bytes.Contains(body, []byte("body")) {
		t.Fatalf("got %d, %d, %v, %q, %v", seq, code, timeout, body, err)
	}
}

// TestPeerThatDoesNotRead: writing never blocks, and what waits is bounded.
func TestPeerThatDoesNotRead(t *testing.T) {
	c, _ := pipe(t)
	body := make([]byte, wire.MaxMessage/2)
	for sent := 0; ; sent += len(body) {
		err := write(c, 1, 0, body)
		if errors.Is(err, wire.ErrBacklog) {
			return
		}
		if err != nil || sent > 2*wire.MaxBacklog {
			t.Fatalf("%d bytes are queued, %v", sent, err)
		}
	}
}

// TestOverdue: a call is overdue from its deadline to its answer, and one that
// was not sent never is.
func TestOverdue(t *testing.T) {
	c, there := pipe(t)
	if err := write(c, 1, time.Hour, make([]byte, wire.MaxMessage+1)); !errors.Is(err, wire.ErrTooLarge) {
		t.Fatalf("got %v", err)
	}
	later := time.Now().Add(2 * time.Hour)
	if c.Overdue(later) {
		t.Fatal("was not sent")
	}
	if err := write(c, 2, time.Hour, nil); err != nil {
		t.Fatal(err)
	}
	if c.Overdue(time.Now()) || !c.Overdue(later) {
		t.Fatal("is overdue before or not overdue after its deadline")
	}
	if _, _, _, _, err := wire.ReadFrame(there); err != nil {
		t.Fatal(err)
	}
	answer := binary.BigEndian.AppendUint32(nil, 13)
	answer = append(binary.BigEndian.AppendUint64(answer, 2), 0, 0, 0, 0, 0)
	go func() { _, _ = there.Write(answer) }() // the read below tells
	if err := c.ReadResponseHeader(&rpc.Response{}); err != nil || c.Overdue(later) {
		t.Fatalf("answered, but overdue, or %v", err)
	}
}

func TestTooLargeIsNotSent(t *testing.T) {
	c, there := pipe(t)
	if err := write(c, 1, 0, make([]byte, wire.MaxMessage+1)); !errors.Is(err, wire.ErrTooLarge) {
		t.Fatalf("got %v", err)
	}
	if err := write(c, 2, 0, nil); err != nil {
		t.Fatal(err)
	}
	if seq, _, _, _, err := wire.ReadFrame(there); err != nil || seq != 2 {
		t.Fatalf("got %d, %v", seq, err)
	}
}

// TestUnreadableResponse: net/rpc stops to read then, so the stream must close.
func TestUnreadableResponse(t *testing.T) {
	c, there := pipe(t)
	client := rpc.NewClientWithCodec(c)
	call := client.Go(wire.ServiceMethod, &wire.Call{Message: wrapperspb.Bytes(nil)},
		&wire.Reply{Message: &wrapperspb.BytesValue{}}, make(chan *rpc.Call, 1))
	seq, _, _, _, err := wire.ReadFrame(there)
	if err != nil {
		t.Fatal(err)
	}
	response := binary.BigEndian.AppendUint32(nil, 13+1)
	response = append(binary.BigEndian.AppendUint64(response, seq), 0, 0, 0, 0, 0, 0xff)
	if _, err := there.Write(response); err != nil {
		t.Fatal(err)
	}
	if <-call.Done; call.Error == nil {
		t.Fatal("no error")
	}
	<-c.Closed()
}

func TestMemoryGrowsWithBytesReceived(t *testing.T) {
	t.Run("R4 lengths take no memory", func(t *testing.T) {
		head := binary.BigEndian.AppendUint32(nil, wire.MaxMessage+13)
		head = append(head, make([]byte, 13+1000)...)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		const frames = 100
		for range frames {
			if _, _, _, _, err := wire.ReadFrame(bytes.NewReader(head)); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("got %v", err)
			}
		}
		runtime.ReadMemStats(&after)
		if each := (after.TotalAlloc - before.TotalAlloc) / frames; each > 128<<10 {
			t.Fatalf("%d bytes for 1,000 received", each)
		}
	})
}

// FuzzReadFrame: a frame is read whole or not at all, nothing of what follows it
// is taken, and memory is taken for what arrived, whatever the length says.
func FuzzReadFrame(f *testing.F) {
	good := []byte{0, 0, 0, 15, 0, 0, 0, 0, 0, 0, 0, 1, 3, 0, 0, 0, 9, 'a', 'b', 'c'}
	for _, length := range []uint32{0, 12, 13, 14, 15, 16, 17, 64<<10 + 14, wire.MaxMessage + 13, wire.MaxMessage + 14, 1<<31 - 1, 1 << 31, 1<<32 - 1} {
		f.Add(append(binary.BigEndian.AppendUint32(nil, length), good[4:]...))
	}
	f.Add(good[:16])
	f.Add(good[:3])
	f.Add(append(binary.BigEndian.AppendUint32(nil, 70_013), make([]byte, 70_013)...))
	f.Fuzz(func(t *testing.T, sent []byte) {
		r := bytes.NewReader(sent)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		seq, code, timeout, body, err := wire.ReadFrame(r)
		runtime.ReadMemStats(&after)
		if taken := after.TotalAlloc - before.TotalAlloc; taken > 128<<10+4*uint64(len(sent)) {
			t.Fatalf("%d bytes of memory for %d", taken, len(sent))
		}
		if err != nil {
			return
		}
		again := binary.BigEndian.AppendUint32(nil, uint32(len(body)+13))
		again = append(binary.BigEndian.AppendUint64(again, seq), code)
		again = append(binary.BigEndian.AppendUint32(again, uint32(timeout/time.Millisecond)), body...)
		if read := sent[:len(sent)-r.Len()]; !bytes.Equal(read, again) {
			t.Fatalf("%x was read as %x", read, again)
		}
	})
}
