package cluster

import (
	"slices"
	"testing"
	"time"

	"github.com/lookupd/lookupd/registry"
)

const (
	lostPeer = registry.NodeID("lost-00000001")
	goodPeer = registry.NodeID("good-00000002")
)

// due returns the peers whose groups are due and not settled yet, as endOrphans
// would end them.
func due(w *orphanWatch, groups []OrphanGroup) (ended []OrphanGroup) {
	for _, g := range groups {
		if g.EndsIn == 0 && !w.settled(g) {
			ended = append(ended, g)
		}
	}
	return ended
}

func TestOrphansEndAfterTheTimeout(t *testing.T) {
	w, start := newOrphanWatch(300*time.Second, 45*time.Second, time.Hour), time.Now()
	at := func(s int, lostAlive bool, epoch uint64) []OrphanGroup {
		return due(w, w.look(start.Add(time.Duration(s)*time.Second), map[registry.NodeID]contact{
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
		if got := due(w, w.look(start.Add(time.Duration(s)*time.Second), heard)); got != nil {
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
		return due(w, w.look(start.Add(time.Duration(s)*time.Second), map[registry.NodeID]contact{
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
		if len(due(w, w.look(start.Add(time.Duration(s)*time.Second), map[registry.NodeID]contact{lostPeer: heard}))) > 0 {
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
		if got := due(w, groups); len(got) != step.want {
			t.Errorf("at %d s: %+v", second, got)
		}
	}
}
