package fsm

import (
	"fmt"
	"time"

	"github.com/hashicorp/raft"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
	"github.com/lookupd/lookupd/witness"
)

// Apply applies one entry; raft calls it only to recover a cluster by hand.
func (f *FSM) Apply(log *raft.Log) any {
	return f.ApplyBatch([]*raft.Log{log})[0]
}

// maxTransaction is about how many commands one transaction takes. bbolt splits
// pages only at the commit, so a page that takes n rows costs n^2 (150,000
// REGISTERs in one transaction took 30 s, in small ones 3).
const maxTransaction = 2048

// ApplyBatch applies entries, in one transaction unless they are many. The
// response to a command is a BatchResult, that to a configuration is nil.
// Entries that the state has already are skipped; their response is Stale.
func (f *FSM) ApplyBatch(logs []*raft.Log) []any {
	responses := make([]any, 0, len(logs))
	if f.failed == nil {
		var err error
		if responses, err = f.apply(logs, responses); err != nil {
			f.fatal(err)
		}
	}
	for len(responses) < len(logs) { // only after OnFatal returned
		responses = append(responses, f.failed)
	}
	return responses
}

// entry is a log entry, decoded.
type entry struct {
	*raft.Log
	batch Batch
}

func (f *FSM) apply(logs []*raft.Log, responses []any) ([]any, error) {
	var entries []entry
	commands := 0
	for i, log := range logs {
		e := entry{Log: log}
		if log.Type == raft.LogCommand {
			var err error
			if e.batch, err = DecodeBatch(log.Data); err != nil {
				return responses, fmt.Errorf("log entry %d: %w", log.Index, err)
			}
		}
		entries = append(entries, e)
		commands += len(e.batch.Commands)
		if commands < maxTransaction && i < len(logs)-1 {
			continue
		}
		applied, err := f.transact(entries)
		if err != nil {
			return responses, fmt.Errorf("apply log entries %d to %d: %w", entries[0].Index, log.Index, err)
		}
		responses = append(responses, applied...)
		entries, commands = nil, 0
	}
	return responses, nil
}

// transact applies entries in one transaction and publishes what it did.
func (f *FSM) transact(entries []entry) (responses []any, err error) {
	var (
		changes                    []registry.Change
		marked                     []HashMark
		index, term, configuration uint64
	)
	began := time.Now()
	err = f.state.Load().Update(func(c *store.Change) error {
		for _, e := range entries {
			responses = append(responses, applyEntry(c, e))
			if events := c.TakeEvents(); len(events) > 0 {
				changes = append(changes, registry.Change{Index: e.Index, Events: events})
			}
			// A skipped entry is not where the state is.
			if at, _ := c.Applied(); at == e.Index && at%markEvery == 0 {
				marked = append(marked, HashMark{Index: at, Hash: c.Hash()})
			}
		}
		index, term = c.Applied()
		configuration = c.ConfigurationIndex()
		return nil
	})
	if err != nil {
		return nil, err
	}
	if f.config.Took != nil {
		f.config.Took(time.Since(began))
	}
	for _, e := range entries {
		f.unsaved.Add(int64(len(e.batch.Commands)))
	}
	if witness.On {
		for _, e := range entries {
			witness.Applied(e.Index, e.Term, uint8(e.Type), e.Data)
		}
	}
	// The feed first, so that who waited for the index finds its changes there.
	f.configuration.Store(configuration)
	f.marks.add(marked)
	f.feed.publish(changes)
	f.applied.publish(index, term)
	return responses, nil
}

func applyEntry(c *store.Change, e entry) any {
	if applied, _ := c.Applied(); e.Index <= applied {
		if e.Type != raft.LogCommand {
			return nil
		}
		return BatchResult{Index: e.Index, Stale: true}
	}
	c.Entry(e.Index, e.Term, e.batch.Origin)
	if e.Type == raft.LogConfiguration {
		c.SetConfiguration()
		return nil
	}
	return applyBatch(c, e.Index, e.batch)
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

// applyCommand applies one command. A session is its own peer's to change; only
// a leader may end another's, in the term in which it decided to.
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
		if m.Session.Node != origin {
			return registry.ResultForeignSession
		}
		return c.CloseSession(m.Session, m.Producer)
	case registry.EndOrphan:
		if _, term := c.Applied(); m.Term != term {
			return registry.ResultTermEnded
		}
		return c.CloseSession(m.Session, m.Producer)
	case registry.SuspendSession:
		if m.Session.Node != origin {
			return registry.ResultForeignSession
		}
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
