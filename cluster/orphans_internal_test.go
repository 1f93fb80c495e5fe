package cluster

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
)

const (
	lostPeer = registry.NodeID("lost-00000001")
	goodPeer = registry.NodeID("good-00000002")
)

func TestOrphansEndAfterTheTimeout(t *testing.T) {
	w, start := newOrphanWatch(300*time.Second, 45*time.Second, time.Hour), time.Now()
	at := func(s int, lostAlive bool, epoch uint64) []OrphanGroup {
		return w.due(w.look(start.Add(time.Duration(s)*time.Second), map[registry.NodeID]contact{
			lostPeer: {lostAlive, epoch}, goodPeer: {true, 0},
		}))
	}
	for _, step := range []struct {
		second int
		alive  bool
		epoch  uint64
		want   []OrphanGroup
	}{
		{0, true, 7, nil},
		{10, false, 0, nil},  // missed from here on
		{309, false, 0, nil}, // 299 s
		{310, false, 0, []OrphanGroup{{Peer: lostPeer}}},
		{311, false, 0, nil}, // once is enough
		{400, true, 7, nil},  // back, the same start
		{445, true, 7, []OrphanGroup{{Peer: lostPeer, Epoch: 7}}},
		{500, false, 0, nil},                                      // lost again
		{799, false, 0, nil},                                      // the count began anew
		{800, false, 0, []OrphanGroup{{Peer: lostPeer}}},          // and its new sessions end
		{900, true, 8, nil},                                       // a new start
		{944, true, 8, nil},                                       // its nsqds have 45 s
		{945, true, 8, []OrphanGroup{{Peer: lostPeer, Epoch: 8}}}, // then what start 7 left goes
		{946, true, 8, nil},
	} {
		if got := at(step.second, step.alive, step.epoch); !slices.Equal(got, step.want) {
			t.Errorf("at %d s: %+v, want %+v", step.second, got, step.want)
		}
	}
}

// One answer is enough: a peer that is heard now and then is not lost.
func TestOneAnswerStartsTheCountAnew(t *testing.T) {
	w, start := newOrphanWatch(10*time.Second, time.Second, time.Hour), time.Now()
	for s := range 100 {
		heard := map[registry.NodeID]contact{lostPeer: {alive: s%10 == 9}}
		if got := w.due(w.look(start.Add(time.Duration(s)*time.Second), heard)); got != nil {
			t.Fatalf("at %d s: %+v", s, got)
		}
	}
}

func TestOrphanGroupHas(t *testing.T) {
	id := registry.SessionID{Node: lostPeer, Epoch: 7, Seq: 1}
	for _, c := range []struct {
		group OrphanGroup
		want  bool
	}{
		{OrphanGroup{Peer: lostPeer}, true},
		{OrphanGroup{Peer: lostPeer, Epoch: 8}, true},
		{OrphanGroup{Peer: lostPeer, Epoch: 7}, false},
		{OrphanGroup{Peer: goodPeer}, false},
	} {
		if c.group.Has(id) != c.want {
			t.Errorf("%+v", c.group)
		}
	}
}

// A leader that was paused does not count the pause: nobody could come back.
func TestPauseOfTheLeaderDoesNotCount(t *testing.T) {
	w, start := newOrphanWatch(10*time.Second, 10*time.Second, 2*time.Second), time.Now()
	at := func(s int) []OrphanGroup {
		return w.due(w.look(start.Add(time.Duration(s)*time.Second), map[registry.NodeID]contact{
			lostPeer: {}, goodPeer: {true, 2},
		}))
	}
	for _, second := range []int{0, 1, 61} {
		if got := at(second); len(got) != 0 {
			t.Fatalf("at %d s: %+v", second, got)
		}
	}
	ended := 0
	for second := 62; second < 72; second++ {
		ended += len(at(second))
	}
	if ended != 2 {
		t.Fatalf("%d groups ended", ended)
	}
}

// A peer that is cut off again right after its return has its 45 s while it is
// heard, and one lost answer does not begin them anew.
func TestGraceCountsWhileThePeerIsHeard(t *testing.T) {
	w, start := newOrphanWatch(300*time.Second, 45*time.Second, 2*time.Second), time.Now()
	ended := -1
	for s := 0; s < 200 && ended < 0; s++ {
		heard := contact{alive: s < 10 || s >= 110 && s%20 != 0, epoch: 8}
		if len(w.due(w.look(start.Add(time.Duration(s)*time.Second), map[registry.NodeID]contact{lostPeer: heard}))) > 0 {
			ended = s
		}
	}
	if ended < 145 || ended > 150 { // 10 s before the cut, 35 s after it
		t.Errorf("ended at %d s", ended)
	}
}

