// Package fsmpb is the wire form of the raft log's entries. Only package fsm
// knows it; everybody else speaks of registry's commands.
package fsmpb

//go:generate protoc --go_out=. --go_opt=paths=source_relative command.proto
