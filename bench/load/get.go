package load

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/valyala/fasthttp"
)

const requestTimeout = 10 * time.Second

// getter is one HTTP connection.
type getter struct {
	job      *Get
	client   fasthttp.HostClient
	request  fasthttp.Request
	response fasthttp.Response
	topics   [][]byte
	random   *rand.Rand
	target   []byte
	contains []byte
}

func (g *Get) run() Result {
	topics := make([][]byte, g.Topics)
	for i := range topics {
		topics[i] = []byte(Topic(i))
	}
	getters := make([]*getter, g.Connections)
	for i := range getters {
		getters[i] = newGetter(g, i, topics)
		defer getters[i].client.CloseIdleConnections()
	}
	if !g.Once {
		return inWindow(len(getters), g.Window, func(worker int) error { return getters[worker].any() })
	}
	rounds := (len(topics) + len(getters) - 1) / len(getters)
	return counted(len(getters), rounds, func(worker, i int) error {
		return getters[worker].ask(topics[(i*len(getters)+worker)%len(topics)])
	})
}

func newGetter(job *Get, i int, topics [][]byte) *getter {
	address := job.Addresses[i%len(job.Addresses)]
	g := &getter{
		job: job, topics: topics, contains: []byte(job.Contains),
		random: rand.New(rand.NewPCG(uint64(i), uint64(len(topics)))),
		client: fasthttp.HostClient{
			Addr: address, MaxConns: 1, MaxIdemponentCallAttempts: 1, NoDefaultUserAgentHeader: true,
			ReadTimeout: requestTimeout, WriteTimeout: requestTimeout,
			DisableHeaderNamesNormalizing: true, DisablePathNormalizing: true,
		},
	}
	g.request.SetRequestURI(job.Path)
	g.request.Header.SetHost(address)
	return g
}

// any asks for a topic drawn at random, or for the path as it is.
func (g *getter) any() error {
	if len(g.topics) == 0 {
		return g.ask(nil)
	}
	return g.ask(g.topics[g.random.IntN(len(g.topics))])
}

func (g *getter) ask(topic []byte) error {
	g.target = append(append(g.target[:0], g.job.Path...), topic...)
	g.request.SetRequestURIBytes(g.target)
	if err := g.client.Do(&g.request, &g.response); err != nil {
		return err
	}
	body := g.response.Body()
	if status := g.response.StatusCode(); status != fasthttp.StatusOK {
		return fmt.Errorf("GET %s: status %d: %.100s", g.target, status, body)
	}
	if g.job.Want == 0 {
		return nil
	}
	if got := bytes.Count(body, g.contains); got != g.job.Want {
		return fmt.Errorf("GET %s: %q %d times, want %d, in %.300s", g.target, g.contains, got, g.job.Want, body)
	}
	return nil
}
