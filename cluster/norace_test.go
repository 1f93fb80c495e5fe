//go:build !race

package cluster_test

const raftTimeScale = 1
