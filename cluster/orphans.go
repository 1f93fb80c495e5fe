package cluster

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
)

const (
	// returnGrace is how long after a peer's return the sessions of its earlier
	// starts stay: a quiet nsqd needs up to 30 s to reconnect.
	returnGrace = 45 * time.Second
	// contactChecks is how often, within the inactive time, the leader looks
	// whether it hears from each peer.
	contactChecks = 20
	// lookAgain is how often a group that was ended is looked through again.
	lookAgain = 10 * time.Second
)

// contact is what the leader hears of a peer that may have sessions.
type contact struct {
	alive bool
	epoch uint64 // 0 if the peer did not say
}

// OrphanGroup is the sessions of a peer from before Epoch, whose connections
// are gone or out of reach.
type OrphanGroup struct {
	Peer   registry.NodeID
	Epoch  uint64 // sessions of this start and later are no orphans; all are if 0
	EndsIn time.Duration
}

// orphanWatch measures, on the leader, for how long peers are gone. A new leader
// begins with a new one and so counts anew. Time counts only as far as the
// leader looked: after a pause of the leader, in which nobody could have come
// back, not more than longestStep has passed.
type orphanWatch struct {
	timeout, grace time.Duration
	longestStep    time.Duration
	last, now      time.Time                        // of the latest look: on the clock, and as counted
	missed         map[registry.NodeID]time.Time    // since when a peer is not heard
	returned       map[registry.NodeID]returnedPeer // which start of a peer was seen, and heard for how long
	done           map[registry.NodeID]doneGroup    // groups that were ended lately
}

type returnedPeer struct {
	epoch uint64
	heard time.Duration // since that start was first seen
}

type doneGroup struct {
	OrphanGroup
	at time.Time
}

func newOrphanWatch(timeout, grace, longestStep time.Duration) *orphanWatch {
	return &orphanWatch{
		timeout: timeout, grace: grace, longestStep: longestStep,
		missed: map[registry.NodeID]time.Time{}, returned: map[registry.NodeID]returnedPeer{},
		done: map[registry.NodeID]doneGroup{},
	}
}

// look takes in what was heard and returns the groups of sessions that are, or
// would be, orphans. Those with EndsIn 0 are due.
func (w *orphanWatch) look(clock time.Time, heard map[registry.NodeID]contact) []OrphanGroup {
	if w.last.IsZero() {
		w.last, w.now = clock, clock
	}
	step := min(clock.Sub(w.last), w.longestStep)
	w.now = w.now.Add(step)
	w.last = clock
	now := w.now
	w.forget(heard)
	var groups []OrphanGroup
	for node, c := range heard {
		if !c.alive {
			if w.missed[node].IsZero() {
				w.missed[node] = now
			}
			groups = append(groups, OrphanGroup{Peer: node, EndsIn: max(w.timeout-now.Sub(w.missed[node]), 0)})
			continue
		}
		// Time counts only from one look that heard the peer to the next: what its
		// nsqds declare again is not committed before.
		r := w.returned[node]
		if w.missed[node].IsZero() {
			r.heard += step
		} else {
			delete(w.done, node) // should it be lost again, it is looked through at once
		}
		delete(w.missed, node)
		if c.epoch > r.epoch {
			r = returnedPeer{epoch: c.epoch}
		}
		w.returned[node] = r
		if r.epoch > 0 {
			groups = append(groups, OrphanGroup{Peer: node, Epoch: r.epoch, EndsIn: max(w.grace-r.heard, 0)})
		}
	}
	slices.SortFunc(groups, func(a, b OrphanGroup) int { return cmp.Compare(a.Peer, b.Peer) })
	return groups
}

// Has reports whether a session belongs to the group.
func (g OrphanGroup) Has(id registry.SessionID) bool {
	return id.Node == g.Peer && (g.Epoch == 0 || id.Epoch < g.Epoch)
}

// forget drops what is known of peers that nobody asks any more.
func (w *orphanWatch) forget(heard map[registry.NodeID]contact) {
	gone := func(node registry.NodeID) bool { _, asked := heard[node]; return !asked }
	maps.DeleteFunc(w.missed, func(node registry.NodeID, _ time.Time) bool { return gone(node) })
	maps.DeleteFunc(w.returned, func(node registry.NodeID, _ returnedPeer) bool { return gone(node) })
	maps.DeleteFunc(w.done, func(node registry.NodeID, _ doneGroup) bool { return gone(node) })
}

