package session

import (
	"cmp"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/registry"
)

// Two nsqds that announce one broadcast address and port are one producer to the
// registry: the newer hides the other. Each sees that as a connection that ends
// now and then, so nobody else can tell.

const (
	// rivalsWithin is how soon who was replaced must come back to be a rival: an
	// nsqd that moved does not.
	rivalsWithin = 2 * time.Minute
	// rivalsFor is how long they are told after they were last seen.
	rivalsFor  = 5 * time.Minute
	mostRivals = 1000 // producers that are noted
	// compareEvery is how often the sessions' host names are compared with the
	// state's: as often as an nsqd sends a PING, without which nothing is proven.
	compareEvery = 15 * time.Second
)

// rivals notes which producers are two nsqds.
type rivals struct {
	mu   sync.Mutex
	of   map[registry.ProducerID]*rivalry
	next time.Duration // when sessions are compared with the state again
}

// rivalry is what is known of one producer. Times are the Manager's.
type rivalry struct {
	replaced string        // who was replaced last
	at       time.Duration // when that was
	oddHost  string        // the host name that the state has, "" if it is the own one
	odd      time.Duration // since when
	two      [2]string     // who they are, "" if only one was seen
	proven   time.Duration // when both were last seen
}

// rivalLocked returns the note on a producer, nil if there is no room.
func (r *rivals) rivalLocked(p registry.ProducerID, now time.Duration) *rivalry {
	if note := r.of[p]; note != nil {
		return note
	}
	for id, note := range r.of {
		if last := max(note.at, note.odd, note.proven); len(r.of) >= mostRivals && now-last > rivalsWithin {
			delete(r.of, id)
		}
	}
	if len(r.of) >= mostRivals {
		return nil
	}
	if r.of == nil {
		r.of = map[registry.ProducerID]*rivalry{}
	}
	note := &rivalry{}
	r.of[p] = note
	return note
}

// replaced notes that one connection of a producer took another's place.
func (r *rivals) replaced(p registry.ProducerID, old, by registry.ProducerInfo, now time.Duration) {
	before, after := whence(old), whence(by)
	if before == after {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	note := r.rivalLocked(p, now)
	if note == nil {
		return
	}
	if note.replaced == after && now-note.at < rivalsWithin {
		note.proven, note.two = now, [2]string{before, after}
	}
	note.replaced, note.at = before, now
}

// other notes whether the state has a later session of the producer, of another
// host, than the one on this peer, which last sent a PING at a time. It is a rival
// if it sends one afterwards.
func (r *rivals) other(own registry.ProducerInfo, state registry.ProducerInfo, ping, now time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if own.Hostname == state.Hostname {
		if note := r.of[own.ID()]; note != nil {
			note.oddHost = ""
		}
		return
	}
	note := r.rivalLocked(own.ID(), now)
	switch {
	case note == nil:
	case note.oddHost != state.Hostname:
		note.odd, note.oddHost = now, state.Hostname
	case ping > note.odd:
		note.proven, note.two = now, [2]string{whence(own), whence(state)}
	}
}

// seen returns those that are two nsqds, by producer.
func (r *rivals) seen(now time.Duration) (shared []cluster.SharedAddress) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for p, note := range r.of {
		if note.two[0] != "" && now-note.proven < rivalsFor {
			slices.Sort(note.two[:])
			shared = append(shared, cluster.SharedAddress{Producer: p, First: note.two[0], Second: note.two[1]})
		}
	}
	slices.SortFunc(shared, func(a, b cluster.SharedAddress) int { return cmp.Compare(a.Producer, b.Producer) })
	return shared
}

// due reports whether it is time to compare again, and notes that it is done.
func (r *rivals) due(now time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now < r.next {
		return false
	}
	r.next = now + compareEvery
	return true
}

// whence tells nsqds apart: host name and source address, without the port, which
// each connection has of its own.
func whence(p registry.ProducerInfo) string {
	host, _, err := net.SplitHostPort(p.RemoteAddress)
	if err != nil {
		host = p.RemoteAddress
	}
	return p.Hostname + " (" + host + ")"
}

// SharedAddresses returns the producers that are two nsqds, as far as this peer's
// connections show.
func (m *Manager) SharedAddresses() []cluster.SharedAddress {
	if m.rivals.due(m.now()) {
		all := m.all()
		err := m.cfg.Cluster.View(func(v View) error {
			for _, s := range all {
				if state, _, ok := v.Producer(s.producer); ok {
					m.rivals.other(s.info, state, time.Duration(s.lastPing.Load()), m.now())
				}
			}
			return nil
		})
		if err != nil {
			m.log.Debug("sessions are not compared with the state", "err", err)
		}
	}
	return m.rivals.seen(m.now())
}
