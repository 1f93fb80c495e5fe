package fault

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/lookupd/lookupd/supervisor"
)

// topics makes topics, each of its own name, through all peers, and keeps those
// whose making was acknowledged.
type topics struct {
	addresses []string // of the peers' HTTP ports
	cancel    context.CancelFunc
	wait      sync.WaitGroup

	mu   sync.Mutex
	made []string
}

// topicPause is what a maker waits after each topic.
const topicPause = 10 * time.Millisecond

func startTopics(addresses []string) *topics {
	ctx, cancel := context.WithCancel(context.Background())
	s := &topics{addresses: addresses, cancel: cancel}
	for i, address := range addresses {
		s.wait.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				name := fmt.Sprintf("made-%d-%d", i, n)
				if post(ctx, "http://"+address+"/topic/create?topic="+name) {
					s.mu.Lock()
					s.made = append(s.made, name)
					s.mu.Unlock()
				}
				_ = hold(ctx, topicPause)
			}
		})
	}
	return s
}

// post reports whether the answer was 200.
func post(ctx context.Context, url string) bool {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, nil)
	if err != nil {
		return false
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode == http.StatusOK
}

// stop ends the traffic. It may be called again.
func (s *topics) stop() {
	s.cancel()
	s.wait.Wait()
}

// check ends the traffic and looks for all acknowledged topics at every peer,
// whose answers are linearizable. It returns their number.
func (s *topics) check(ctx context.Context) (int, error) {
	s.stop()
	for _, address := range s.addresses {
		var answer struct {
			Topics []string `json:"topics"`
		}
		if err := getJSON(ctx, address, "/topics", &answer); err != nil {
			return 0, err
		}
		there := map[string]bool{}
		for _, name := range answer.Topics {
			there[name] = true
		}
		for _, name := range s.made {
			if !there[name] {
				return 0, fmt.Errorf("%w: topic %s was acknowledged and is not at %s", ErrViolation, name, address)
			}
		}
	}
	if len(s.made) == 0 {
		return 0, fmt.Errorf("%w: no topic was acknowledged", ErrNoEvidence)
	}
	return len(s.made), nil
}

// getJSON decodes the answer of a path at an address, which must be 200.
func getJSON(ctx context.Context, address, path string, into any) error {
	code, body, err := supervisor.Get(ctx, "http://"+address+path)
	if err != nil {
		return err
	}
	if code != http.StatusOK {
		return fmt.Errorf("GET %s%s: status %d: %.200s", address, path, code, body)
	}
	return json.Unmarshal(body, into)
}
