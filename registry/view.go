package registry

// Topic is what /lookup answers: its channels and the producers that offer it
// and show, both sorted.
type Topic struct {
	Channels  []string
	Producers []ProducerInfo
}

// Node is a producer with the topics that it offers and shows, sorted, and for
// each whether a tombstone hides it there. Both lists have the same length.
type Node struct {
	ProducerInfo
	Topics     []string
	Tombstones []bool
}

// SessionState is a session as the registry knows it.
type SessionState struct {
	ID        SessionID
	Suspended bool
}

// Registration is one row of /debug: a producer's offer of a topic, or of a
// channel if Channel is not "", and the peers that hold it.
type Registration struct {
	Topic, Channel string
	Producer       ProducerInfo
	Holders        []NodeID
	Tombstoned     bool
	TombstoneSetAt uint64 // log index, 0 if never
}

// Counts are the sizes of the registry.
type Counts struct {
	Topics        int `json:"topics"`
	Channels      int `json:"channels"`
	Producers     int `json:"producers"`
	Sessions      int `json:"sessions"`
	Registrations int `json:"registrations"` // of producers, for topics and for channels
}
