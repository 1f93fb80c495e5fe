package check

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lookupd/lookupd/proof/history"
	"github.com/lookupd/lookupd/registry"
)

// Many sessions that come within one outage, of which only the log knows the
// order, must not make porcupine try all orders.
func TestManyUnknownChangesAreDecided(t *testing.T) {
	const sessions = 40
	h, l := story()
	for i := range sessions {
		info := registry.ProducerInfo{
			Hostname: fmt.Sprintf("u%d", i), BroadcastAddress: fmt.Sprintf("u%d", i%20), TCPPort: 1, HTTPPort: 2, Version: "1",
		}
		node := registry.NodeID(fmt.Sprintf("%c-00000000", 'b'+i/20))
		id := registry.SessionID{Node: node, Epoch: 1, Seq: uint64(i + 1)}
		number := len(h.Sessions) + 1
		h.Sessions = append(h.Sessions, &history.Session{Number: number, Producer: info.ID(), Hostname: info.Hostname, Peer: node.Name(), Identify: 13 * ms})
		h.Ops = append(h.Ops, &history.Op{
			Client: 20 + i, Kind: history.Register, Outcome: history.Unknown, Peer: node.Name(), Session: number, N: 1,
			Topic: "t", Call: 13 * ms, Return: history.Forever,
		})
		index := uint64(5 + 2*i)
		l.Hosts[id], l.Nodes[info.Hostname] = info.Hostname, node
		l.Commands = append(l.Commands,
			Command{Index: index, Term: 1, Origin: node, Command: registry.OpenSession{Session: id, Producer: info}},
			Command{Index: index + 1, Term: 1, Origin: node, Command: registry.Register{Session: id, Producer: info.ID(), Topic: "t"}})
		l.Last = index + 1
	}
	wrong := &history.Op{
		Client: 2, Kind: history.Lookup, Outcome: history.OK, Peer: "a", Topic: "t", Call: 14 * ms, Return: 15 * ms, Index: 4,
		Shown: registry.Topic{Channels: []string{"c", "d"}, Producers: h.Ops[2].Shown.Producers},
	}
	h.Ops = append(h.Ops, wrong)
	Witness(h, l)
	verdict, err := Porcupine(h, l, 20*time.Second, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if len(verdict.Violations) != 1 || !strings.Contains(verdict.Violations[0], "Illegal") {
		t.Errorf("an answer that no order explains: %q", verdict.Violations)
	}
	wrong.Shown.Channels = []string{"c"}
	if verdict, err = Porcupine(h, l, 20*time.Second, t.TempDir()); err != nil || len(verdict.Violations) > 0 {
		t.Errorf("%q %v", verdict.Violations, err)
	}
}
