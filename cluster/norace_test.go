//go:build !race

package cluster_test

// raftTimeScale stretches raft's time-outs: these tests show no speed, and a busy
// machine must not change leaders beneath them. e2e has the times of production.
const raftTimeScale = 3
