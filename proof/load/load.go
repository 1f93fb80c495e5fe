// Package load is the clients of a round: nsqds that declare over V1 TCP, and
// consumers and operators over HTTP, on all peers. They behave like real ones
// (an answer is awaited for a second, a connection that failed is given up) and
// record every operation. What is right is package check's to say.
package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/lookupd/lookupd/proof/history"
)

// Peer is where one lookupd takes clients.
type Peer struct{ Name, TCP, HTTP string }

// Config is a round's load.
type Config struct {
	// Peers returns where the peers are now.
	Peers func() []Peer
	// Producers send V1 changes, Writers HTTP changes, Readers HTTP reads; each
	// is one goroutine with one operation under way.
	Producers, Writers, Readers int
	Topics                      int
	// Pause is about how long a client waits between two operations.
	Pause time.Duration
	// StalePercent of the reads ask for stale answers.
	StalePercent int
	Seed         uint64
}

// DefaultConfig returns the load of a mixed round.
func DefaultConfig() Config {
	return Config{Producers: 8, Writers: 3, Readers: 7, Topics: 40, Pause: 5 * time.Millisecond, StalePercent: 5}
}

// Load is running clients.
type Load struct {
	cfg   Config
	rec   *history.Recorder
	names names

	clients sync.WaitGroup

	stop     context.CancelFunc // ends all operations
	settling sync.WaitGroup
	frozen   context.Context // ends when the round does
	freeze   context.CancelFunc
	freezing sync.WaitGroup
	hangUp   context.Context // ends when connections are to be closed
	hang     context.CancelFunc
}

// Start begins the load; it goes on until Stop.
func Start(cfg Config, rec *history.Recorder) *Load {
	l := &Load{cfg: cfg, rec: rec, names: newNames(cfg.Topics)}
	ctx, stop := context.WithCancel(context.Background())
	l.stop = stop
	l.frozen, l.freeze = context.WithCancel(context.Background())
	l.hangUp, l.hang = context.WithCancel(context.Background())
	number := 0
	client := func() (int, *rand.Rand) {
		number++
		return number, rand.New(rand.NewPCG(cfg.Seed, uint64(number)))
	}
	for range cfg.Producers {
		n, r := client()
		p := &producer{load: l, client: n, rand: r}
		l.settling.Add(1)
		l.freezing.Add(1)
		l.clients.Go(func() { p.run(ctx) })
	}
	for i := range cfg.Writers + cfg.Readers {
		n, r := client()
		w := newWeb(l, n, r)
		do := w.read
		if i < cfg.Writers {
			do = w.write
		}
		l.settling.Add(1)
		l.clients.Go(func() {
			defer w.close()
			l.repeat(ctx, r, func() { do(ctx) })
			l.settling.Done()
			<-l.hangUp.Done()
		})
	}
	return l
}

// Settle ends all operations and returns when none is under way; connections
// stay, and producers go on to PING.
func (l *Load) Settle() {
	l.stop()
	l.settling.Wait()
}

// Freeze notes which sessions have lived to the end of the round. What happens
// to the peers after it says nothing about them.
func (l *Load) Freeze() {
	l.Settle()
	l.freeze()
	l.freezing.Wait()
}

// Stop ends the load and waits until all clients are gone.
func (l *Load) Stop() {
	l.Freeze()
	l.hang()
	l.clients.Wait()
}

// repeat calls do with pauses until ctx ends.
func (l *Load) repeat(ctx context.Context, r *rand.Rand, do func()) {
	for ctx.Err() == nil {
		do()
		sleep(ctx, time.Duration(r.Int64N(2*int64(l.cfg.Pause)+1)))
	}
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// pick returns any peer.
func (l *Load) pick(r *rand.Rand) Peer {
	peers := l.cfg.Peers()
	return peers[r.IntN(len(peers))]
}

// Hosts and ports of the producers, which nobody dials.
const (
	producerTCP  = 4150
	producerHTTP = 4151
)

func producerHost(client int) string { return fmt.Sprintf("n%d.example", client) }

// node is how /topic/tombstone names a producer.
func node(client int) string {
	return net.JoinHostPort(producerHost(client), strconv.Itoa(producerHTTP))
}
