package cluster_test

import (
	"context"
	"slices"
	"time"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/fsm"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/session"
	"github.com/lookupd/lookupd/store"
)

// simPeer is a peer over all its starts. All but w and node is guarded by the
// world's lock.
type simPeer struct {
	w     *simWorld
	node  registry.NodeID
	epoch uint64
	runs  *simStart // nil while it is dead
	cut   bool      // off from the other peers, not from its nsqds
	// When it was last started, lost by the others, and heard again.
	started, lost, heard time.Time
	unheard              bool // by the leader's latest look, although it is there
}

func (p *simPeer) inContact() bool { return p.runs != nil && !p.cut }

// begin starts the peer.
func (p *simPeer) begin() {
	w := p.w
	w.mu.Lock()
	p.epoch++
	s := &simStart{simPeer: p, epoch: p.epoch, wake: make(chan struct{}, 1), more: make(chan struct{}), seen: w.index}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.manager = session.NewManager(session.Config{
		Node: p.node, Epoch: p.epoch, InactiveTimeout: simInactive, Cluster: s, Feed: s,
	})
	p.runs, p.started, p.heard = s, time.Now(), time.Now()
	w.noteLocked("%s starts, epoch %d", p.node, p.epoch)
	w.movedLocked()
	w.electSoon("begin")
	w.mu.Unlock()
	s.manager.Start()
	w.start(s.propose)
}

// kill ends the peer as SIGKILL does.
func (p *simPeer) kill() {
	w := p.w
	w.mu.Lock()
	s := p.runs
	if s == nil {
		w.mu.Unlock()
		return
	}
	w.noteLocked("%s dies", p.node)
	if p.inContact() {
		p.lost = time.Now()
	}
	p.runs, p.cut, s.dead = nil, false, true
	s.lags.unhold()
	s.lags = nil
	w.connectionsLostLocked(s)
	w.contactLostLocked(s, 0)
	w.mu.Unlock()
	s.cancel()
	s.manager.Close()
}

// setCut partitions the peer from the others, or ends that. With jump its state
// comes as a snapshot, and the feed does not tell what happened meanwhile.
func (p *simPeer) setCut(cut, jump bool) {
	w := p.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if p.runs == nil || p.cut == cut {
		return
	}
	p.cut = cut
	if cut {
		w.noteLocked("%s is cut off", p.node)
		p.lost = time.Now()
		p.runs.believes = p.lost.Add(w.between(0, 2*time.Second, "believes"))
		w.contactLostLocked(p.runs, w.between(0, time.Second, "unaware"))
		return
	}
	w.noteLocked("%s is heard again, by snapshot: %v", p.node, jump)
	p.heard = time.Now()
	p.runs.jumps = jump
	w.after(w.between(time.Millisecond, time.Second, "follow"), p.runs.followLocked)
	w.movedLocked()
	w.electSoon("heal")
}

// contactLostLocked ends the reign of s, or of who has no quorum without it.
func (w *simWorld) contactLostLocked(s *simStart, unaware time.Duration) {
	n := 0
	for _, p := range w.peers {
		if p.inContact() {
			n++
		}
	}
	if w.reign != nil && (w.reign.leader == s || n <= len(w.peers)/2) {
		w.dethroneLocked(unaware)
		w.electSoon("lost")
	}
	w.movedLocked()
}

// simStart is a peer from one start to its end: what the sessions take for their
// cluster, and their feed.
type simStart struct {
	*simPeer
	epoch   uint64
	manager *session.Manager
	ctx     context.Context
	cancel  context.CancelFunc
	wake    chan struct{}

	// Guarded by the world's lock.
	dead     bool
	waiting  []*simProposal
	lags     *frozenView   // its own state, if that is not the present one
	seen     uint64        // the last entry in its own state
	jumps    bool          // it gets there by a snapshot next
	floor    uint64        // the feed has nothing up to here
	more     chan struct{} // closed when there is more in the feed
	believes time.Time     // until then it takes the leader it lost for its own
}

var (
	_ session.Cluster  = (*simStart)(nil)
	_ session.Feed     = (*simStart)(nil)
	_ session.Proposal = (*simProposal)(nil)
)

func (s *simStart) reachesLeader() bool { return !s.dead && !s.cut && s.w.reign != nil }

