package supervisor

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"
)

const (
	watchInterval = 20 * time.Millisecond // between two lookups at one peer
	maxExamples   = 5
)

// Watch asks peers for lookups again and again and judges every answer. What an
// answer shows must be in all answers to questions asked after it, at any peer:
// so nothing may vanish, and nobody may be behind. It suits times in which
// nothing is unregistered or deleted.
type Watch struct {
	cancel context.CancelFunc
	wait   sync.WaitGroup

	mu     sync.Mutex
	known  map[string]map[string]bool // topic -> what its answers have shown
	report WatchReport
}

// WatchReport counts what a Watch saw.
type WatchReport struct {
	Right    int
	Wrong    int      // answered 200 or 404, without something that was known
	Refused  int      // no answer, or an error
	Examples []string // of the wrong ones, the first few
}

// lookupAnswer is the part of /lookup that consumers use.
type lookupAnswer struct {
	Channels  []string `json:"channels"`
	Producers []struct {
		BroadcastAddress string `json:"broadcast_address"`
		TCPPort          int    `json:"tcp_port"`
	} `json:"producers"`
}

// shows returns the answer as a set of words.
func (a lookupAnswer) shows() map[string]bool {
	set := map[string]bool{"the topic": true}
	for _, c := range a.Channels {
		set["channel "+c] = true
	}
	for _, p := range a.Producers {
		set[fmt.Sprintf("producer %s:%d", p.BroadcastAddress, p.TCPPort)] = true
	}
	return set
}

// NewWatch learns the present state from the first peer and then asks all of
// them until Stop.
func NewWatch(ctx context.Context, peers []*Peer) (*Watch, error) {
	w := &Watch{known: map[string]map[string]bool{}}
	if len(peers) == 0 {
		return nil, ErrNotRunning
	}
	var topics struct {
		Topics []string `json:"topics"`
	}
	if err := peers[0].GetJSON(ctx, "/topics", &topics); err != nil {
		return nil, err
	}
	for _, topic := range topics.Topics {
		w.Add(topic)
		w.ask(ctx, peers[0], topic)
	}
	ctx, w.cancel = context.WithCancel(ctx)
	for _, peer := range peers {
		w.wait.Go(func() { w.run(ctx, peer) })
	}
	return w, nil
}

// Add makes the watch ask for a topic too.
func (w *Watch) Add(topic string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.known[topic] == nil {
		w.known[topic] = map[string]bool{}
	}
}

// Stop ends the watch and returns what it saw. It may be called again.
func (w *Watch) Stop() WatchReport {
	w.cancel()
	w.wait.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.report
}

func (w *Watch) run(ctx context.Context, peer *Peer) {
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	for round := 0; ; round++ {
		w.mu.Lock()
		topics := slices.Sorted(maps.Keys(w.known))
		w.mu.Unlock()
		if len(topics) > 0 {
			w.ask(ctx, peer, topics[round%len(topics)])
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// ask makes one lookup and counts it.
func (w *Watch) ask(ctx context.Context, peer *Peer, topic string) {
	w.mu.Lock()
	want := maps.Clone(w.known[topic])
	w.mu.Unlock()

	status, body, err := Get(ctx, peer.URL("/lookup?topic="+url.QueryEscape(topic)))
	if ctx.Err() != nil {
		return // cut off by Stop
	}
	var answer lookupAnswer
	shown := map[string]bool{}
	switch {
	case err != nil || status != http.StatusOK && status != http.StatusNotFound:
		w.count(func(r *WatchReport) { r.Refused++ })
		return
	case status == http.StatusOK:
		if err := json.Unmarshal(body, &answer); err != nil {
			w.wrong(peer, topic, err.Error())
			return
		}
		shown = answer.shows()
	}
	for word := range want {
		if !shown[word] {
			w.wrong(peer, topic, "lacks "+word)
			return
		}
	}
	w.count(func(r *WatchReport) { r.Right++ })
	w.mu.Lock()
	defer w.mu.Unlock()
	maps.Copy(w.known[topic], shown)
}

func (w *Watch) wrong(peer *Peer, topic, what string) {
	w.count(func(r *WatchReport) {
		r.Wrong++
		if len(r.Examples) < maxExamples {
			r.Examples = append(r.Examples, fmt.Sprintf("%s, topic %s: %s", peer.Name(), topic, what))
		}
	})
}

func (w *Watch) count(change func(*WatchReport)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(&w.report)
}
