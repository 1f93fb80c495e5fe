package load

import (
	"fmt"
	"math/rand/v2"
)

// names are the topics and channels of a round. A few are used much, so that
// clients meet on them; some are ephemeral.
type names struct {
	topics   []string
	channels []string
}

// maxChannels is the most channels of one topic.
const maxChannels = 6

func newNames(topics int) names {
	var n names
	for i := range topics {
		name := fmt.Sprintf("t%d", i)
		if i%5 == 4 {
			name += "#ephemeral"
		}
		n.topics = append(n.topics, name)
	}
	for i := range maxChannels {
		name := fmt.Sprintf("c%d", i)
		if i%3 == 2 {
			name += "#ephemeral"
		}
		n.channels = append(n.channels, name)
	}
	return n
}

// topic prefers the first ones.
func (n names) topic(r *rand.Rand) string {
	return n.topics[min(r.IntN(len(n.topics)), r.IntN(len(n.topics)))]
}

func (n names) channel(r *rand.Rand) string { return n.channels[r.IntN(len(n.channels))] }

// channelOrNone is "" now and then.
func (n names) channelOrNone(r *rand.Rand) string {
	if r.IntN(3) == 0 {
		return ""
	}
	return n.channel(r)
}
