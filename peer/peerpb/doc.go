// Package peerpb is what peers of one cluster say to each other, as protobuf
// messages: the handshake and the calls. It holds no code but what protoc makes
// of peer.proto.
package peerpb

//go:generate protoc --go_out=. --go_opt=paths=source_relative peer.proto
