package httpapi

import "github.com/lookupd/lookupd/registry"

// The JSON of the answers. The order of the fields is that of nsqlookupd's
// bytes: it encodes maps, so keys of an answer and of /debug are sorted.
type (
	messageJSON struct {
		Message string `json:"message"`
	}
	infoJSON struct {
		Version string `json:"version"`
	}
	topicsJSON struct {
		Topics []string `json:"topics"`
	}
	channelsJSON struct {
		Channels []string `json:"channels"`
	}
	topicJSON struct {
		Channels  []string       `json:"channels"`
		Producers []producerJSON `json:"producers"`
	}
	nodesJSON struct {
		Producers []nodeJSON `json:"producers"`
	}
	producerJSON struct {
		RemoteAddress    string `json:"remote_address"`
		Hostname         string `json:"hostname"`
		BroadcastAddress string `json:"broadcast_address"`
		TCPPort          int    `json:"tcp_port"`
		HTTPPort         int    `json:"http_port"`
		Version          string `json:"version"`
		TopologyZone     string `json:"topology_zone"`
		TopologyRegion   string `json:"topology_region"`
	}
	// nodeJSON has lists of equal length, never null: nsqadmin dies of others.
	nodeJSON struct {
		producerJSON
		Tombstones []bool   `json:"tombstones"`
		Topics     []string `json:"topics"`
	}
	debugJSON struct {
		BroadcastAddress string `json:"broadcast_address"`
		Hostname         string `json:"hostname"`
		HTTPPort         int    `json:"http_port"`
		ID               string `json:"id"`
		LastUpdate       int64  `json:"last_update"`
		TCPPort          int    `json:"tcp_port"`
		Tombstoned       bool   `json:"tombstoned"`
		TombstonedAt     int64  `json:"tombstoned_at"`
		Version          string `json:"version"`
	}
	// errorJSON is an error of the routes under /v1/.
	errorJSON struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Hint    string `json:"hint"`
		Leader  string `json:"leader"`
	}
)

func producerOf(p registry.ProducerInfo) producerJSON {
	return producerJSON{
		RemoteAddress:    p.RemoteAddress,
		Hostname:         p.Hostname,
		BroadcastAddress: p.BroadcastAddress,
		TCPPort:          p.TCPPort,
		HTTPPort:         p.HTTPPort,
		Version:          p.Version,
		TopologyZone:     p.TopologyZone,
		TopologyRegion:   p.TopologyRegion,
	}
}

func topicOf(t registry.Topic) topicJSON {
	answer := topicJSON{Channels: t.Channels, Producers: make([]producerJSON, len(t.Producers))}
	for i, p := range t.Producers {
		answer.Producers[i] = producerOf(p)
	}
	return answer
}

func nodesOf(nodes []registry.Node) nodesJSON {
	answer := nodesJSON{Producers: make([]nodeJSON, len(nodes))}
	for i, n := range nodes {
		answer.Producers[i] = nodeJSON{producerJSON: producerOf(n.ProducerInfo), Tombstones: n.Tombstones, Topics: n.Topics}
	}
	return answer
}