// followLocked brings the own state to the present.
func (s *simStart) followLocked() {
	if s.dead || s.cut {
		return
	}
	s.lags.unhold()
	s.lags = nil
	if s.seen < s.w.index {
		s.seen = s.w.index
		if s.jumps {
			s.floor, s.jumps = s.seen, false
		}
		close(s.more)
		s.more = make(chan struct{})
	}
}

// DiskLow is never true: what is left out of the log is not modelled.
func (s *simStart) DiskLow() bool { return false }

// HasLeader believes for a while in a leader that is lost.
func (s *simStart) HasLeader() bool {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	return s.reachesLeader() || time.Now().Before(s.believes)
}

// View keeps the world locked.
func (s *simStart) View(fn func(session.View) error) error {
	return s.view(func(v *store.View) error { return fn(v) })
}

func (s *simStart) view(fn func(*store.View) error) error {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if s.lags != nil {
		return fn(s.lags.view)
	}
	if s.dead {
		return store.ErrStateClosed
	}
	return s.w.fsm.View(fn)
}

// ReadBarrier waits for contact.
func (s *simStart) ReadBarrier(ctx context.Context) (uint64, error) {
	w := s.w
	for {
		w.mu.Lock()
		reaches, moved, delay := s.reachesLeader(), w.moved, w.delay("barrier"+string(s.node))
		w.mu.Unlock()
		if reaches {
			if !pause(ctx, delay) {
				return 0, cluster.ErrNoQuorum
			}
			w.mu.Lock()
			if s.reachesLeader() {
				s.followLocked()
				defer w.mu.Unlock()
				return s.seen, nil
			}
			w.mu.Unlock()
			continue
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return 0, cluster.ErrNoQuorum
		}
	}
}

// pause returns false if ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Since tells what the own state has applied.
func (s *simStart) Since(index uint64) ([]registry.Change, bool) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if index < s.floor {
		return nil, false
	}
	changes, ok := s.w.fsm.Feed().Since(index)
	return slices.DeleteFunc(changes, func(c registry.Change) bool { return c.Index > s.seen }), ok
}

