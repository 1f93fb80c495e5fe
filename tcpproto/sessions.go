package tcpproto

import (
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/session"
)

// Sessions begins the session of a producer that has identified itself. Open
// may take as long as nsqd may be kept waiting, no longer. end may be called at
// any time, by any goroutine, and must not block; it ends the connection. Errors
// are session's.
type Sessions interface {
	Open(info registry.ProducerInfo, end func(reason string)) (Session, error)
}

// Session is what a connection tells of its producer. A nil error means that
// the change is committed; others are session's. Register and Unregister take as
// long as nsqd may be kept waiting, no longer; the others do not wait.
type Session interface {
	Register(topic, channel string) error
	Unregister(topic, channel string) error
	// AnsweredAt returns the log index behind the last nil of these two.
	AnsweredAt() uint64
	Ping()
	Close()
}

// Over returns the sessions of m.
func Over(m *session.Manager) Sessions { return manager{m} }

type manager struct{ *session.Manager }

var _ Session = (*session.Session)(nil)

func (m manager) Open(info registry.ProducerInfo, end func(reason string)) (Session, error) {
	s, err := m.Manager.Open(info, end)
	if err != nil {
		return nil, err
	}
	return s, nil
}
