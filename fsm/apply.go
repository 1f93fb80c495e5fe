package fsm

import (
	"fmt"

	"github.com/hashicorp/raft"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
)

// Apply applies one entry; raft calls it only to recover a cluster by hand.
func (f *FSM) Apply(log *raft.Log) any {
	return f.ApplyBatch([]*raft.Log{log})[0]
}

// ApplyBatch applies entries in one transaction. The response to a command is a
// BatchResult, that to a configuration is nil. Entries that the state has
// already are skipped; their response is Stale.
func (f *FSM) ApplyBatch(logs []*raft.Log) []any {
	responses := make([]any, len(logs))
	if f.failed == nil {
		if err := f.apply(logs, responses); err != nil {
			f.fatal(err)
		}
	}
	if f.failed != nil {
		for i := range responses {
			responses[i] = f.failed
		}
	}
	return responses
}

func (f *FSM) apply(logs []*raft.Log, responses []any) error {
	batches := make([]Batch, len(logs))
	for i, log := range logs {
		if log.Type != raft.LogCommand {
			continue
		}
		var err error
		if batches[i], err = DecodeBatch(log.Data); err != nil {
			return fmt.Errorf("log entry %d: %w", log.Index, err)
		}
	}
	var (
		changes              []registry.Change
		index, term, configs uint64
	)
	err := f.state.Load().Update(func(c *store.Change) error {
		for i, log := range logs {
			if applied, _ := c.Applied(); log.Index <= applied {
				responses[i] = skipped(log)
				continue
			}
			c.Entry(log.Index, log.Term, batches[i].Origin)
			switch log.Type {
			case raft.LogCommand:
				responses[i] = applyBatch(c, log.Index, batches[i])
			case raft.LogConfiguration:
				c.SetConfiguration()
			}
			if events := c.TakeEvents(); len(events) > 0 {
				changes = append(changes, registry.Change{Index: log.Index, Events: events})
			}
		}
		index, term = c.Applied()
		configs = c.ConfigurationIndex()
		return nil
	})
	if err != nil {
		return fmt.Errorf("apply log entries %d to %d: %w", logs[0].Index, logs[len(logs)-1].Index, err)
	}
	f.publish(changes, index, term, configs)
	return nil
}

// publish tells what was committed: the feed first, so that who waited for the
// index finds its changes there.
func (f *FSM) publish(changes []registry.Change, index, term, configuration uint64) {
	f.configuration.Store(configuration)
	f.feed.publish(changes)
	f.applied.publish(index, term)
}

func skipped(log *raft.Log) any {
	if log.Type != raft.LogCommand {
		return nil
	}
	return BatchResult{Index: log.Index, Stale: true}
}

// applyBatch applies b at index, unless its number says that it is a repetition or late.
func applyBatch(c *store.Change, index uint64, b Batch) BatchResult {
	if b.Origin != "" {
		epoch, number, results, at, found := c.Origin(b.Origin)
		switch {
		case !found:
		case epoch == b.Epoch && number == b.Number:
			return BatchResult{Index: at, Results: results}
		case epoch > b.Epoch, epoch == b.Epoch && number > b.Number:
			return BatchResult{Index: index, Stale: true}
		}
	}
	results := make([]registry.Result, 0, len(b.Commands))
	for _, command := range b.Commands {
		results = append(results, applyCommand(c, b.Origin, command))
	}
	if b.Origin != "" {
		c.SetOrigin(b.Origin, b.Epoch, b.Number, results)
	}
	return BatchResult{Index: index, Results: results}
}

// applyCommand applies one command. What a producer declares is its own peer's
// to say; a leader may end or suspend any session, and tombstones.
func applyCommand(c *store.Change, origin registry.NodeID, command registry.Command) registry.Result {
	switch m := command.(type) {
	case registry.OpenSession:
		if m.Session.Node != origin {
			return registry.ResultForeignSession
		}
		return c.OpenSession(m.Session, m.Producer)
	case registry.ResumeSession:
		if m.Session.Node != origin {
			return registry.ResultForeignSession
		}
		return c.ResumeSession(m.Session, m.Producer)
	case registry.Register:
		if m.Session.Node != origin {
			return registry.ResultForeignSession
		}
		return c.Register(m.Session, m.Producer, m.Topic, m.Channel)
	case registry.Unregister:
		if m.Session.Node != origin {
			return registry.ResultForeignSession
		}
		return c.Unregister(m.Session, m.Producer, m.Topic, m.Channel)
	case registry.CloseSession:
		return c.CloseSession(m.Session, m.Producer)
	case registry.SuspendSession:
		return c.SuspendSession(m.Session, m.Producer)
	case registry.CreateTopic:
		return c.CreateTopic(m.Topic)
	case registry.DeleteTopic:
		return c.DeleteTopic(m.Topic)
	case registry.CreateChannel:
		return c.CreateChannel(m.Topic, m.Channel)
	case registry.DeleteChannel:
		return c.DeleteChannel(m.Topic, m.Channel)
	case registry.Tombstone:
		return c.Tombstone(m.Topic, m.Node)
	case registry.EndTombstone:
		return c.EndTombstone(m.Topic, m.Producer, m.SetAt)
	}
	return registry.ResultUnchanged // Noop; DecodeBatch knows no other
}
