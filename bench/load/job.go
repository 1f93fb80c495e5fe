package load

import "time"

// Job is one of its fields.
type Job struct {
	Get      *Get      `json:",omitempty"`
	Connect  *Connect  `json:",omitempty"`
	Declare  *Declare  `json:",omitempty"`
	Register *Register `json:",omitempty"`
	Dial     *Dial     `json:",omitempty"`
	Fill     *Fill     `json:",omitempty"`
	Range    *Range    `json:",omitempty"`
	Put      *Put      `json:",omitempty"`
}

// Window says when a closed loop counts: for For, after Warm.
type Window struct{ Warm, For time.Duration }

// Get asks over HTTP, each connection as soon as it has its answer.
type Get struct {
	Window
	Addresses   []string // connections are dealt out in turn
	Connections int
	Path        string // a topic's name is added to it if there are Topics
	Topics      int    // drawn at random from the first so many
	// Want is how often Contains must be in an answer; 0 looks at the status alone.
	Contains string
	Want     int
	// Once asks for each topic once, whatever the Window.
	Once bool
}

// Connect opens V1 sessions and keeps them, pinging.
type Connect struct {
	Addresses []string
	Producers int
	Name      string // of the producers, numbers are added
	// Everywhere gives each producer a session at each address; otherwise
	// producers are dealt out in turn.
	Everywhere bool
}

// Declare registers topics of the data set (see Topic) through the sessions,
// several lines at a time.
type Declare struct {
	From, To int // topics
	Channels int // of each
	Holders  int // producers of each
}

// Register sends one REGISTER after the other on each session and counts OKs.
type Register struct {
	Window
	// Fresh starts the names of what nobody has registered yet; "" repeats the
	// same few names, which are registered before the window opens.
	Fresh string
	// PerSession ends a session's loop after so many, if it is not 0; then
	// the Window does not matter.
	PerSession int
	// Shared makes the names topics of so many, which sessions have in common,
	// instead of channels of their own.
	Shared int
	// Reconnect first closes all sessions and opens them again, as part of what
	// is measured.
	Reconnect bool
	Sessions  int // only the first so many, 0 for all
}

// Dial makes etcd clients, one connection each, and keeps them.
type Dial struct {
	Endpoints []string
	Clients   int
}

// Fill puts the data set's keys, in transactions, as fast as it goes.
type Fill Declare

// Range asks for all keys of a topic with each client.
type Range struct {
	Window
	Topics       int
	Serializable bool // not linearizable
	Want         int  // keys
}

// Put writes fresh keys with each client.
type Put struct {
	Window
	Fresh string // starts the keys
}

// Result is what came of a job.
type Result struct {
	Ops        int // that ended within the window
	Failed     int
	FirstError string
	Took       time.Duration // the window, or the whole job where there is none
	P50, P99   time.Duration
	Max        time.Duration
}

// Rate returns operations per second.
func (r Result) Rate() float64 {
	if r.Took <= 0 {
		return 0
	}
	return float64(r.Ops) / r.Took.Seconds()
}