// Wait may return for an entry that changed nothing.
func (s *simStart) Wait(ctx context.Context, after uint64) error {
	for {
		s.w.mu.Lock()
		more := s.more
		changes, _ := s.w.fsm.Feed().Since(max(after, s.floor))
		have := s.floor > after || len(changes) > 0 && changes[0].Index <= s.seen
		s.w.mu.Unlock()
		if have {
			return nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// simProposal is on its way from a peer into the log.
type simProposal struct {
	by       *simStart
	commands []registry.Command
	turn     uint64 // when it was submitted
	done     chan struct{}
	results  []registry.Result
	index    uint64
}

func (p *simProposal) Done() <-chan struct{} { return p.done }

func (p *simProposal) Result() ([]registry.Result, uint64, error) { return p.results, p.index, nil }

func (p *simProposal) Withdraw() bool {
	p.by.w.mu.Lock()
	defer p.by.w.mu.Unlock()
	i := slices.Index(p.by.waiting, p)
	if i < 0 {
		return false
	}
	p.by.waiting = slices.Delete(p.by.waiting, i, i+1)
	return true
}

// Submit queues commands.
func (s *simStart) Submit(ctx context.Context, commands ...registry.Command) (session.Proposal, error) {
	p, err := s.submit(ctx, commands)
	if err != nil {
		return nil, err
	}
	return p, nil
}

func (s *simStart) submit(ctx context.Context, commands []registry.Command) (*simProposal, error) {
	w := s.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.dead || ctx.Err() != nil {
		return nil, cluster.ErrStopped
	}
	if n := len(commands); n == 0 || n > cluster.MaxProposalCommands {
		w.failLocked("%d commands in a proposal", n)
	}
	w.turn++
	p := &simProposal{by: s, commands: slices.Clone(commands), turn: w.turn, done: make(chan struct{})}
	s.waiting = append(s.waiting, p)
	w.submittedLocked(p)
	s.wakeLocked()
	return p, nil
}

func (s *simStart) wakeLocked() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// commit submits and waits, as the leader's duties do.
func (s *simStart) commit(ctx context.Context, commands []registry.Command) bool {
	p, err := s.submit(ctx, commands)
	if err != nil {
		return false
	}
	select {
	case <-p.done:
		return true
	case <-ctx.Done():
		p.Withdraw()
		return false
	}
}

// propose has one batch under way while the next forms.
func (s *simStart) propose() {
	number := uint64(0)
	for s.waitLeader() {
		s.w.mu.Lock()
		n := cluster.BatchLength(len(s.waiting), func(i int) ([]registry.Command, int) { return s.waiting[i].commands, 0 })
		batch := s.waiting[:n:n]
		s.waiting = s.waiting[n:]
		s.w.mu.Unlock()
		if len(batch) == 0 {
			select {
			case <-s.wake:
			case <-s.ctx.Done():
				return
			}
			continue
		}
		if s.proposeBatch(number+1, batch) {
			number++
		}
	}
}

func (s *simStart) waitLeader() bool {
	for {
		s.w.mu.Lock()
		reaches, moved := s.reachesLeader(), s.w.moved
		s.w.mu.Unlock()
		if s.ctx.Err() != nil {
			return false
		}
		if reaches {
			return true
		}
		select {
		case <-moved:
		case <-s.ctx.Done():
			return false
		}
	}
}

// fate is what became of an attempt to have a batch committed.
type fate int

const (
	committed fate = iota
	unknown
	notLogged
)

type attempt struct {
	fate   fate
	result fsm.BatchResult
}

// proposeBatch tries until the batch has a result; false means that it is in the
// queue again and its number is free.
func (s *simStart) proposeBatch(number uint64, batch []*simProposal) (used bool) {
	b := fsm.Batch{Origin: s.node, Epoch: s.epoch, Number: number}
	for _, p := range batch {
		b.Commands = append(b.Commands, p.commands...)
	}
	for maybeLogged := false; ; {
		a, ok := s.send(b, batch)
		switch {
		case !ok:
			return true
		case a.fate == committed:
			s.finish(batch, a.result)
			return true
		case a.fate == unknown:
			maybeLogged = true
		}
		if !pause(s.ctx, 20*time.Millisecond) {
			return true
		}
		if !maybeLogged {
			s.w.mu.Lock()
			s.waiting = append(slices.Clone(batch), s.waiting...)
			s.wakeLocked()
			s.w.mu.Unlock()
			return false
		}
		if !s.waitLeader() {
			return true
		}
	}
}

func (s *simStart) finish(batch []*simProposal, result fsm.BatchResult) {
	if result.Stale {
		s.w.mu.Lock()
		defer s.w.mu.Unlock()
		s.w.failLocked("%s: a batch is late", s.node)
		return
	}
	first := 0
	for _, p := range batch {
		p.results, p.index = result.Results[first:first+len(p.commands)], result.Index
		first += len(p.commands)
		close(p.done)
	}
}

// send sends a batch to the leader; false means that the peer ended.
func (s *simStart) send(b fsm.Batch, batch []*simProposal) (attempt, bool) {
	w := s.w
	w.mu.Lock()
	there := w.delay("there" + string(s.node))
	w.mu.Unlock()
	answer := make(chan attempt, 1)
	w.start(func() {
		time.Sleep(there)
		s.arrive(b, batch, answer)
	})
	select {
	case a := <-answer:
		return a, true
	case <-s.ctx.Done():
		return attempt{}, false
	}
}

// arrive is a batch at the leader, if there is one: it may also be lost, or be
// committed late, or its answer be lost, if the peer or the leader went.
func (s *simStart) arrive(b fsm.Batch, batch []*simProposal, answer chan<- attempt) {
	w := s.w
	w.mu.Lock()
	if w.reign == nil {
		switch w.draw(3, "arrive") {
		case 0:
			answer <- attempt{fate: notLogged}
		case 1:
			answer <- attempt{fate: unknown}
		case 2: // it is in the log of the leader that was
			answer <- attempt{fate: unknown}
			w.after(w.between(0, simLate/2, "late"), func() {
				if w.reign != nil {
					w.commitLocked(b, batch)
				}
			})
		}
		w.mu.Unlock()
		return
	}
	if !s.reachesLeader() && w.draw(2, "arrive") == 0 {
		answer <- attempt{fate: unknown}
		w.mu.Unlock()
		return
	}
	a := attempt{committed, w.commitLocked(b, batch)}
	back := w.delay("back" + string(s.node))
	w.mu.Unlock()
	time.Sleep(back)
	w.mu.Lock()
	defer w.mu.Unlock()
	if !s.reachesLeader() {
		a = attempt{fate: unknown}
	}
	answer <- a
}
