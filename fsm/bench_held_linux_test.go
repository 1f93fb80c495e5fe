package fsm_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/lookupd/lookupd/fsm"
)

// BenchmarkHeld registers new names at a steady rate, one raft batch of one entry
// at a time, and tells the processor time per command for several times to hold a
// transaction; 0 commits after each batch. One b.N is a batch.
func BenchmarkHeld(b *testing.B) {
	for _, load := range []struct{ commands, perSecond int }{{1, 1000}, {20, 500}, {80, 250}} {
		for _, hold := range []time.Duration{0, 5, 10, 20, 50} {
			hold *= time.Millisecond
			b.Run(fmt.Sprintf("%dx%d/%v", load.commands, load.perSecond, hold), func(b *testing.B) {
				benchmarkHeld(b, load.commands, load.perSecond, hold)
			})
		}
	}
}

func benchmarkHeld(b *testing.B, commands, perSecond int, hold time.Duration) {
	const producers, before = 64, 400 // each with some names from before
	m := newMachine(b)
	fsm.HoldFor(m.FSM, hold)
	name := func(n int) (topic, channel string) { return fmt.Sprint("topic-", n/5), fmt.Sprint("channel-", n%5) }
	for p := range producers {
		first := batch(nodeA, uint64(p+1), open(nodeA, uint64(p+1), fmt.Sprint("p", p)))
		for n := range before {
			topic, channel := name(n)
			first.Commands = append(first.Commands, register(nodeA, uint64(p+1), fmt.Sprint("p", p), topic, channel))
		}
		m.apply(first)
	}
	m.flush()
	logs := make([]*raft.Log, 0, b.N)
	for i, done := 0, 0; i < b.N; i++ {
		m.index++
		entry := batch(nodeA, m.index)
		for range commands {
			p := done % producers
			topic, channel := name(before + done/producers)
			entry.Commands = append(entry.Commands, register(nodeA, uint64(p+1), fmt.Sprint("p", p), topic, channel))
			done++
		}
		logs = append(logs, entryOf(b, m.index, entry))
	}
	ticker := time.NewTicker(time.Second / time.Duration(perSecond))
	defer ticker.Stop()
	b.ResetTimer()
	began := processorTime(b)
	for i := range logs {
		<-ticker.C
		m.ApplyBatch(logs[i : i+1])
	}
	m.flush()
	b.StopTimer()
	b.ReportMetric(float64((processorTime(b)-began).Nanoseconds())/float64(b.N*commands), "cpu-ns/command")
}

// processorTime is what this process has used.
func processorTime(b *testing.B) time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
