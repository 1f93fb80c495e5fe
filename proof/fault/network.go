package fault

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lookupd/lookupd/supervisor"
	"github.com/lookupd/lookupd/supervisor/lab"
)

// arrow is a direction between two peers in which nothing goes.
type arrow struct{ from, to *supervisor.Peer }

// cutting says which directions a fault cuts.
type cutting func(t *Target, leader *supervisor.Peer, followers []*supervisor.Peer) []arrow

func networkKinds() []Kind {
	cut := func(name string, peers int, c cutting) Kind {
		return Kind{Name: name, Exclusive: true, Needs: needsNetwork(peers), Run: func(ctx context.Context, t *Target) (string, error) {
			return t.cut(ctx, c)
		}}
	}
	rule := func(name string, run func(context.Context, *Target) (string, error)) Kind {
		return Kind{Name: name, Needs: needsNetwork(3), Run: run}
	}
	return []Kind{
		cut("isolate leader", 3, around(theLeader, true, true)),
		cut("isolate follower", 3, around(oneFollower, true, true)),
		cut("leader hears nobody", 3, around(theLeader, true, false)),
		cut("nobody hears leader", 3, around(theLeader, false, true)),
		cut("follower hears nobody", 3, around(oneFollower, true, false)),
		cut("nobody hears follower", 3, around(oneFollower, false, true)),
		cut("bridge", 3, bridge),
		cut("ring", 5, ring),
		cut("majority and minority", 3, halves),
		rule("loss of 30 %", loss),
		rule("slow link", slowLink),
	}
}

func needsNetwork(peers int) func(*Target) string {
	return func(t *Target) string {
		if t.Network == nil {
			return "a network of its own for each peer"
		}
		return needsPeers(peers)(t)
	}
}

// around cuts one peer off: what it is sent, what it sends, or both.
func around(c choice, in, out bool) cutting {
	return func(t *Target, leader *supervisor.Peer, followers []*supervisor.Peer) []arrow {
		victim := c(t, leader, followers)[0]
		var arrows []arrow
		for _, other := range without(t.Cluster.Peers, victim) {
			if in {
				arrows = append(arrows, arrow{other, victim})
			}
			if out {
				arrows = append(arrows, arrow{victim, other})
			}
		}
		return arrows
	}
}

// apart cuts all directions between two sets of peers.
func apart(some, others []*supervisor.Peer) []arrow {
	var arrows []arrow
	for _, a := range some {
		for _, b := range others {
			arrows = append(arrows, arrow{a, b}, arrow{b, a})
		}
	}
	return arrows
}

// bridge leaves two halves that see each other through one peer alone.
func bridge(t *Target, _ *supervisor.Peer, _ []*supervisor.Peer) []arrow {
	rest := everyPeer(t, nil, nil)[1:]
	return apart(rest[:len(rest)/2], rest[len(rest)/2:])
}

// ring leaves each peer two neighbours.
func ring(t *Target, _ *supervisor.Peer, _ []*supervisor.Peer) []arrow {
	peers := everyPeer(t, nil, nil)
	var arrows []arrow
	for i, a := range peers {
		for j := i + 2; j < len(peers); j++ {
			if i > 0 || j < len(peers)-1 {
				arrows = append(arrows, arrow{a, peers[j]}, arrow{peers[j], a})
			}
		}
	}
	return arrows
}

// halves parts the smallest majority from the rest; the leader is in either.
func halves(t *Target, leader *supervisor.Peer, followers []*supervisor.Peer) []arrow {
	majority := aMajority(t, leader, followers)
	return apart(majority, without(t.Cluster.Peers, majority...))
}

// How long a fault of the network lasts: from below an election to far above.
const shortestCut, longestCut = time.Second, 10 * time.Second

// cut cuts the directions for a while, all in the same way.
func (t *Target) cut(ctx context.Context, c cutting) (evidence string, err error) {
	leader, followers, err := t.roles(ctx)
	if err != nil {
		return "", err
	}
	how := []lab.How{lab.Drop, lab.Reject}[t.Rand.IntN(2)]
	var rules []*lab.Rule
	for _, a := range c(t, leader.peer, followers) {
		var r *lab.Rule
		if r, err = t.Network.Block(t.Hosts[a.from.Name()], t.Hosts[a.to.Name()], how); err != nil {
			break
		}
		rules = append(rules, r)
		evidence += fmt.Sprintf(" %s>%s", a.from.Name(), a.to.Name())
	}
	evidence = fmt.Sprintf("%s; %s%s", leader, how, evidence)
	if err == nil {
		var met string
		met, err = t.inForce(ctx, rules, len(rules))
		evidence += ": " + met
	}
	return t.ended(ctx, evidence, errors.Join(err, remove(rules)))
}

// inForce keeps rules in force for a while, and until so many of them have met
// a packet.
func (t *Target) inForce(ctx context.Context, rules []*lab.Rule, least int) (string, error) {
	began := time.Now()
	if err := hold(ctx, t.between(shortestCut, longestCut)); err != nil {
		return "", err
	}
	within, cancel := context.WithTimeout(ctx, longestCut)
	defer cancel()
	sum := 0
	err := supervisor.Poll(within, func(context.Context) error {
		var met int
		sum = 0
		for _, r := range rules {
			n, err := r.Packets()
			if err != nil {
				return err
			}
			if n > 0 {
				met++
			}
			sum += n
		}
		if met < least {
			return fmt.Errorf("%w: %d of %d rules met a packet", ErrNoEvidence, met, len(rules))
		}
		return nil
	})
	return fmt.Sprintf("%d packets in %v", sum, time.Since(began).Round(time.Millisecond)), err
}

func remove(rules []*lab.Rule) error {
	var errs []error
	for _, r := range rules {
		errs = append(errs, r.Remove())
	}
	return errors.Join(errs...)
}

// loss loses 30 % of what reaches one peer, or each.
func loss(ctx context.Context, t *Target) (string, error) {
	const share = 0.3
	victims := everyPeer(t, nil, nil)
	if t.Rand.IntN(2) == 0 {
		victims = victims[:1]
	}
	return t.ruled(ctx, victims, len(victims), func(h *lab.Host) (*lab.Rule, error) { return t.Network.Loss(h, share) })
}

// slowLink bounds what one peer, or each, can send.
func slowLink(ctx context.Context, t *Target) (string, error) {
	victims := everyPeer(t, nil, nil)
	if t.Rand.IntN(2) == 0 {
		victims = victims[:1]
	}
	rate := []string{"32kbit", "64kbit", "128kbit"}[t.Rand.IntN(3)]
	// One slow peer slows what the others say to it: they may never have to wait.
	evidence, err := t.ruled(ctx, victims, 1, func(h *lab.Host) (*lab.Rule, error) { return t.Network.Slow(h, rate, "400ms") })
	return rate + ", " + evidence, err
}

// ruled puts a rule into force at each peer for a while, and at least so many of
// them must meet a packet. It asks nothing of the cluster, which another fault may
// have taken apart.
func (t *Target) ruled(ctx context.Context, victims []*supervisor.Peer, least int, put func(*lab.Host) (*lab.Rule, error)) (string, error) {
	var rules []*lab.Rule
	var err error
	for _, p := range victims {
		var r *lab.Rule
		if r, err = put(t.Hosts[p.Name()]); err != nil {
			break
		}
		rules = append(rules, r)
	}
	var met string
	if err == nil {
		met, err = t.inForce(ctx, rules, least)
	}
	return fmt.Sprintf("at %s: %s", names(victims), met), errors.Join(err, remove(rules))
}
