package fault

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lookupd/lookupd/supervisor"
)

// Proxies are those before one peer: where nsqds, HTTP clients and other peers
// reach it.
type Proxies struct{ TCP, HTTP, Peer *Proxy }

// Close closes all three.
func (p *Proxies) Close() error {
	var errs []error
	for _, one := range p.all() {
		errs = append(errs, one.Close())
	}
	return errors.Join(errs...)
}

func (p *Proxies) all() []*Proxy {
	return slices.DeleteFunc([]*Proxy{p.TCP, p.HTTP, p.Peer}, func(p *Proxy) bool { return p == nil })
}

func (p *Proxies) forClients() []*Proxy { return []*Proxy{p.TCP, p.HTTP} }
func (p *Proxies) forPeers() []*Proxy   { return []*Proxy{p.Peer} }

func proxyKinds() []Kind {
	type among func(*Proxies) []*Proxy
	kind := func(name string, run func(context.Context, *Target, among, Direction) (string, error), a among, d Direction) Kind {
		return Kind{
			Name: name, Needs: needsProxies,
			Run: func(ctx context.Context, t *Target) (string, error) { return run(ctx, t, a, d) },
		}
	}
	hold := func(ctx context.Context, t *Target, a among, d Direction) (string, error) {
		return t.holdBytes(ctx, a, d)
	}
	drop := func(ctx context.Context, t *Target, a among, d Direction) (string, error) {
		return t.dropBytes(ctx, a, d)
	}
	delay := func(ctx context.Context, t *Target, a among, d Direction) (string, error) {
		return t.delayBytes(ctx, a, d)
	}
	peers, clients := (*Proxies).forPeers, (*Proxies).forClients
	return []Kind{
		kind("delay requests between peers", delay, peers, Requests),
		kind("delay replies between peers", delay, peers, Replies),
		kind("hold requests between peers", hold, peers, Requests),
		kind("hold replies between peers", hold, peers, Replies),
		kind("hold requests of clients", hold, clients, Requests),
		kind("hold replies to clients", hold, clients, Replies),
		kind("drop replies between peers, then reset", drop, peers, Replies),
		kind("drop replies to clients, then reset", drop, clients, Replies),
	}
}

func needsProxies(t *Target) string {
	if len(t.Proxies) == 0 {
		return "proxies before the peers"
	}
	return ""
}

// touchTimeout bounds the wait for bytes that a proxy can treat: a peer that
// another fault has stopped says nothing.
const touchTimeout = 20 * time.Second

// anyProxies picks a peer and some of the proxies before it.
func (t *Target) anyProxies(pick func(*Proxies) []*Proxy) (*supervisor.Peer, []*Proxy) {
	p := t.Cluster.Peers[t.Rand.IntN(len(t.Cluster.Peers))]
	return p, pick(t.Proxies[p.Name()])
}

func touched(proxies []*Proxy, d Direction) (sum int64) {
	for _, p := range proxies {
		sum += p.Touched(d)
	}
	return sum
}

// waitTouched waits until the proxies have treated more bytes than before.
func waitTouched(ctx context.Context, proxies []*Proxy, d Direction, before int64) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, touchTimeout)
	defer cancel()
	var n int64
	err := supervisor.Poll(ctx, func(context.Context) error {
		if n = touched(proxies, d) - before; n == 0 {
			return fmt.Errorf("%w: no byte of %s", ErrNoEvidence, d)
		}
		return nil
	})
	return fmt.Sprintf("%d bytes of %s", n, d), err
}

// delayBytes makes a direction slow, with jitter.
func (t *Target) delayBytes(ctx context.Context, pick func(*Proxies) []*Proxy, d Direction) (string, error) {
	peer, proxies := t.anyProxies(pick)
	delay, jitter := t.between(5*time.Millisecond, 200*time.Millisecond), t.between(0, 100*time.Millisecond)
	before := touched(proxies, d)
	for _, p := range proxies {
		p.Delay(d, delay, jitter)
		defer p.Delay(d, 0, 0)
	}
	if err := hold(ctx, t.between(2*time.Second, 8*time.Second)); err != nil {
		return "", err
	}
	evidence, err := waitTouched(ctx, proxies, d, before)
	return fmt.Sprintf("at %s %s came %v to %v late", peer.Name(), evidence, delay, delay+jitter), err
}

// holdBytes keeps a direction back for a while; then all comes at once.
func (t *Target) holdBytes(ctx context.Context, pick func(*Proxies) []*Proxy, d Direction) (string, error) {
	peer, proxies := t.anyProxies(pick)
	before := touched(proxies, d)
	held, err := t.heldBack(ctx, proxies, d, t.between(500*time.Millisecond, 5*time.Second))
	for _, p := range proxies {
		p.Release(d)
	}
	if err != nil {
		return "", err
	}
	evidence, err := waitTouched(ctx, proxies, d, before)
	return fmt.Sprintf("at %s %s held for %v", peer.Name(), evidence, held), err
}

// dropBytes keeps a direction back and then resets the connections: what was
// asked has been done, and nobody learns of it.
func (t *Target) dropBytes(ctx context.Context, pick func(*Proxies) []*Proxy, d Direction) (string, error) {
	peer, proxies := t.anyProxies(pick)
	before := touched(proxies, d)
	held, err := t.heldBack(ctx, proxies, d, t.between(200*time.Millisecond, 2*time.Second))
	reset := 0
	for _, p := range proxies {
		reset += p.Reset()
		p.Release(d)
	}
	if err != nil {
		return "", err
	}
	evidence, err := waitTouched(ctx, proxies, d, before)
	if err == nil && reset == 0 {
		err = fmt.Errorf("%w: no connection to reset", ErrNoEvidence)
	}
	return fmt.Sprintf("at %s %s held for %v and dropped, %d connections reset", peer.Name(), evidence, held, reset), err
}

// heldBack holds a direction for d and until something waits.
func (t *Target) heldBack(ctx context.Context, proxies []*Proxy, d Direction, least time.Duration) (time.Duration, error) {
	began := time.Now()
	for _, p := range proxies {
		p.Hold(d)
	}
	err := hold(ctx, least)
	if err == nil {
		waiting, cancel := context.WithTimeout(ctx, touchTimeout)
		defer cancel()
		err = supervisor.Poll(waiting, func(context.Context) error {
			if !slices.ContainsFunc(proxies, func(p *Proxy) bool { return p.Waiting(d) > 0 }) {
				return fmt.Errorf("%w: no byte of %s waits", ErrNoEvidence, d)
			}
			return nil
		})
	}
	return time.Since(began).Round(time.Millisecond), err
}