// due returns the groups that are due, if one of them was not looked through
// lately, and notes them. Once is not enough: a batch of the lost peer may be
// committed late and bring a session that is an orphan from the start.
func (w *orphanWatch) due(groups []OrphanGroup) (due []OrphanGroup) {
	settled := true
	for _, g := range groups {
		if g.EndsIn > 0 {
			continue
		}
		due = append(due, g)
		done := w.done[g.Peer]
		settled = settled && done.OrphanGroup == g && w.now.Sub(done.at) < lookAgain
	}
	if settled {
		return nil
	}
	for _, g := range due { // all at once: one look is for all
		w.done[g.Peer] = doneGroup{g, w.now}
	}
	return due
}

// orphanDuty is what the leader does about orphans during one term.
type orphanDuty struct {
	term           uint64
	timeout, grace time.Duration
	log            *slog.Logger

	listen  func(context.Context) map[registry.NodeID]contact
	publish func([]OrphanGroup)
	view    func(func(*store.View) error) error
	// end proposes commands and returns whether they are known to be committed.
	end func(context.Context, []registry.Command) bool
}

// endOrphans ends the sessions of peers that this leader has not heard for
// InactiveTimeout, and those of earlier starts of peers that are back.
func (n *Node) endOrphans(ctx context.Context) {
	beats := n.watchHeartbeats()
	defer beats.close()
	defer n.orphans.Store(nil)
	var peers sessionPeers
	orphanDuty{
		term: n.raft.CurrentTerm(), timeout: n.cfg.InactiveTimeout, grace: n.cfg.ReturnGrace, log: n.log,
		listen:  func(ctx context.Context) map[registry.NodeID]contact { return n.listen(ctx, beats, &peers) },
		publish: func(groups []OrphanGroup) { n.orphans.Store(&groups) },
		view:    n.View, end: n.commit,
	}.run(ctx)
}

