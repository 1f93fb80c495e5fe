package cluster_test

import (
	"bytes"
	"compress/lzw"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
)

// memberlist's message types.
const (
	aliveMsg    = 4
	pushPullMsg = 6
	compoundMsg = 7
	userMsg     = 8
	compressMsg = 9
)

// pack writes a MessagePack map of names and values, as memberlist's messages are.
func pack(kind byte, pairs ...any) []byte {
	return append([]byte{kind}, packMap(pairs...)...)
}

func packMap(pairs ...any) []byte {
	b := []byte{0x80 | byte(len(pairs)/2)}
	for _, v := range pairs {
		switch v := v.(type) {
		case string:
			b = append(binary.BigEndian.AppendUint32(append(b, 0xdb), uint32(len(v))), v...)
		case []byte:
			b = append(binary.BigEndian.AppendUint32(append(b, 0xc6), uint32(len(v))), v...)
		case int:
			b = binary.BigEndian.AppendUint64(append(b, 0xd3), uint64(v))
		case bool:
			b = append(b, map[bool]byte{false: 0xc2, true: 0xc3}[v])
		}
	}
	return b
}

func compressed(message []byte) []byte {
	var b bytes.Buffer
	w := lzw.NewWriter(&b, lzw.LSB, 8)
	_, _ = w.Write(message) // into memory
	_ = w.Close()
	return pack(compressMsg, "Algo", 0, "Buf", b.Bytes())
}

// nested puts a compound message of one into another, again and again.
func nested(depth int) []byte {
	inner := []byte{compoundMsg, 0}
	for range depth {
		outer := binary.BigEndian.AppendUint16([]byte{compoundMsg, 1}, uint16(len(inner)))
		inner = append(outer, inner...)
	}
	return inner
}

var version = []byte{1, 5, 2, 0, 0, 0} // of memberlist's protocol, as a proper member has it

// alive is the message that a member is there.
func alive(name, meta string, port int, vsn []byte) []byte {
	return pack(aliveMsg, "Incarnation", 1000, "Node", name, "Addr", []byte{127, 0, 0, 1}, "Port", port, "Meta", []byte(meta), "Vsn", vsn)
}

// meta is what a peer without a cluster tells of itself.
func meta(id string, expect int) string {
	return fmt.Sprintf(`{"v":1,"n":%q,"e":1,"p":"127.0.0.1:9","x":%d}`, id, expect)
}

