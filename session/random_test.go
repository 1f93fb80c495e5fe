package session_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/session"
)

// nsqd is a producer that keeps its own list and tells it as nsqd does, to a
// peer that fails, lags, restarts and loses its cluster.
type nsqd struct {
	t       *testing.T
	f       *fake
	r       *rand.Rand
	m       *session.Manager
	epoch   uint64
	conn    *session.Session   // nil while it is away
	halfway []*session.Session // connections that it has given up, and the peer not yet
	have    map[name]bool
	gone    map[name]bool // deleted over HTTP since they were registered
	steps   []string
}

func (n *nsqd) step() {
	actions := []struct {
		weight int
		what   string
		do     func()
	}{
		{20, "create", n.create},
		{1, "create many", n.createMany},
		{10, "remove", n.remove},
		{10, "ping", n.ping},
		{5, "wait", func() { time.Sleep(time.Duration(n.r.IntN(20_000)) * time.Millisecond) }},
		{2, "silence", func() { time.Sleep(time.Minute) }},
		{4, "connect", n.connect},
		{3, "connection ends", n.disconnect},
		{3, "half-open connection ends", n.closeHalfway},
		{2, "peer restarts", n.restart},
		{4, "closed by the leader", func() { n.closeByLeader() }},
		{5, "deleted over HTTP", n.httpDelete},
		{4, "no quorum", func() { n.f.set(n.r.IntN(2) == 0, false) }},
		{8, "quorum", func() { n.f.set(true, true) }},
		{3, "sent or not", func() { n.f.be(func() { n.f.sent = !n.f.sent }) }},
		{3, "lag or not", func() { n.f.lag(n.r.IntN(2) == 0) }},
		{3, "snapshot", n.f.restore},
		{2, "answers stay out", func() { n.f.be(func() { n.f.mute = true }) }},
		{2, "delayed", n.f.delay},
		{4, "delivered", n.f.deliver},
		{2, "disk low or not", func() { n.f.be(func() { n.f.diskLow = !n.f.diskLow }) }},
		{2, "deaf or not", func() { n.f.be(func() { n.f.deaf = !n.f.deaf }) }},
	}
	total := 0
	for _, a := range actions {
		total += a.weight
	}
	pick := n.r.IntN(total)
	for _, a := range actions {
		if pick -= a.weight; pick < 0 {
			n.steps = append(n.steps, a.what)
			a.do()
			if n.r.IntN(3) > 0 {
				synctest.Wait()
			}
			return
		}
	}
}

// x and y are deleted over HTTP now and then, the others are not.
func (n *nsqd) randomName() name {
	topics := []string{"a", "b", "e#ephemeral", "x", "y"}
	channels := []string{"", "", "c", "d", "e#ephemeral"}
	return name{topics[n.r.IntN(len(topics))], channels[n.r.IntN(len(channels))]}
}

func (n *nsqd) create() {
	c := n.randomName()
	n.have[name{c.topic, ""}], n.have[c] = true, true
	if n.conn != nil {
		n.register(c)
	}
}

// createMany declares more of one topic than a proposal holds.
func (n *nsqd) createMany() {
	n.have[name{"b", ""}] = true
	for i := range cluster.MaxProposalCommands + 20 {
		c := name{"b", fmt.Sprintf("many%03d", i)}
		n.have[c] = true
		if n.conn != nil {
			n.register(c)
		}
	}
}

func (n *nsqd) register(c name) {
	n.steps = append(n.steps, fmt.Sprint("+", c))
	delete(n.gone, c)
	delete(n.gone, name{c.topic, ""})
	_ = n.conn.Register(c.topic, c.channel) // it stays declared
}

func (n *nsqd) remove() {
	c := n.randomName()
	if !n.have[c] {
		return
	}
	n.steps = append(n.steps, fmt.Sprint("-", c))
	for h := range n.have {
		if h.topic == c.topic && (c.channel == "" || h == c) {
			delete(n.have, h)
			delete(n.gone, h)
		}
	}
	if n.conn != nil {
		_ = n.conn.Unregister(c.topic, c.channel)
	}
}

