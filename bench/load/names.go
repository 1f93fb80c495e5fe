package load

import (
	"fmt"
	"strconv"
)

// Topic names topic i of the data set. All names have one length, so that all
// answers have.
func Topic(i int) string { return fmt.Sprintf("bench.topic.%06d", i) }

// Channel names channel i of any topic.
func Channel(i int) string { return fmt.Sprintf("channel-%d", i) }

// Holder returns which of so many producers is holder i of a topic.
func Holder(topic, i, holders, producers int) int { return (topic*holders + i) % producers }

// ProducerHost is a producer's broadcast address.
func ProducerHost(name string, i int) string { return fmt.Sprintf("%s%05d.example", name, i) }

// keyPrefix of all etcd keys of a topic; the slash keeps longer names out.
func keyPrefix(topic string) string { return "/nsq/" + topic + "/" }

const channelsPerFreshTopic = 50

// freshNames returns the n-th topic and channel that a session registers anew.
func freshNames(start string, session, n int) (topic, channel string) {
	topic = start + "." + strconv.Itoa(session) + "." + strconv.Itoa(n/channelsPerFreshTopic)
	return topic, Channel(n % channelsPerFreshTopic)
}

// sharedTopic is the n-th topic of a session that declares some of so many.
func sharedTopic(session, n, topics int) string {
	const stride = 7 // so that sessions meet in different sets
	return fmt.Sprintf("bench.shared.%04d", (session+stride*n)%topics)
}