// sendUDP sends datagrams to a peer's gossip port.
func sendUDP(t *testing.T, p *testPeer, messages ...[]byte) {
	t.Helper()
	c, err := net.Dial("udp", p.GossipAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, m := range messages {
		_, _ = c.Write(m) // what the kernel drops does no harm either
	}
}

// sendTCP sends to a peer's gossip port until the peer closes.
func sendTCP(t *testing.T, p *testPeer, message []byte) {
	t.Helper()
	c, err := net.Dial("tcp", p.GossipAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	_, _ = c.Write(message) // the peer may have closed already
	_, err = io.Copy(io.Discard, c)
	var netErr net.Error
	if errors.As(err, &netErr) && netErr.Timeout() {
		t.Error("the connection stays open")
	}
}

// TestBadGossip: nothing that arrives on the gossip port stops a peer or takes
// memory for what was only announced.
func TestBadGossip(t *testing.T) {
	var log lockedBuffer
	p := startPeer(t, "a", func(c *cluster.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	p.waitReady()
	random := rand.NewChaCha8([32]byte{})
	garbage := func(size int) []byte {
		b := make([]byte, size)
		_, _ = random.Read(b) // never fails
		return b
	}
	tcp := func(m []byte) func(*testing.T) { return func(t *testing.T) { sendTCP(t, p, m) } }
	udp := func(m ...[]byte) func(*testing.T) { return func(t *testing.T) { sendUDP(t, p, m...) } }
	strangers := [][]byte{
		alive("\x1b[31mname\n", "\x1b[31m<script>\n", 9, version),
		alive("y-00000001.1", `{"v":1,"c":"other","n":"y-00000001","e":1,"p":"127.0.0.1:9"}`, 9, version),
		alive("z-00000001.1", meta("y-00000001", 0), 9, version),
	}
	bomb := compressed(append([]byte{pushPullMsg}, make([]byte, 50<<20)...))
	for name, send := range map[string]func(*testing.T){
		"G3 -1 nodes":                 tcp(pack(pushPullMsg, "Nodes", -1, "UserStateLen", 0, "Join", true)),
		"G3 2^31 nodes":               tcp(pack(pushPullMsg, "Nodes", 1<<31, "UserStateLen", 0, "Join", true)),
		"G3 state of -1":              tcp(pack(pushPullMsg, "Nodes", 0, "UserStateLen", -1, "Join", true)),
		"G3 state above 20 MB":        tcp(pack(pushPullMsg, "Nodes", 0, "UserStateLen", 20<<20+1, "Join", true)),
		"G3 message of -1":            tcp(pack(userMsg, "UserMsgLen", -1)),
		"G3 message of 2^40":          tcp(pack(userMsg, "UserMsgLen", 1<<40)),
		"G3 half a header, silence":   tcp(pack(pushPullMsg, "Nodes", 1)[:5]),
		"G4 LZW bomb":                 tcp(bomb),
		"G4 LZW bomb in a datagram":   udp(compressed(make([]byte, 10<<20))),
		"G4 empty compression":        tcp(compressed(nil)),
		"G4 empty, in a datagram":     udp(compressed(nil)),
		"G4 nested compression":       udp(compressed(compressed(compressed(pack(pushPullMsg, "Nodes", 1))))),
		"G4 nested compression, TCP":  tcp(compressed(compressed(compressed(pack(pushPullMsg, "Nodes", 1))))),
		"G4 unknown compression":      udp(pack(compressMsg, "Algo", 9, "Buf", []byte("x"))),
		"G4 cut compounds":            udp([]byte{compoundMsg}, []byte{compoundMsg, 255}, []byte{compoundMsg, 3, 0, 9, 0, 9, 0, 9, 1}),
		"G4 nested compounds":         udp(nested(10_000)),
		"G5 Vsn of 3 bytes":           udp(alive("x-00000001.1", meta("x-00000001", 0), 9, []byte{1, 5, 2})),
		"G5 no Vsn":                   udp(alive("x-00000001.1", meta("x-00000001", 0), 9, nil)),
		"G5 Vsn of 3 bytes in a push": tcp(append(pack(pushPullMsg, "Nodes", 1, "UserStateLen", 0, "Join", true), packMap("Name", "x-00000001.1", "Addr", []byte{127, 0, 0, 1}, "Port", 9, "Meta", []byte(meta("x-00000001", 0)), "Incarnation", 1, "State", 0, "Vsn", []byte{1, 5, 2})...)),
		"G7 0 bytes":                  udp(nil, []byte{}),
		"G7 65 KB":                    udp(garbage(65_507)),
		"G8 metadata not ours":        udp(strangers[0]),
		"G8 another cluster's":        udp(strangers[1]),
		"G8 under another name":       udp(strangers[2]),
	} {
		t.Run(name, func(t *testing.T) {
			most := uint64(64 << 20)
			if strings.Contains(name, "bomb") {
				// memberlist inflates up to 40 MiB, in steps whose garbage counts
				// too; that it stops there shows in the log.
				most *= 6
			}
			runtime.GC()
			before, peak := heap(), make(chan uint64)
			done := make(chan struct{})
			go func() {
				var top uint64
				for tick := time.NewTicker(time.Millisecond); ; <-tick.C {
					top = max(top, heap())
					select {
					case <-done:
						peak <- top
						return
					default:
					}
				}
			}()
			send(t)
			p.topics()
			close(done)
			if top := <-peak; top > before+most {
				t.Errorf("the heap grew from %d to %d bytes", before, top)
			}
		})
	}
	eventually(t, time.Minute, "refusals are noted", func() error {
		// Again: the kernel may have dropped the first datagrams, and the limit on
		// log lines the first refusals.
		sendUDP(t, p, strangers...)
		for _, want := range []string{`\\x1b[31mname\\n`, "belongs to cluster other", "under another name"} {
			if !strings.Contains(log.String(), want) {
				return fmt.Errorf("no %s in the log", want)
			}
		}
		if want := "decompressed message is larger than limit"; !strings.Contains(log.String(), want) {
			sendTCP(t, p, bomb)
			return fmt.Errorf("no %s in the log", want)
		}
		return nil
	})
	if strings.Contains(log.String(), "\x1b") {
		t.Error("control characters in the log")
	}
	if s := p.status(); len(s.Peers) != 1 || s.State != cluster.StateHealthy {
		t.Errorf("%s: %d peers", s.Sentence, len(s.Peers))
	}
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestGossipOfManyMembers: however many are told of, few are believed.
func TestGossipOfManyMembers(t *testing.T) {
	t.Run("G6 10,000 members", func(t *testing.T) {
		const expect = 9
		p := startPeer(t, "a", func(c *cluster.Config) { c.BootstrapExpect = expect })
		for first := 0; first < 10_000; first += 100 {
			var messages [][]byte
			for i := range 100 {
				id := fmt.Sprintf("m%d-00000001", first+i)
				messages = append(messages, alive(id+".1", meta(id, expect), 9, version))
			}
			sendUDP(t, p, messages...)
		}
		eventually(t, 20*time.Second, "members are seen", func() error {
			if s := p.status(); !strings.Contains(s.Sentence, fmt.Sprintf("have 64 of %d peers", expect)) {
				return errors.New(s.Sentence)
			}
			return nil
		})
	})
}

// TestGossipCannotHurtRaft: whatever gossip says or costs, the cluster serves.
func TestGossipCannotHurtRaft(t *testing.T) {
	peers := startCluster(t, 3)
	serves := func(t *testing.T, topic string) {
		t.Helper()
		eventually(t, time.Minute, "all serve", func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if _, _, err := peers[0].Propose(ctx, registry.CreateTopic{Topic: topic}); err != nil {
				return err
			}
			for _, p := range peers {
				var topics []string
				_, err := p.Read(ctx, cluster.Linearizable, func(v *store.View) error {
					topics = v.Topics()
					return nil
				})
				if err != nil || !slices.Contains(topics, topic) {
					return fmt.Errorf("%s has %v, %v", p.cfg.Name, topics, err)
				}
			}
			return nil
		})
	}
	t.Run("G6 our names from elsewhere", func(t *testing.T) {
		for _, victim := range peers {
			id := string(victim.ID())
			name := fmt.Sprintf("%s.%d", id, victim.Epoch())
			told := fmt.Sprintf(`{"v":1,"c":%q,"n":%q,"e":%d,"p":"127.0.0.1:9"}`, victim.ClusterID(), id, victim.Epoch())
			for _, p := range peers {
				sendUDP(t, p, alive(name, told, 9, version))
			}
		}
		serves(t, "forged")
	})
	t.Run("G7 a flood of garbage", func(t *testing.T) {
		stop, flooded := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(flooded)
			c, err := net.Dial("udp", peers[0].GossipAddr())
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			random := rand.NewChaCha8([32]byte{1})
			packet := make([]byte, 600)
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-stop:
					return
				case <-tick.C:
				}
				for range 50 { // a millisecond
					_, _ = random.Read(packet) // never fails
					_, _ = c.Write(packet[:1+int(packet[0])*2])
				}
			}
		}()
		for i := range 10 {
			serves(t, fmt.Sprint("flood", i))
		}
		close(stop)
		<-flooded
		serves(t, "after")
	})
}
