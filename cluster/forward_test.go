package cluster_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/lookupd/lookupd/fsm"
	"github.com/lookupd/lookupd/peer"
	"github.com/lookupd/lookupd/peer/peerpb"
	"github.com/lookupd/lookupd/registry"
)

// noHandler answers no call: it is of a network that only makes them.
type noHandler struct{ peer.Handler }

// TestForwardedBatches sends batches as a peer of the cluster would that is
// mistaken or worse.
func TestForwardedBatches(t *testing.T) {
	const self = registry.NodeID("stranger-00000009")
	peers := startCluster(t, 3)
	leader, followers := leaderOf(t, peers)
	addresses := map[registry.NodeID]string{}
	for _, p := range peers {
		addresses[p.ID()] = p.PeerAddr()
	}
	network := peer.New(peer.Config{
		Node: self, Epoch: 1, ClusterID: leader.ClusterID, Address: "127.0.0.1:0", Handler: noHandler{},
		Resolve: func(id registry.NodeID) (string, bool) { return addresses[id], true },
		Logger:  testLogger(t, "stranger"),
	})
	if err := network.Open(); err != nil {
		t.Fatal(err)
	}
	defer network.Close()
	encode := func(origin registry.NodeID, commands ...registry.Command) []byte {
		data, err := fsm.EncodeBatch(fsm.Batch{Origin: origin, Epoch: 1, Number: 1, Commands: commands})
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	create := registry.CreateTopic{Topic: "forwarded"}
	register := registry.Register{
		Session: registry.SessionID{Node: self, Epoch: 1, Seq: 1}, Producer: "h:4150", Topic: "registered",
	}
	foreign := register
	foreign.Session.Node = leader.ID()
	for _, test := range []struct {
		name  string
		to    *testPeer
		batch []byte
		code  peerpb.Code
		// results of an applied batch
		results []byte
	}{
		{"H16 at a follower", followers[0], encode(self, create), peerpb.Code_CODE_NOT_LEADER, nil},
		{"R12 in another's name", leader, encode(followers[0].ID(), create), peerpb.Code_CODE_REFUSED, nil},
		{"R9 command of a later version", leader, slices.Concat(encode(self, create), []byte{0x22, 4, 15<<3 | 2, 2, 0x78, 1}), peerpb.Code_CODE_REFUSED, nil},
		{"R4 garbage", leader, []byte("\xff\xff\xff"), peerpb.Code_CODE_REFUSED, nil},
		{"R12 unknown and foreign session", leader, encode(self, register, foreign), peerpb.Code_CODE_OK, []byte{
			byte(registry.ResultSessionNotOpen), byte(registry.ResultForeignSession),
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			answer, err := network.Forward(ctx, test.to.ID(), &peerpb.ForwardRequest{Batch: test.batch})
			if err != nil || answer.GetCode() != test.code || answer.GetLeaderId() != string(leader.ID()) || !slices.Equal(answer.GetResults(), test.results) {
				t.Errorf("got %v, %v", answer, err)
			}
		})
	}
	for _, p := range peers {
		if topics, _ := p.topics(); len(topics) != 0 {
			t.Errorf("%s has %v", p.cfg.Name, topics)
		}
	}
}
