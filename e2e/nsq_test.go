package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/nsqio/go-nsq"

	"github.com/lookupd/lookupd/supervisor"
)

// adminAnswer is the part of nsqadmin's answers that the tests read.
type adminAnswer struct {
	Message string   `json:"message"`
	Topics  []string `json:"topics"`
	Nodes   []struct {
		BroadcastAddress string   `json:"broadcast_address"`
		TCPPort          int      `json:"tcp_port"`
		RemoteAddresses  []string `json:"remote_addresses"`
		OutOfDate        bool     `json:"out_of_date"`
		Topics           []struct {
			Topic      string `json:"topic"`
			Tombstoned bool   `json:"tombstoned"`
		} `json:"topics"`
	} `json:"nodes"`
}

// askAdmin sends a request to nsqadmin's HTTP API; an error of its own or a
// warning is an error.
func askAdmin(ctx context.Context, method, url string, body any) (adminAnswer, error) {
	var answer adminAnswer
	text := ""
	if body != nil {
		text = mustJSON(body)
	}
	status, got, err := try(ctx, method, url, "application/json", text)
	if err != nil {
		return answer, err
	}
	if status != http.StatusOK {
		return answer, fmt.Errorf("%s %s: %d %s", method, url, status, got)
	}
	if err := json.Unmarshal([]byte(got), &answer); err != nil {
		return answer, fmt.Errorf("%s %s: %w", method, url, err)
	}
	if answer.Message != "" {
		return answer, fmt.Errorf("%s %s: message %q", method, url, answer.Message)
	}
	return answer, nil
}

func mustAskAdmin(t *testing.T, method, url string, body any) adminAnswer {
	t.Helper()
	answer, err := askAdmin(within(t, 30*time.Second), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// consume starts a go-nsq consumer that knows the given HTTP addresses and
// sends the bodies it receives.
func consume(t *testing.T, topic, channel string, lookupds ...string) <-chan string {
	t.Helper()
	return consumeBy(t, topic, channel, nsq.NewConfig(), nil, lookupds...)
}

// consumeBy is consume with settings, and a client for lookups unless that is nil.
func consumeBy(t *testing.T, topic, channel string, config *nsq.Config, client *http.Client, lookupds ...string) <-chan string {
	t.Helper()
	config.LookupdPollInterval = 50 * time.Millisecond
	config.LookupdPollJitter = 0
	consumer, err := nsq.NewConsumer(topic, channel, config)
	if err != nil {
		t.Fatal(err)
	}
	consumer.SetLogger(silent{}, nsq.LogLevelError)
	if client != nil {
		consumer.SetLookupdHttpClient(client)
	}
	bodies := make(chan string, 100)
	consumer.AddHandler(nsq.HandlerFunc(func(m *nsq.Message) error {
		bodies <- string(m.Body)
		return nil
	}))
	if err := consumer.ConnectToNSQLookupds(lookupds); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		consumer.Stop()
		<-consumer.StopChan
	})
	return bodies
}

// receive waits for one message.
func receive(t *testing.T, bodies <-chan string, want string) {
	t.Helper()
	select {
	case got := <-bodies:
		if got != want {
			t.Fatalf("received %q, want %q", got, want)
		}
	case <-time.After(patience):
		t.Fatalf("no message, want %q", want)
	}
}

