package registry

import "errors"

// Command is a change of the registry that the cluster agrees on. Its effect
// depends on the command and the state alone: no command carries a time.
type Command interface{ isCommand() }

type (
	// OpenSession stores the producer's info and makes Session the one session
	// that the producer has on Session.Node. An older one is replaced; what the
	// peer holds for the producer stays held.
	OpenSession struct {
		Session  SessionID
		Producer ProducerInfo
	}
	// CloseSession ends Session unless a newer one of the producer is open on
	// the same peer; the peer then holds nothing more for the producer.
	CloseSession struct {
		Session  SessionID
		Producer ProducerID
	}
	// EndOrphan is the leader's CloseSession for a session whose peer is lost. It
	// is refused unless it is applied in Term, in which the leader decided it: a
	// later leader counts anew.
	EndOrphan struct {
		Session  SessionID
		Producer ProducerID
		Term     uint64
	}
	// SuspendSession marks Session as silent: it no longer shows its producer.
	SuspendSession struct {
		Session  SessionID
		Producer ProducerID
	}
	// ResumeSession ends SuspendSession.
	ResumeSession struct {
		Session  SessionID
		Producer ProducerID
	}
	// Register makes the session's peer hold the topic, and the channel unless
	// it is "", for the producer.
	Register struct {
		Session        SessionID
		Producer       ProducerID
		Topic, Channel string
	}
	// Unregister lets go of the channel, or of the topic and all its channels
	// if Channel is "". The names stay.
	Unregister struct {
		Session        SessionID
		Producer       ProducerID
		Topic, Channel string
	}
	// CreateTopic, DeleteTopic, CreateChannel and DeleteChannel are HTTP writes.
	CreateTopic struct{ Topic string }
	// DeleteTopic removes the topic with its channels and registrations.
	DeleteTopic struct{ Topic string }
	// CreateChannel creates the topic too.
	CreateChannel struct{ Topic, Channel string }
	// DeleteChannel is refused with ErrChannelNotFound if there is none.
	DeleteChannel struct{ Topic, Channel string }
	// Tombstone hides from Topic the producers whose broadcast address and HTTP
	// port are Node. Setting it again starts its time anew.
	Tombstone struct{ Topic, Node string }
	// EndTombstone ends the tombstone that was set at log index SetAt, and no
	// later one.
	EndTombstone struct {
		Topic    string
		Producer ProducerID
		SetAt    uint64
	}
	// Noop changes nothing. It is the first command of each leadership: a
	// leader may serve reads once its state has applied an entry of its term.
	Noop struct{}
)

func (OpenSession) isCommand()    {}
func (CloseSession) isCommand()   {}
func (EndOrphan) isCommand()      {}
func (SuspendSession) isCommand() {}
func (ResumeSession) isCommand()  {}
func (Register) isCommand()       {}
func (Unregister) isCommand()     {}
func (CreateTopic) isCommand()    {}
func (DeleteTopic) isCommand()    {}
func (CreateChannel) isCommand()  {}
func (DeleteChannel) isCommand()  {}
func (Tombstone) isCommand()      {}
func (EndTombstone) isCommand()   {}
func (Noop) isCommand()           {}

// Refusals of a command by the state. A refused command changed nothing.
var (
	// ErrSessionNotOpen: the session was closed, replaced, or never opened.
	ErrSessionNotOpen = errors.New("session is not open")
	// ErrChannelNotFound: DeleteChannel of what does not exist.
	ErrChannelNotFound = errors.New("channel not found")
	// ErrForeignSession: a peer sent a command for another peer's session.
	ErrForeignSession = errors.New("session belongs to another peer")
	// ErrTermEnded: a leader's command was applied after its term.
	ErrTermEnded = errors.New("the leader that decided this leads no more")
)

// Result is a command's outcome, a number so that it crosses wires and is
// stored; numbers are appended, never reused.
type Result uint8

// Outcomes.
const (
	ResultUnchanged       Result = 0 // done, and the state was so already
	ResultChanged         Result = 1
	ResultSessionNotOpen  Result = 2
	ResultChannelNotFound Result = 3
	ResultForeignSession  Result = 4
	ResultTermEnded       Result = 5
)

// Err returns the refusal that r means, or nil.
func (r Result) Err() error {
	switch r {
	case ResultUnchanged, ResultChanged:
		return nil
	case ResultSessionNotOpen:
		return ErrSessionNotOpen
	case ResultChannelNotFound:
		return ErrChannelNotFound
	case ResultForeignSession:
		return ErrForeignSession
	case ResultTermEnded:
		return ErrTermEnded
	}
	return errors.New("unknown result of a newer version")
}
