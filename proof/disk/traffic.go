package disk

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/lookupd/lookupd/supervisor"
)

const (
	// changesPerTopic bounds a topic, so that one lookup checks many changes and
	// no limit of lookupd is met.
	changesPerTopic = 100
	retryAfter      = 20 * time.Millisecond
)

// traffic is clients that make unique changes as fast as they are answered, at
// all peers, until stop. Their V1 connections stay open until hangUp.
type traffic struct {
	book *book
	web  *web

	stopping chan struct{}
	wait     sync.WaitGroup

	mu    sync.Mutex
	conns []*nsqd // open ones
}

// startTraffic starts clients per peer, of which one speaks HTTP and the others
// V1; prefix makes their names unique.
func startTraffic(peers []*supervisor.Peer, clients int, prefix string) *traffic {
	t := &traffic{book: newBook(), web: newWeb(), stopping: make(chan struct{})}
	for _, p := range peers {
		t.wait.Go(func() { t.overHTTP(p.HTTPAddress(), prefix+"-"+p.Name()+"-h") })
		for i := range clients - 1 {
			t.wait.Go(func() { t.overV1(p.TCPAddress(), fmt.Sprintf("%s-%s-%d", prefix, p.Name(), i)) })
		}
	}
	return t
}

// stop ends the writing and waits for the answers that are due.
func (t *traffic) stop() {
	close(t.stopping)
	t.wait.Wait()
}

// hangUp closes the V1 connections, after stop.
func (t *traffic) hangUp() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range t.conns {
		n.close()
	}
	t.conns = nil
	t.web.close()
}

// each calls change with new names, and notes the outcomes, until stop or
// change's error is one after which the client cannot go on.
func (t *traffic) each(name, producer string, next *int, change func(topic, channel string) error) {
	for {
		select {
		case <-t.stopping:
			return
		default:
		}
		topic, channel := fmt.Sprintf("%s-%d", name, *next/changesPerTopic), ""
		if n := *next % changesPerTopic; n > 0 {
			channel = fmt.Sprintf("c%d", n)
		}
		*next++
		err := change(topic, channel)
		if err == nil {
			t.book.note(topic, channel, producer, acknowledged)
			continue
		}
		t.book.note(topic, channel, producer, unknown)
		t.pause()
		if !errors.Is(err, errNotOK) {
			return
		}
	}
}

func (t *traffic) pause() {
	timer := time.NewTimer(retryAfter)
	defer timer.Stop()
	select {
	case <-t.stopping:
	case <-timer.C:
	}
}

func (t *traffic) stopped() bool {
	select {
	case <-t.stopping:
		return true
	default:
		return false
	}
}

func (t *traffic) overHTTP(address, name string) {
	for next := 0; !t.stopped(); {
		t.each(name, "", &next, func(topic, channel string) error {
			return t.web.create(context.Background(), address, topic, channel)
		})
	}
}

func (t *traffic) overV1(address, name string) {
	producer := name + ".example"
	for next := 0; !t.stopped(); {
		n, err := dialNSQD(context.Background(), address, producer)
		if err != nil {
			t.pause()
			continue
		}
		t.add(n)
		t.each(name, producer, &next, n.register)
	}
}

func (t *traffic) add(n *nsqd) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.conns = append(t.conns, n)
}