func TestNSQSeesThreePeersAsOne(t *testing.T) {
	w := newWorld(t)
	c := w.cluster(3)
	first, third := c.Peers[0], c.Peers[2]
	n := w.nsqd("nsqd", first.TCPAddress())

	const topic, channel = "orders", "billing"
	bodies := consume(t, topic, channel, third.HTTPAddress())
	n.publish(t, topic, "hello")
	receive(t, bodies, "hello")

	admin := w.nsqadmin(c.HTTPAddresses()...)
	t.Run("one node, one producer, no warning", func(t *testing.T) {
		for _, path := range []string{"/api/nodes", "/api/topics/" + topic} {
			answer := mustAskAdmin(t, http.MethodGet, admin+path, nil)
			if len(answer.Nodes) != 1 {
				t.Fatalf("%s: %d nodes, want 1: %s", path, len(answer.Nodes), mustJSON(answer))
			}
		}
		node := mustAskAdmin(t, http.MethodGet, admin+"/api/nodes", nil).Nodes[0]
		if node.TCPPort != n.ports.TCP || len(node.RemoteAddresses) != len(c.Peers) || node.OutOfDate {
			t.Errorf("node %s; want port %d, seen by all %d peers, not out of date", mustJSON(node), n.ports.TCP, len(c.Peers))
		}
	})
	t.Run("create", func(t *testing.T) {
		mustAskAdmin(t, http.MethodPost, admin+"/api/topics", map[string]string{"topic": "made", "channel": "c"})
		for _, p := range c.Peers {
			got, err := lookupTopic(within(t, patience), p, "made")
			if err != nil || !slices.Equal(got.Channels, []string{"c"}) {
				t.Errorf("%s: %v %v, want channel c", p.Name(), got, err)
			}
		}
		if answer := mustAskAdmin(t, http.MethodGet, admin+"/api/topics", nil); !slices.Equal(answer.Topics, []string{"made", topic}) {
			t.Errorf("topics %v", answer.Topics)
		}
	})
	t.Run("create a channel on a topic with a producer", func(t *testing.T) {
		mustAskAdmin(t, http.MethodPost, admin+"/api/topics", map[string]string{"topic": topic, "channel": "audit"})
		for _, p := range c.Peers {
			got, err := lookupTopic(within(t, patience), p, topic)
			if err != nil || !slices.Equal(got.Channels, []string{"audit", channel}) {
				t.Errorf("%s: %v %v, want channels audit and %s", p.Name(), got, err, channel)
			}
		}
	})
	t.Run("delete a channel", func(t *testing.T) {
		mustAskAdmin(t, http.MethodDelete, admin+"/api/topics/"+topic+"/audit", nil)
		for _, p := range c.Peers {
			got, err := lookupTopic(within(t, patience), p, topic)
			if err != nil || !slices.Equal(got.Channels, []string{channel}) {
				t.Errorf("%s: %v %v, want only channel %s", p.Name(), got, err, channel)
			}
		}
	})
	t.Run("tombstone", func(t *testing.T) {
		n.publish(t, "buried", "x")
		eventually(t, func(ctx context.Context) error { return hasProducer(ctx, third, "buried", n) })
		node := supervisor.Address(n.ports.HTTP)
		mustAskAdmin(t, http.MethodDelete, admin+"/api/nodes/"+node, map[string]string{"topic": "buried"})
		for _, p := range c.Peers {
			if got, err := lookupTopic(within(t, patience), p, "buried"); err != nil || len(got.Producers) != 0 {
				t.Errorf("%s: %v %v, want no producer", p.Name(), got, err)
			}
		}
	})
	t.Run("delete a topic", func(t *testing.T) {
		n.publish(t, "doomed", "x")
		eventually(t, func(ctx context.Context) error { return hasProducer(ctx, third, "doomed", n) })
		mustAskAdmin(t, http.MethodDelete, admin+"/api/topics/doomed", nil)
		for _, p := range c.Peers {
			got, err := topics(within(t, patience), p)
			if err != nil || slices.Contains(got, "doomed") {
				t.Errorf("%s: topics %v %v, want no doomed", p.Name(), got, err)
			}
		}
	})
}

func TestNSQDWithThreeAddressesIsOneProducer(t *testing.T) {
	w := newWorld(t)
	c := w.cluster(3)
	n := w.nsqd("nsqd", c.TCPAddresses()...)
	n.publish(t, "orders", "x")
	for _, p := range c.Peers {
		eventually(t, func(ctx context.Context) error { return hasProducer(ctx, p, "orders", n) })
	}
	// All three connections stand: each peer has a session.
	eventually(t, func(ctx context.Context) error { return sessionsOnAll(ctx, c.Peers[0], len(c.Peers)) })
	for _, p := range c.Peers {
		all, err := nodes(within(t, patience), p)
		if err != nil || len(all) != 1 {
			t.Fatalf("%s: nodes %+v %v, want one", p.Name(), all, err)
		}
		if err := hasProducer(within(t, patience), p, "orders", n); err != nil {
			t.Error(err)
		}
	}
	// Its end is one end: the producer goes although each peer hears of it alone.
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, func(ctx context.Context) error {
		all, err := nodes(ctx, c.Peers[1])
		if err == nil && len(all) != 0 {
			err = fmt.Errorf("nodes %+v after nsqd's end", all)
		}
		return err
	})
	got, err := lookupTopic(within(t, patience), c.Peers[2], "orders")
	if err != nil || len(got.Producers) != 0 {
		t.Errorf("lookup %+v %v, want the topic without producers", got, err)
	}
}

// sessionsOnAll returns nil when each of n peers has one session.
func sessionsOnAll(ctx context.Context, p *supervisor.Peer, n int) error {
	var s struct {
		Peers []struct {
			Name     string `json:"name"`
			Sessions int    `json:"sessions"`
		} `json:"peers"`
	}
	if err := p.GetJSON(ctx, "/v1/status", &s); err != nil {
		return err
	}
	if len(s.Peers) != n {
		return fmt.Errorf("%d peers, want %d", len(s.Peers), n)
	}
	var errs []error
	for _, peer := range s.Peers {
		if peer.Sessions != 1 {
			errs = append(errs, fmt.Errorf("%s has %d sessions, want 1", peer.Name, peer.Sessions))
		}
	}
	return errors.Join(errs...)
}
