//go:build race

package cluster_test

// raftTimeScale stretches raft's time-outs: the race detector makes all slower.
const raftTimeScale = 5
