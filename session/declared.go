package session

import (
	"cmp"
	"slices"
	"unique"
)

// declared is what the nsqd at the other end has registered on its connection.
// A declared channel's topic is declared too.
type declared struct {
	topics map[string]*declaredTopic
	names  int // topics and channels
}

type declaredTopic struct {
	mark
	channels []declaredChannel // sorted by name
}

type declaredChannel struct {
	name unique.Handle[string] // thousands of topics have the same few
	mark
}

// mark says where in the log a declared name was held. A name that others
// delete later is not declared any more: only a new REGISTER brings it back.
type mark struct {
	since   uint64 // index at which it was held, 0 if that is not known yet
	deleted uint64 // while since is 0: the last deletion seen meanwhile
}

// endsAt notes a deletion at index; it reports whether the name went with it.
func (m *mark) endsAt(index uint64) (gone bool) {
	if m.since == 0 {
		m.deleted = max(m.deleted, index)
		return false
	}
	return m.since < index
}

// heldAt notes that the name was held at index; it reports whether a later
// deletion has already been seen.
func (m *mark) heldAt(index uint64) (gone bool) {
	if m.since == 0 && m.deleted > index {
		return true
	}
	*m = mark{since: max(m.since, index)}
	return false
}

func (t *declaredTopic) find(channel string) (int, bool) {
	return slices.BinarySearchFunc(t.channels, channel, func(c declaredChannel, name string) int {
		return cmp.Compare(c.name.Value(), name)
	})
}

func (d *declared) has(topic, channel string) bool {
	t := d.topics[topic]
	if t == nil || channel == "" {
		return t != nil
	}
	_, found := t.find(channel)
	return found
}

// missing returns how many names add would add.
func (d *declared) missing(topic, channel string) int {
	n := 0
	if !d.has(topic, "") {
		n++
	}
	if channel != "" && !d.has(topic, channel) {
		n++
	}
	return n
}

// add declares a name. What was known of it, and of the topic that it brings,
// counts no more if renew is set: it is about to be proposed.
func (d *declared) add(topic, channel string, renew bool) {
	t := d.topics[topic]
	if t == nil {
		t = &declaredTopic{}
		if d.topics == nil {
			d.topics = make(map[string]*declaredTopic)
		}
		d.topics[topic] = t
		d.names++
	}
	if renew {
		t.mark = mark{}
	}
	if channel == "" {
		return
	}
	i, found := t.find(channel)
	if !found {
		t.channels = slices.Insert(t.channels, i, declaredChannel{name: unique.Make(channel)})
		d.names++
	} else if renew {
		t.channels[i].mark = mark{}
	}
}

// remove withdraws a channel, or a topic with all its channels.
func (d *declared) remove(topic, channel string) {
	t := d.topics[topic]
	if t == nil {
		return
	}
	if channel == "" {
		d.names -= 1 + len(t.channels)
		delete(d.topics, topic)
		return
	}
	if i, found := t.find(channel); found {
		t.channels = slices.Delete(t.channels, i, i+1)
		d.names--
	}
}

// heldAt notes that the state held a declared topic, or channel, at index. Who
// notes both notes the topic last: one that was deleted since stays as long as a
// channel of it is declared.
func (d *declared) heldAt(topic, channel string, index uint64) {
	t := d.topics[topic]
	if t == nil {
		return
	}
	if channel != "" {
		if i, found := t.find(channel); found && t.channels[i].heldAt(index) {
			d.remove(topic, channel)
		}
		return
	}
	if t.heldAt(index) && len(t.channels) == 0 {
		d.remove(topic, "")
	}
}

// deletedAt notes that others deleted a channel, or a topic with its channels.
func (d *declared) deletedAt(topic, channel string, index uint64) {
	t := d.topics[topic]
	if t == nil {
		return
	}
	if channel != "" {
		if i, found := t.find(channel); found && t.channels[i].endsAt(index) {
			d.remove(topic, channel)
		}
		return
	}
	before := len(t.channels)
	kept := t.channels[:0]
	for _, c := range t.channels {
		if !c.endsAt(index) {
			kept = append(kept, c)
		}
	}
	clear(t.channels[len(kept):])
	t.channels = kept
	d.names -= before - len(kept)
	if t.endsAt(index) {
		if len(kept) == 0 {
			d.remove(topic, "")
		} else { // the REGISTER of a channel that is under way brings it back
			t.mark = mark{deleted: index}
		}
	}
}

// compare notes that of the declared names the state at index has those for
// which has is true: the others were deleted, unless they are on their way.
func (d *declared) compare(index uint64, has func(topic, channel string) bool) {
	for topic, t := range d.topics {
		if !has(topic, "") {
			d.deletedAt(topic, "", index)
			continue
		}
		for _, c := range slices.Clone(t.channels) {
			if name := c.name.Value(); !has(topic, name) {
				d.deletedAt(topic, name, index)
			}
		}
	}
}

// again returns all that is declared as changes to propose, none known to be held.
func (d *declared) again() outbox {
	var box outbox
	for topic, t := range d.topics {
		t.mark = mark{}
		box.add(topic, "", true)
		for i := range t.channels {
			t.channels[i].mark = mark{}
			box.add(topic, t.channels[i].name.Value(), true)
		}
	}
	return box
}