// With a short timeout a peer may be lost twice within lookAgain: the second
// loss is not taken for the first.
func TestSecondLossIsLookedThroughAtOnce(t *testing.T) {
	w, start := newOrphanWatch(2*time.Second, time.Hour, time.Hour), time.Now()
	for second, step := range []struct {
		alive bool
		want  int
	}{{false, 0}, {false, 0}, {false, 1}, {true, 0}, {false, 0}, {false, 0}, {false, 1}} {
		groups := w.look(start.Add(time.Duration(second)*time.Second), map[registry.NodeID]contact{lostPeer: {alive: step.alive}})
		if got := w.due(groups); len(got) != step.want {
			t.Errorf("at %d s: %+v", second, got)
		}
	}
}

// The groups of living peers are due for ever once their grace is over. However
// many there are, the sessions are read once in lookAgain.
func TestOneLookForAllGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const peers = 5
		looks, began := 0, time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 10*lookAgain)
		defer cancel()
		orphanDuty{
			timeout: time.Minute, grace: time.Second, log: slog.New(slog.DiscardHandler),
			listen: func(context.Context) map[registry.NodeID]contact {
				heard := map[registry.NodeID]contact{}
				for i := range peers { // each a little after the one before
					if time.Since(began) >= time.Duration(i)*1500*time.Millisecond {
						heard[registry.NodeID(rune('a'+i))] = contact{true, 1}
					}
				}
				return heard
			},
			publish: func([]OrphanGroup) {},
			view:    func(func(*store.View) error) error { looks++; return nil },
		}.run(ctx)
		if looks < 10 || looks > 10+peers+1 {
			t.Errorf("%d looks in %s", looks, 10*lookAgain)
		}
	})
}

// A peer that is neither in the configuration nor has sessions is not asked.
func TestThePastIsNotAsked(t *testing.T) {
	const member, gone, never = registry.NodeID("member-00000001"), registry.NodeID("gone-00000002"), registry.NodeID("never-00000003")
	state, err := store.CreateState(filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	index := uint64(0)
	do := func(apply func(c *store.Change)) {
		t.Helper()
		index++
		if err := state.Update(func(c *store.Change) error { c.Entry(index, 1, member); apply(c); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	info := registry.ProducerInfo{BroadcastAddress: "h", TCPPort: 4150, HTTPPort: 4151, Version: "1.3.0"}
	session := func(node registry.NodeID, seq uint64) registry.SessionID {
		return registry.SessionID{Node: node, Epoch: 1, Seq: seq}
	}
	for _, node := range []registry.NodeID{member, gone} {
		do(func(c *store.Change) { c.OpenSession(session(node, 1), info) })
	}
	var asked sessionPeers
	now := time.Now()
	check := func(when string, want ...registry.NodeID) {
		t.Helper()
		var got []registry.NodeID
		err := state.View(func(v *store.View) error {
			got = asked.list(v, map[registry.NodeID]bool{member: true, never: true}, now)
			return nil
		})
		slices.Sort(got)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v %v, want %v", when, got, err, want)
		}
	}
	check("both have sessions", gone, member)
	for _, node := range []registry.NodeID{member, gone} {
		do(func(c *store.Change) { c.CloseSession(session(node, 1), info.ID()) })
	}
	now = now.Add(lookAgain)
	check("none has any", member)
	do(func(c *store.Change) { c.OpenSession(session(gone, 2), info) })
	now = now.Add(lookAgain)
	check("a batch came late", gone, member)
}

// Who is not asked any more is forgotten, and counts anew if it comes back.
func TestTheUnheardAreForgotten(t *testing.T) {
	w, start := newOrphanWatch(10*time.Second, time.Second, time.Hour), time.Now()
	look := func(second int, heard map[registry.NodeID]contact) []OrphanGroup {
		return w.due(w.look(start.Add(time.Duration(second)*time.Second), heard))
	}
	look(0, map[registry.NodeID]contact{lostPeer: {}, goodPeer: {true, 3}})
	if got := look(11, map[registry.NodeID]contact{lostPeer: {}, goodPeer: {true, 3}}); len(got) != 2 {
		t.Errorf("%+v", got)
	}
	look(12, map[registry.NodeID]contact{})
	if n := len(w.missed) + len(w.returned) + len(w.done); n != 0 {
		t.Errorf("%d are remembered", n)
	}
	if got := look(13, map[registry.NodeID]contact{lostPeer: {}}); len(got) != 0 {
		t.Errorf("right after it is back: %+v", got)
	}
}
