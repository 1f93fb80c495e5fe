package cluster

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/lookupd/lookupd/registry"
)

// batchCounters count what became of this peer's batches.
type batchCounters struct{ committed, givenBack, stopped prometheus.Counter }

func newBatchCounters(reg prometheus.Registerer) batchCounters {
	batches := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "lookupd_batches_total", Help: "Batches of this peer by result."}, []string{"result"})
	reg.MustRegister(batches)
	return batchCounters{
		committed: batches.WithLabelValues("committed"), givenBack: batches.WithLabelValues("given_back"), stopped: batches.WithLabelValues("stopped"),
	}
}

// outcome is what became of a command.
type outcome int

const (
	outcomeCommitted outcome = iota
	outcomeUnchanged
	outcomeRefused
	outcomeUnavailable
	outcomes
)

func (o outcome) String() string {
	return [outcomes]string{"committed", "unchanged", "refused", "unavailable"}[o]
}

func outcomeOf(r registry.Result) outcome {
	switch r {
	case registry.ResultChanged:
		return outcomeCommitted
	case registry.ResultUnchanged:
		return outcomeUnchanged
	}
	return outcomeRefused
}

// kind is a command's type, as a number.
type kind int

const (
	kindOther kind = iota // one that this file does not know yet
	kindOpenSession
	kindCloseSession
	kindEndOrphan
	kindSuspendSession
	kindResumeSession
	kindRegister
	kindUnregister
	kindCreateTopic
	kindDeleteTopic
	kindCreateChannel
	kindDeleteChannel
	kindTombstone
	kindEndTombstone
	kindNoop
	kinds
)

func (k kind) String() string {
	return [kinds]string{
		"other", "open_session", "close_session", "end_orphan", "suspend_session", "resume_session", "register", "unregister",
		"create_topic", "delete_topic", "create_channel", "delete_channel", "tombstone", "end_tombstone", "noop",
	}[k]
}

func kindOf(c registry.Command) kind {
	switch c.(type) {
	case registry.OpenSession:
		return kindOpenSession
	case registry.CloseSession:
		return kindCloseSession
	case registry.EndOrphan:
		return kindEndOrphan
	case registry.SuspendSession:
		return kindSuspendSession
	case registry.ResumeSession:
		return kindResumeSession
	case registry.Register:
		return kindRegister
	case registry.Unregister:
		return kindUnregister
	case registry.CreateTopic:
		return kindCreateTopic
	case registry.DeleteTopic:
		return kindDeleteTopic
	case registry.CreateChannel:
		return kindCreateChannel
	case registry.DeleteChannel:
		return kindDeleteChannel
	case registry.Tombstone:
		return kindTombstone
	case registry.EndTombstone:
		return kindEndTombstone
	case registry.Noop:
		return kindNoop
	}
	return kindOther
}

// commandCounters count this peer's commands. All exist from the start, so that
// none is looked up by its labels when a batch is done.
type commandCounters [kinds][outcomes]prometheus.Counter

func newCommandCounters(reg prometheus.Registerer) (all commandCounters) {
	commands := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "lookupd_commands_total", Help: "Changes that this peer had for the log, by what became of them.",
	}, []string{"kind", "result"})
	reg.MustRegister(commands)
	for k := range kinds {
		for o := range outcomes {
			all[k][o] = commands.WithLabelValues(k.String(), o.String())
		}
	}
	return all
}

func (all *commandCounters) add(commands []registry.Command, o outcome) {
	for _, c := range commands {
		all[kindOf(c)][o].Inc()
	}
}
