package cluster

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/hashicorp/memberlist"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
)

const fewMembers = 8

// quietGossip is the part of gossip that memberlist calls, without memberlist.
func quietGossip(self member) *gossip {
	return &gossip{
		log: slog.New(slog.DiscardHandler), most: fewMembers, self: func() member { return self },
		changed: make(chan struct{}, 1), members: map[string]member{}, refused: map[string]bool{},
	}
}

// FuzzGossipMember tells a peer of a node with any name and metadata, as
// memberlist would for a packet from anybody. What is taken in must be a peer
// of the same cluster that can be dialled and named in a log, known under one
// name, and gone after it leaves.
func FuzzGossipMember(f *testing.F) {
	self := member{Format: gossipFormat, ClusterID: "cluster-1", ID: "a-00000001", Epoch: 3, Address: "10.0.0.1:4162"}
	other := member{Format: gossipFormat, ClusterID: "cluster-1", ID: "b-00000002", Epoch: 1, Address: "10.0.0.2:4162"}
	for _, change := range []func(*member){
		func(*member) {},
		func(m *member) { m.ClusterID = "" },
		func(m *member) { m.ClusterID = "cluster-2" },
		func(m *member) { *m = self },
		func(m *member) { m.ID = self.ID },
		func(m *member) { m.ID = "" },
		func(m *member) { m.ID = registry.NodeID(strings.Repeat("x", 400)) },
		func(m *member) { m.ID = "b\n-00000002" },
		func(m *member) { m.Address = "" },
		func(m *member) { m.Address = "b" },
		func(m *member) { m.Address = "b\x00:4162" },
		func(m *member) { m.Address = ":4162" },
		func(m *member) { m.Epoch = 1<<64 - 1 },
		func(m *member) { m.Format = 0 },
		func(m *member) { m.Expect = -1 },
	} {
		m := other
		change(&m)
		meta, err := json.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(memberName(m.ID, m.Epoch), meta)
	}
	f.Add("b-00000002.1", []byte(`{"v":1,"n":"b-00000002","e":1,"p":"b:1","V":2,"N":"c-00000003"}`))
	f.Add("b-00000002.1", []byte{0xff})
	f.Add(".0", []byte("null"))
	f.Add(".0", []byte("{}"))
	f.Add("b-00000002.1", []byte(nil))
	f.Fuzz(func(t *testing.T, name string, meta []byte) {
		g := quietGossip(self)
		node := &memberlist.Node{Name: name, Meta: meta, Addr: net.IPv4(192, 0, 2, 1), Port: 4163}
		alive, merge := g.NotifyAlive(node), g.NotifyMerge([]*memberlist.Node{node})
		if (alive == nil) != (merge == nil) {
			t.Fatalf("alive: %v, merge: %v", alive, merge)
		}
		g.NotifyJoin(node)
		g.NotifyUpdate(node)
		m, known := g.members[name]
		if known != (alive == nil) || len(g.members) > 1 {
			t.Fatalf("members %v after %v", g.members, alive)
		}
		if known {
			checkMember(t, g, name, m)
		}
		g.NotifyMsg(meta)
		g.MergeRemoteState(meta, true)
		g.NotifyLeave(node)
		if len(g.members) != 0 || len(g.alive()) != 1 {
			t.Fatalf("members %v, alive %v", g.members, g.alive())
		}
	})
}

func checkMember(t *testing.T, g *gossip, name string, m member) {
	t.Helper()
	host, _, err := splitHostPort(m.Address)
	if err != nil || host == "" {
		t.Errorf("address %q: %v", m.Address, err)
	}
	if !store.ValidNodeID(m.ID) || name != memberName(m.ID, m.Epoch) {
		t.Errorf("name %q, id %q", name, m.ID)
	}
	if m.ClusterID != "" && m.ClusterID != g.self().ClusterID {
		t.Errorf("cluster %q", m.ClusterID)
	}
	if found, ok := g.find(m.ID); !ok || found != m {
		t.Errorf("found %v, %v", found, ok)
	}
	// What it tells, told by itself, is the same again and fits in a packet.
	again := quietGossip(m).NodeMeta(memberlist.MetaMaxSize)
	parsed, err := g.parse(&memberlist.Node{Name: name, Meta: again, Addr: net.IPv4(192, 0, 2, 1), Port: 4163})
	if err != nil || parsed != m {
		t.Errorf("%+v is told as %q, which is %+v, %v", m, again, parsed, err)
	}
	if self := g.alive()[0]; m.ID == g.self().ID && (self != g.self() || len(g.alive()) != 1) {
		t.Errorf("%v goes for this peer", self)
	}
}

// TestMembersAreBounded: whoever can send gossip cannot fill the memory.
func TestMembersAreBounded(t *testing.T) {
	self := member{ClusterID: "cluster-1", ID: "a-00000001", Address: "10.0.0.1:4162"}
	g := quietGossip(self)
	for i := range 1000 {
		m := member{ClusterID: "cluster-1", ID: registry.NodeID(fmt.Sprintf("b-%08x", i)), Address: "10.0.0.2:4162"}
		meta, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		node := &memberlist.Node{Name: memberName(m.ID, m.Epoch), Meta: meta, Addr: net.IPv4(192, 0, 2, 1), Port: 4163}
		if g.NotifyAlive(node) == nil {
			g.NotifyJoin(node)
		}
		foreign := &memberlist.Node{Name: fmt.Sprint("x", i), Addr: net.IPv4(192, 0, 2, 1), Port: 4163}
		if g.NotifyAlive(foreign) == nil {
			t.Fatal("a foreign member is welcome")
		}
	}
	if len(g.members) != fewMembers || len(g.refused) > fewMembers {
		t.Fatalf("%d members, %d refused", len(g.members), len(g.refused))
	}
}

// TestGossipRaisesNoEpoch: a handshake below the epoch that is on disk is
// refused for ever, so what anybody can send must not get there.
func TestGossipRaisesNoEpoch(t *testing.T) {
	dir, err := store.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	book := openAddressBook(dir, slog.New(slog.DiscardHandler))
	book.sawEpoch("b-00000002", 4)
	book.learn([]member{{ID: "b-00000002", Epoch: 1<<64 - 1, Address: "b:4162"}}, nil)
	select {
	case <-book.changed:
	default:
		t.Error("the new epoch waits for another change to be saved")
	}
	again := openAddressBook(dir, slog.New(slog.DiscardHandler))
	if epoch := again.epochs()["b-00000002"]; epoch != 4 {
		t.Errorf("epoch %d", epoch)
	}
	if address, ok := again.find("b-00000002"); !ok || address.Peer != "b:4162" {
		t.Errorf("address %v, %v", address, ok)
	}
}