// run looks again and again until ctx ends.
func (d orphanDuty) run(ctx context.Context) {
	every := min(max(d.timeout/contactChecks, 10*time.Millisecond), time.Second)
	watch := newOrphanWatch(d.timeout, d.grace, 2*(every+statusWithin))
	for {
		heard := d.listen(ctx)
		groups := watch.look(time.Now(), heard)
		d.publish(groups)
		if due := watch.due(groups); len(due) > 0 {
			for _, g := range d.endGroups(ctx, due) {
				delete(watch.done, g.Peer)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(every):
		}
	}
}

// endGroups ends the sessions of groups and returns those of which that is not
// known to be done.
func (d orphanDuty) endGroups(ctx context.Context, groups []OrphanGroup) (failed []OrphanGroup) {
	ends := map[registry.NodeID][]registry.Command{}
	err := d.view(func(v *store.View) error {
		for _, s := range v.Sessions() {
			if slices.ContainsFunc(groups, func(g OrphanGroup) bool { return g.Has(s.ID) }) {
				ends[s.ID.Node] = append(ends[s.ID.Node], registry.EndOrphan{Session: s.ID, Producer: s.Producer, Term: d.term})
			}
		}
		return nil
	})
	if err != nil {
		d.log.Error("sessions cannot be read", "err", err)
		return groups
	}
	for _, g := range groups {
		if !d.endGroup(ctx, g, ends[g.Peer]) {
			failed = append(failed, g)
		}
	}
	return failed
}

// endGroup proposes what ends a group's sessions.
func (d orphanDuty) endGroup(ctx context.Context, g OrphanGroup, ends []registry.Command) bool {
	if len(ends) > 0 {
		d.log.Warn("ending sessions whose peer is gone", "peer", g.Peer, "sessions", len(ends), "of starts before", g.Epoch)
	}
	for part := range slices.Chunk(ends, MaxProposalCommands) {
		if !d.end(ctx, part) {
			return false
		}
	}
	return true
}

// commit proposes commands and waits until they are committed or ctx ends.
func (n *Node) commit(ctx context.Context, commands []registry.Command) bool {
	p, err := n.Submit(ctx, commands...)
	if err != nil {
		return false
	}
	select {
	case <-p.Done():
		_, _, err := p.Result()
		return err == nil
	case <-ctx.Done():
		p.Withdraw()
		return false
	}
}

// sessionPeers knows whose sessions may become orphans.
type sessionPeers struct {
	at   time.Time // of the last look at all sessions
	have map[registry.NodeID]bool
}

// list returns the peers that have sessions, as of lookAgain ago at most, and
// those of the configuration that ever had some. Only if there are others too, all
// sessions are looked at.
func (p *sessionPeers) list(v *store.View, servers map[registry.NodeID]bool, now time.Time) []registry.NodeID {
	peers := v.SessionPeers()
	left := func(id registry.NodeID) bool { return !servers[id] }
	if slices.ContainsFunc(peers, left) && (p.have == nil || now.Sub(p.at) >= lookAgain) {
		p.at, p.have = now, map[registry.NodeID]bool{}
		for _, s := range v.Sessions() {
			p.have[s.ID.Node] = true
		}
	}
	return slices.DeleteFunc(peers, func(id registry.NodeID) bool { return left(id) && !p.have[id] })
}

// listen asks the peers that may have sessions whether they are there. A peer is
// heard if it answers, or if raft's heartbeats reach it.
func (n *Node) listen(ctx context.Context, beats *heartbeats, peers *sessionPeers) map[registry.NodeID]contact {
	heard := map[registry.NodeID]contact{n.id: {true, n.epoch}}
	var nodes []registry.NodeID
	servers := n.servers()
	err := n.View(func(v *store.View) error { nodes = peers.list(v, servers, time.Now()); return nil })
	if err != nil {
		n.log.Error("sessions cannot be read", "err", err)
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, id := range nodes {
		if id == n.id {
			continue
		}
		all.Go(func() {
			c := contact{alive: beats.reach(id)}
			if answer := n.askStatus(ctx, id); answer != nil {
				c = contact{true, answer.Epoch}
			}
			mu.Lock()
			defer mu.Unlock()
			heard[id] = c
		})
	}
	all.Wait()
	return heard
}

// heartbeats knows which peers raft's heartbeats do not reach.
type heartbeats struct {
	close func()

	servers func() map[registry.NodeID]bool

	mu      sync.Mutex
	failing map[registry.NodeID]bool
}

// watchHeartbeats follows raft's observations until close. Raft reports each
// heartbeat that fails, and the first that succeeds again.
func (n *Node) watchHeartbeats() *heartbeats {
	h := &heartbeats{failing: map[registry.NodeID]bool{}, servers: n.servers}
	seen := make(chan raft.Observation, 64)
	observer := raft.NewObserver(seen, false, func(o *raft.Observation) bool {
		switch o.Data.(type) {
		case raft.FailedHeartbeatObservation, raft.ResumedHeartbeatObservation:
			return true
		}
		return false
	})
	n.raft.RegisterObserver(observer)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case o := <-seen:
				h.note(o)
			}
		}
	}()
	h.close = func() {
		n.raft.DeregisterObserver(observer)
		close(stop)
		<-stopped
	}
	return h
}

func (h *heartbeats) note(o raft.Observation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch beat := o.Data.(type) {
	case raft.FailedHeartbeatObservation:
		h.failing[registry.NodeID(beat.PeerID)] = true
	case raft.ResumedHeartbeatObservation:
		delete(h.failing, registry.NodeID(beat.PeerID))
	}
}

// reach reports whether raft sends heartbeats to a peer and they arrive.
func (h *heartbeats) reach(id registry.NodeID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.failing[id] && h.servers()[id]
}

// servers returns the members of the latest configuration.
func (n *Node) servers() map[registry.NodeID]bool {
	ids := map[registry.NodeID]bool{}
	for _, s := range n.raft.GetConfiguration().Configuration().Servers {
		ids[registry.NodeID(s.ID)] = true
	}
	return ids
}

// Orphans returns, as the leader counts them, the groups of sessions that are
// orphans or would be if there were any. Without a leader that answers it
// returns none.
func (n *Node) Orphans(ctx context.Context) []OrphanGroup {
	leader, _ := n.leader.current()
	if leader == "" {
		return nil
	}
	var groups []OrphanGroup
	for _, g := range n.askStatus(ctx, leader).GetOrphans() {
		groups = append(groups, OrphanGroup{
			Peer: registry.NodeID(g.NodeId), Epoch: g.Epoch, EndsIn: time.Duration(g.EndsInMs) * time.Millisecond,
		})
	}
	return groups
}
