package disk

import (
	"fmt"
	"sync"
)

// outcome is what a client knows of a change that it sent.
type outcome uint8

const (
	unknown outcome = iota + 1 // no answer, or one that promises nothing
	acknowledged
	shownOnce // unknown, then shown by a linearizable lookup
	absent    // unknown, then seen not to have happened after its peer could not try any more
)

// topicBook holds one topic's changes. A topic belongs to one client.
type topicBook struct {
	name     string
	producer string // broadcast address of the V1 client, "" if the topic is HTTP's
	itself   outcome
	channels map[string]outcome
}

// book notes what clients were told. All methods may be called from any
// goroutine, but while clients write, only note is.
type book struct {
	mu     sync.Mutex
	topics map[string]*topicBook
	order  []*topicBook
}

func newBook() *book { return &book{topics: map[string]*topicBook{}} }

// note stores the outcome of the change that made topic, or its channel if that
// is not "".
func (b *book) note(topic, channel, producer string, o outcome) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.topics[topic]
	if t == nil {
		t = &topicBook{name: topic, producer: producer, channels: map[string]outcome{}}
		b.topics[topic] = t
		b.order = append(b.order, t)
	}
	if channel == "" {
		t.itself = o
	} else {
		t.channels[channel] = o
	}
}

// count returns how many changes have that outcome.
func (b *book) count(o outcome) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range b.order {
		if t.itself == o {
			n++
		}
		for _, c := range t.channels {
			if c == o {
				n++
			}
		}
	}
	return n
}

// compare returns what an answer lacks or has that it must not. Producers count
// while their connections, or the graces after them, last.
func (t *topicBook) compare(s shown, producers bool) (wrong []string) {
	note := func(what string, o outcome, there bool) {
		switch {
		case o == acknowledged && !there:
			wrong = append(wrong, fmt.Sprintf("%s of topic %s: acknowledged, and lost", what, t.name))
		case o == shownOnce && !there:
			wrong = append(wrong, fmt.Sprintf("%s of topic %s: shown by a linearizable lookup, and lost", what, t.name))
		case o == absent && there:
			wrong = append(wrong, fmt.Sprintf("%s of topic %s: was absent after it had been refused, and came back", what, t.name))
		}
	}
	exists := t.itself
	for name, o := range t.channels {
		note("channel "+name, o, s.channels[name])
		if o == acknowledged {
			exists = acknowledged // a channel brings its topic
		}
	}
	note("all", exists, s.exists)
	if producers && t.producer != "" {
		note("producer "+t.producer, exists, s.producers[t.producer])
	}
	return wrong
}

// settle decides what is unknown by an answer given when nobody tries it any
// more: it stays as it is now.
func (t *topicBook) settle(s shown) {
	decide := func(o outcome, there bool) outcome {
		switch {
		case o != unknown:
			return o
		case there:
			return shownOnce
		}
		return absent
	}
	t.itself = decide(t.itself, s.exists)
	for name, o := range t.channels {
		t.channels[name] = decide(o, s.channels[name])
	}
}