func (n *nsqd) ping() {
	if n.conn != nil {
		n.conn.Ping()
	}
}

func (n *nsqd) connect() {
	if n.conn != nil {
		n.halfway = append(n.halfway, n.conn)
	}
	n.conn = openSession(n.t, n.m, "h")
	for h := range n.have {
		n.register(h)
	}
}

func (n *nsqd) disconnect() {
	if n.conn != nil {
		n.conn.Close()
		n.conn = nil
	}
}

func (n *nsqd) closeHalfway() {
	for _, s := range n.halfway {
		s.Close()
	}
	n.halfway = nil
}

func (n *nsqd) restart() {
	n.epoch++
	n.m.Close()
	n.m = startManager(n.t, session.Config{Epoch: n.epoch, InactiveTimeout: 20 * time.Second, Cluster: n.f, Feed: n.f})
	n.conn, n.halfway = nil, nil
}

func (n *nsqd) closeByLeader() {
	if _, open := n.f.session("h:4150"); open {
		closeIt(n.f, "h:4150")
	}
}

// httpDelete knows what must become of the name only if nothing is on its way.
func (n *nsqd) httpDelete() {
	topic := []string{"x", "y"}[n.r.IntN(2)]
	open, _ := n.f.session("h:4150")
	_, delayed := n.f.proposals()
	if n.conn == nil || delayed > 0 || n.m.Sessions()[0].Pending > 0 || n.m.Sessions()[0].ID != open.ID {
		return
	}
	n.steps = append(n.steps, topic)
	n.f.commit(registry.DeleteTopic{Topic: topic})
	for h := range n.have {
		if h.topic == topic {
			n.gone[h] = true
		}
	}
}

// settle lets all failures end and nsqd come back, if it is away.
func (n *nsqd) settle() {
	n.f.be(func() { n.f.sent, n.f.deaf, n.f.diskLow = false, false, false })
	n.f.lag(false)
	n.f.deliver()
	n.f.set(true, true)
	if n.conn == nil {
		n.connect()
	}
	n.closeHalfway()
	for range 3 {
		time.Sleep(15 * time.Second)
		n.ping()
	}
	synctest.Wait()
}

func (n *nsqd) check(when string) {
	held := map[name]bool{}
	for _, h := range n.f.held(self, "h:4150") {
		held[h] = true
		if !n.have[h] || n.gone[h] {
			n.t.Errorf("%s: %v is held: nsqd has it: %v, deleted: %v", when, h, n.have[h], n.gone[h])
		}
	}
	for h := range n.have {
		if !held[h] && h.topic != "x" && h.topic != "y" {
			n.t.Errorf("%s: nsqd has %v, and it is not held", when, h)
		}
	}
	if !n.f.shows("h:4150") {
		n.t.Errorf("%s: the producer does not show", when)
	}
}

func TestRandom(t *testing.T) {
	runs := 100
	if testing.Short() {
		runs = 10
	}
	for seed := range runs {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			run(t, func(t *testing.T, f *fake) {
				n := &nsqd{t: t, f: f, r: rand.New(rand.NewPCG(uint64(seed), 1)), have: map[name]bool{}, gone: map[name]bool{}}
				n.m = newManager(t, f, session.Limits{})
				n.restart()
				n.connect()
				for range 100 {
					n.step()
				}
				n.settle()
				n.check("settled")
				before, _ := f.proposals()
				for range 40 {
					time.Sleep(15 * time.Second)
					n.ping()
				}
				synctest.Wait()
				if after, _ := f.proposals(); after != before {
					t.Errorf("%d proposals without a cause", after-before)
				}
				n.closeByLeader()
				synctest.Wait()
				n.check("opened again")
				if t.Failed() {
					t.Logf("nsqd has %v\nsteps: %s\nlog: %s", maps.Collect(maps.All(n.have)), strings.Join(n.steps, ", "), words(f))
				}
			})
		})
	}
}
