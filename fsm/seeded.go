package fsm

import "github.com/lookupd/lookupd/store"

// forgetIdleChannels is what seeded.SnapshotForgetsIdleChannels does.
func forgetIdleChannels(c *store.Change) error {
	held := map[store.Name]bool{}
	for _, r := range c.Registrations() {
		held[store.Name{Topic: r.Topic, Channel: r.Channel}] = true
	}
	for _, topic := range c.Topics() {
		for _, channel := range c.Channels(topic) {
			if !held[store.Name{Topic: topic, Channel: channel}] {
				c.DeleteChannel(topic, channel)
			}
		}
	}
	return nil
}
