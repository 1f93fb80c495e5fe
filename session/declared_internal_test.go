package session

import "testing"

// REGISTER t c was committed at 19 and its answer is late. Meanwhile others have
// deleted t at 24, and nsqd has sent REGISTER t again, which waits. The late
// answer takes the channel along, never the topic that is about to be registered:
// a sweep would take a live registration for a left-over.
func TestLateAnswerForAChannelKeepsItsTopic(t *testing.T) {
	var d declared
	d.add("t", "c", true)
	d.add("t", "", true)
	d.deletedAt("t", "", 24)
	d.heldAt("t", "c", 19)
	if d.has("t", "c") {
		t.Error("the channel, deleted since, is declared")
	}
	if !d.has("t", "") {
		t.Fatal("the topic is not declared any more")
	}
	d.heldAt("t", "", 33) // the waiting REGISTER
	if !d.has("t", "") {
		t.Error("the topic is not declared after its own REGISTER")
	}
}

// A waiting REGISTER of a channel decides about its topic too: what an earlier
// answer says of the topic does not count any more.
func TestWaitingChannelTouchesItsTopic(t *testing.T) {
	for name, c := range map[string]struct {
		channel  string
		register bool
		want     bool
	}{
		"REGISTER t c":   {"c", true, true},
		"REGISTER t":     {"", true, true},
		"UNREGISTER t c": {"c", false, false},
		"UNREGISTER t":   {"", false, true},
	} {
		p := pending{topic: "t"}
		p.add(c.channel, c.register)
		if got := p.touches(""); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
