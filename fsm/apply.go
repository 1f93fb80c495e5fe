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

// ApplyBatch applies entries. They are committed, and told, when somebody waits
// for them or a moment later; raft's log has them anyway. The response to a
// command is a BatchResult, that to a configuration is nil. Entries that the
// state has already are skipped; their response is Stale.
func (f *FSM) ApplyBatch(logs []*raft.Log) []any {
	responses := make([]any, 0, len(logs))
	err := f.change(func() (err error) {
		responses, err = f.apply(logs, responses)
		return err
	})
	for len(responses) < len(logs) { // only after OnFatal returned
		responses = append(responses, err)
	}
	return responses
}

// entry is a log entry, decoded.
type entry struct {
	*raft.Log
	batch Batch
}

func decode(log *raft.Log) (e entry, err error) {
	e.Log = log
	if log.Type == raft.LogCommand {
		e.batch, err = DecodeBatch(log.Data)
	}
	return e, err
}

// apply returns the responses; after an error those to what is committed.
func (f *FSM) apply(logs []*raft.Log, responses []any) ([]any, error) {
	committed := 0
	for _, log := range logs {
		e, err := decode(log)
		if err != nil {
			return responses[:committed], fmt.Errorf("log entry %d: %w", log.Index, err)
		}
		if f.held != nil && f.held.commands+len(e.batch.Commands) > maxTransaction {
			if err := f.commit(); err != nil {
				return responses[:committed], err
			}
			committed = len(responses)
		}
		response, err := f.add(e)
		if err != nil {
			return responses[:committed], fmt.Errorf("apply log entry %d: %w", log.Index, err)
		}
		responses = append(responses, response)
	}
	if err := f.settle(); err != nil {
		return responses[:committed], err
	}
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
