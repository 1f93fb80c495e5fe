package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"testing"

	"github.com/lookupd/lookupd/supervisor"
)

// The recorded exchanges have no topics and tombstones of /nodes, because their
// lists are cut to items with the producer's name.

// topicFlags returns the topics of one producer in /nodes with their tombstones.
func topicFlags(ctx context.Context, p *supervisor.Peer, host string) (map[string]bool, error) {
	status, body, err := supervisor.Get(ctx, p.URL("/nodes"))
	if err != nil || status != http.StatusOK {
		return nil, fmt.Errorf("%d %w", status, err)
	}
	// Pointers tell null from a value.
	var answer struct {
		Producers []*struct {
			BroadcastAddress string    `json:"broadcast_address"`
			Topics           []*string `json:"topics"`
			Tombstones       []*bool   `json:"tombstones"`
		} `json:"producers"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, err
	}
	for _, producer := range answer.Producers {
		if producer == nil || producer.Topics == nil || producer.Tombstones == nil {
			return nil, fmt.Errorf("null in %s", body)
		}
		if len(producer.Topics) != len(producer.Tombstones) {
			return nil, fmt.Errorf("%d topics and %d tombstones, which kills nsqadmin: %s", len(producer.Topics), len(producer.Tombstones), body)
		}
		if producer.BroadcastAddress != host {
			continue
		}
		flags := map[string]bool{}
		var order []string
		for i, topic := range producer.Topics {
			if topic == nil || producer.Tombstones[i] == nil {
				return nil, fmt.Errorf("null in %s", body)
			}
			flags[*topic] = *producer.Tombstones[i]
			order = append(order, *topic)
		}
		if !slices.IsSorted(order) {
			return nil, fmt.Errorf("topics are not sorted: %v", order)
		}
		return flags, nil
	}
	return nil, errors.New("no such producer")
}

func TestNodesListTopicsAndTombstones(t *testing.T) {
	w := newWorld(t)
	c := w.cluster(3)
	admin := w.nsqadmin(c.HTTPAddresses()...)
	one := fakeNSQD(t, c.Peers[0].TCPAddress(), "n1.example")
	two := fakeNSQD(t, c.Peers[1].TCPAddress(), "n2.example")
	idle := fakeNSQD(t, c.Peers[2].TCPAddress(), "n3.example")
	idle.mustCall(t, "PING\n")

	for _, topic := range []string{"b", "a", "c"} {
		one.mustCall(t, "REGISTER "+topic+"\n")
	}
	two.mustCall(t, "REGISTER b ch\n")

	// want is what every peer and nsqadmin must show, host by host.
	check := func(t *testing.T, want map[string]map[string]bool) {
		t.Helper()
		for _, p := range c.Peers {
			for host, flags := range want {
				got, err := topicFlags(within(t, patience), p, host)
				if err != nil || mustJSON(got) != mustJSON(flags) {
					t.Errorf("%s: %s has %v %v, want %v", p.Name(), host, got, err, flags)
				}
			}
		}
		answer := mustAskAdmin(t, http.MethodGet, admin+"/api/nodes", nil)
		if len(answer.Nodes) != len(want) {
			t.Fatalf("nsqadmin shows %d nodes, want %d", len(answer.Nodes), len(want))
		}
		for _, node := range answer.Nodes {
			got := map[string]bool{}
			for _, topic := range node.Topics {
				got[topic.Topic] = topic.Tombstoned
			}
			if flags := want[node.BroadcastAddress]; mustJSON(got) != mustJSON(flags) {
				t.Errorf("nsqadmin: %s has %v, want %v", node.BroadcastAddress, got, flags)
			}
		}
	}
	tombstone := func(topic, node string) {
		mustPost(t, c.Peers[2].URL("/topic/tombstone?topic="+topic+"&node="+url.QueryEscape(node)))
	}

	none := map[string]bool{}
	check(t, map[string]map[string]bool{
		"n1.example": {"a": false, "b": false, "c": false}, "n2.example": {"b": false}, "n3.example": none,
	})
	tombstone("b", "n1.example:4151")
	check(t, map[string]map[string]bool{
		"n1.example": {"a": false, "b": true, "c": false}, "n2.example": {"b": false}, "n3.example": none,
	})
	got, err := lookupTopic(within(t, patience), c.Peers[1], "b")
	if err != nil || len(got.Producers) != 1 || got.Producers[0].BroadcastAddress != "n2.example" {
		t.Errorf("lookup of b: %+v %v, want n2 alone", got, err)
	}
	for _, p := range got.Producers {
		if p.Topics != nil || p.Tombstones != nil {
			t.Errorf("lookup lists topics, which nsqadmin's decoder cannot take: %+v", p)
		}
	}
	one.mustCall(t, "UNREGISTER b\n")
	one.mustCall(t, "REGISTER b\n")
	check(t, map[string]map[string]bool{
		"n1.example": {"a": false, "b": false, "c": false}, "n2.example": {"b": false}, "n3.example": none,
	})
}

func TestTombstonesEnd(t *testing.T) {
	c := newWorld(t).cluster(3, "-tombstone-lifetime", "1s")
	conn := fakeNSQD(t, c.Peers[0].TCPAddress(), "n1.example")
	conn.mustCall(t, "REGISTER a\n")
	mustPost(t, c.Peers[1].URL("/topic/tombstone?topic=a&node=n1.example:4151"))
	shown := func(want int) func(context.Context) error {
		return func(ctx context.Context) error {
			got, err := lookupTopic(ctx, c.Peers[2], "a")
			if err == nil && len(got.Producers) != want {
				err = fmt.Errorf("%d producers, want %d", len(got.Producers), want)
			}
			return err
		}
	}
	if err := shown(0)(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	eventually(t, shown(1))
	for _, p := range c.Peers {
		if flags, err := topicFlags(within(t, patience), p, "n1.example"); err != nil || flags["a"] {
			t.Errorf("%s: %v %v, want no tombstone", p.Name(), flags, err)
		}
	}
}
