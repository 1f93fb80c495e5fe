package store

import "github.com/lookupd/lookupd/registry"

// CreateTopic makes the topic exist.
func (c *Change) CreateTopic(topic string) registry.Result {
	if !c.checkNames(topic, "") {
		return registry.ResultUnchanged
	}
	return result(c.addTopic(topic))
}

// CreateChannel makes the channel and its topic exist.
func (c *Change) CreateChannel(topic, channel string) registry.Result {
	if !c.checkNames(topic, channel) || !c.checkNames(channel, "") {
		return registry.ResultUnchanged
	}
	changed := c.addTopic(topic)
	return result(c.addChannel(topic, channel) || changed)
}

// DeleteTopic removes the topic with its channels and all their registrations.
func (c *Change) DeleteTopic(topic string) registry.Result {
	if !registry.ValidName(topic) || c.get(topicsTable, topicKey(topic)) == nil {
		return registry.ResultUnchanged
	}
	c.dropTopic(topic, registry.TopicDeleted)
	return registry.ResultChanged
}

// DeleteChannel removes the channel and its registrations, an ephemeral topic
// stays. It is refused if there is no such channel.
func (c *Change) DeleteChannel(topic, channel string) registry.Result {
	if !registry.ValidName(topic) || !registry.ValidName(channel) ||
		c.get(topicsTable, channelKey(topic, channel)) == nil {
		return registry.ResultChannelNotFound
	}
	c.dropRegistrations(Name{Topic: topic, Channel: channel})
	c.dropChannel(topic, channel, registry.ChannelDeleted)
	return registry.ResultChanged
}

func (c *Change) addTopic(topic string) bool {
	key := topicKey(topic)
	if c.get(topicsTable, key) != nil {
		return false
	}
	c.put(topicsTable, key, nil, []byte(noFlags))
	c.meta.topics++
	c.emit(registry.Event{Kind: registry.TopicCreated, Topic: topic})
	return true
}

func (c *Change) addChannel(topic, channel string) bool {
	key := channelKey(topic, channel)
	if c.get(topicsTable, key) != nil {
		return false
	}
	c.put(topicsTable, key, nil, []byte(noFlags))
	c.meta.channels++
	c.emit(registry.Event{Kind: registry.ChannelCreated, Topic: topic, Channel: channel})
	return true
}

// dropIfAbandoned removes an ephemeral topic or channel that nobody holds.
func (c *Change) dropIfAbandoned(name Name) bool {
	last, key := name.Topic, topicKey(name.Topic)
	if name.Channel != "" {
		last, key = name.Channel, channelKey(name.Topic, name.Channel)
	}
	if !registry.IsEphemeral(last) || c.get(topicsTable, key) == nil ||
		c.any(topicsTable, registrationPrefix(name.Topic, name.Channel)) {
		return false
	}
	if name.Channel == "" {
		c.dropTopic(name.Topic, registry.TopicExpired)
	} else {
		c.dropChannel(name.Topic, name.Channel, registry.ChannelExpired)
	}
	return true
}

// dropChannel removes a channel that has no registrations; why is told.
func (c *Change) dropChannel(topic, channel string, why registry.EventKind) {
	c.remove(topicsTable, channelKey(topic, channel), []byte(noFlags))
	c.meta.channels--
	c.emit(registry.Event{Kind: why, Topic: topic, Channel: channel})
}

// dropTopic removes all of a topic. One event tells it all, and why.
func (c *Change) dropTopic(topic string, why registry.EventKind) {
	for _, channel := range c.Channels(topic) {
		c.dropRegistrations(Name{Topic: topic, Channel: channel})
		c.remove(topicsTable, channelKey(topic, channel), []byte(noFlags))
		c.meta.channels--
	}
	c.dropRegistrations(Name{Topic: topic})
	c.remove(topicsTable, topicKey(topic), []byte(noFlags))
	c.meta.topics--
	c.emit(registry.Event{Kind: why, Topic: topic})
}

// dropRegistrations removes the registrations of the channel, or the topic's
// own if the channel is "", without an event.
func (c *Change) dropRegistrations(name Name) {
	for _, p := range c.offerers(name) {
		key := registrationKey(name.Topic, name.Channel, p)
		h, old, _ := c.holding(topicsTable, key)
		c.removeHolding(key, name, p, old, h)
	}
}

// offerers returns the producers with a registration of name.
func (v *View) offerers(name Name) []registry.ProducerID {
	var producers []registry.ProducerID
	for p := range v.rows(topicsTable, registrationPrefix(name.Topic, name.Channel)) {
		producers = append(producers, registry.ProducerID(p))
	}
	return producers
}
