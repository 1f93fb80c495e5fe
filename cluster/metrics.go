package cluster

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lookupd/lookupd/registry"
)

// Metrics counts what a Node does.
type Metrics struct {
	batchCommands  prometheus.Histogram
	batchDuration  prometheus.Histogram
	batchRetries   prometheus.Counter
	batches        batchCounters
	commands       commandCounters
	logSync        prometheus.Histogram
	apply          prometheus.Histogram
	barriersOK     prometheus.Counter
	barriersFailed prometheus.Counter
	barrierSeconds prometheus.Histogram
	rounds         *prometheus.CounterVec
	roundSeconds   *prometheus.HistogramVec
	roundReaders   *prometheus.HistogramVec
	leaderChanges  prometheus.Counter
	hashChecks     *prometheus.CounterVec
}

// NewMetrics makes a Node's metrics and registers them.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	seconds := prometheus.ExponentialBuckets(0.0001, 2, 16) // 0.1 ms to 3 s
	m := &Metrics{
		batchCommands:  prometheus.NewHistogram(prometheus.HistogramOpts{Name: "lookupd_batch_commands", Help: "Commands in one committed batch of this peer.", Buckets: prometheus.ExponentialBuckets(1, 2, 12)}),
		batchDuration:  prometheus.NewHistogram(prometheus.HistogramOpts{Name: "lookupd_batch_commit_duration_seconds", Help: "From proposing a batch of this peer to its result.", Buckets: seconds}),
		batchRetries:   prometheus.NewCounter(prometheus.CounterOpts{Name: "lookupd_batch_retries_total", Help: "Attempts to commit a batch that had no result."}),
		logSync:        prometheus.NewHistogram(prometheus.HistogramOpts{Name: "lookupd_log_sync_duration_seconds", Help: "A write to the log of this peer, until it is on disk.", Buckets: seconds}),
		apply:          prometheus.NewHistogram(prometheus.HistogramOpts{Name: "lookupd_apply_duration_seconds", Help: "The work of one transaction that applies log entries to the state.", Buckets: seconds}),
		barrierSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "lookupd_read_barrier_duration_seconds", Help: "Wait of a linearizable reader.", Buckets: seconds}),
		rounds:         prometheus.NewCounterVec(prometheus.CounterOpts{Name: "lookupd_read_index_rounds_total", Help: "Rounds of the read index."}, []string{"role", "result"}),
		roundSeconds:   prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "lookupd_read_index_round_duration_seconds", Help: "Duration of a round.", Buckets: seconds}, []string{"role"}),
		roundReaders:   prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "lookupd_read_index_readers", Help: "Readers that shared a round.", Buckets: prometheus.ExponentialBuckets(1, 2, 11)}, []string{"role"}),
		leaderChanges:  prometheus.NewCounter(prometheus.CounterOpts{Name: "lookupd_raft_leader_changes_total", Help: "Changes of leader that this peer saw."}),
		hashChecks:     prometheus.NewCounterVec(prometheus.CounterOpts{Name: "lookupd_state_hash_checks_total", Help: "Comparisons of this peer's state with the others'."}, []string{"result"}),
	}
	// Prometheus sees the first of these only if they were 0 before.
	for _, result := range []string{"equal", "different"} {
		m.hashChecks.WithLabelValues(result)
	}
	barriers := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "lookupd_read_barriers_total", Help: "Read barriers by result."}, []string{"result"})
	m.barriersOK, m.barriersFailed = barriers.WithLabelValues("ok"), barriers.WithLabelValues("no_quorum")
	m.batches, m.commands = newBatchCounters(reg), newCommandCounters(reg)
	reg.MustRegister(m.logSync, m.apply, m.batchCommands, m.batchDuration, m.batchRetries, barriers, m.barrierSeconds,
		m.rounds, m.roundSeconds, m.roundReaders, m.leaderChanges, m.hashChecks)
	return m
}

func (m *Metrics) batchDone(commands []registry.Command, results []registry.Result, took time.Duration) {
	m.batchCommands.Observe(float64(len(commands)))
	m.batchDuration.Observe(took.Seconds())
	if len(results) != len(commands) { // another process has this peer's identity
		m.batchStopped(commands)
		return
	}
	m.batches.committed.Inc()
	for i, c := range commands {
		m.commands[kindOf(c)][outcomeOf(results[i])].Inc()
	}
}

// batchStopped: this peer stops, and does not know whether the batch is committed.
func (m *Metrics) batchStopped(commands []registry.Command) {
	m.batches.stopped.Inc()
	m.commandsUnavailable(commands)
}

// batchGivenBack: the batch is in no log, and its commands go into another one.
func (m *Metrics) batchGivenBack() { m.batches.givenBack.Inc() }

func (m *Metrics) commandsRefused(commands []registry.Command) {
	m.commands.add(commands, outcomeRefused)
}

func (m *Metrics) commandsUnavailable(commands []registry.Command) {
	m.commands.add(commands, outcomeUnavailable)
}

func (m *Metrics) logSynced(took time.Duration) { m.logSync.Observe(took.Seconds()) }

func (m *Metrics) applied(took time.Duration) { m.apply.Observe(took.Seconds()) }

func (m *Metrics) batchRetried() { m.batchRetries.Inc() }

func (m *Metrics) barrierDone(took time.Duration) {
	m.barriersOK.Inc()
	m.barrierSeconds.Observe(took.Seconds())
}

func (m *Metrics) barrierFailed() { m.barriersFailed.Inc() }

func (m *Metrics) hashesCompared(result string) { m.hashChecks.WithLabelValues(result).Inc() }

func (m *Metrics) leaderChanged() { m.leaderChanges.Inc() }

func (m *Metrics) leaderRoundRan(readers int, took time.Duration, err error) {
	m.roundRan("leader", readers, took, err)
}

func (m *Metrics) followerRoundRan(readers int, took time.Duration, err error) {
	m.roundRan("follower", readers, took, err)
}

func (m *Metrics) roundRan(role string, readers int, took time.Duration, err error) {
	result := "ok"
	if err != nil {
		result = "failed"
	}
	m.rounds.WithLabelValues(role, result).Inc()
	m.roundSeconds.WithLabelValues(role).Observe(took.Seconds())
	m.roundReaders.WithLabelValues(role).Observe(float64(readers))
}
