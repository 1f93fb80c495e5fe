package registry

// EventKind says what an Event tells; numbers are appended, never reused.
type EventKind uint8

// Kinds of events.
const (
	TopicCreated EventKind = iota + 1
	TopicDeleted
	ChannelCreated
	ChannelDeleted
	ProducerAdded   // the producer offers Topic (and Channel, if given) now
	ProducerRemoved // it does not any more
	TombstoneSet
	TombstoneEnded
	SessionOpened
	SessionClosed
	SessionSuspended
	SessionResumed
	// An ephemeral topic or channel went with its last producer. Nobody deleted
	// it, and nobody declares it any more.
	TopicExpired
	ChannelExpired
)

// Event is one thing that a command changed, published after it was applied.
// Fields that its kind does not need are empty.
type Event struct {
	Kind           EventKind
	Topic, Channel string
	Producer       ProducerID
	Session        SessionID
	// Origin is the peer whose batch held the command.
	Origin NodeID
}

// Change is all that one log entry changed, in order.
type Change struct {
	Index  uint64
	Events []Event
}
