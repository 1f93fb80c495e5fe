package cluster

import (
	"context"
	"sync"
	"time"

	"github.com/lookupd/lookupd/fsm"
	"github.com/lookupd/lookupd/registry"
)

// lead does the leader's duties while this peer leads. It drains raft's
// notifications, on which raft's main loop blocks.
func (n *Node) lead(ctx context.Context) {
	var term *office
	for {
		select {
		case <-ctx.Done():
			term.close()
			return
		case leads := <-n.notify:
			term.close()
			term = nil
			if leads {
				term = n.openOffice(ctx)
			}
		}
	}
}

// office is the duties of one term.
type office struct {
	cancel context.CancelFunc
	duties sync.WaitGroup
}

func (n *Node) openOffice(ctx context.Context) *office {
	ctx, cancel := context.WithCancel(ctx)
	o := &office{cancel: cancel}
	o.duties.Go(func() { n.proposeNoop(ctx) })
	o.duties.Go(func() { n.endTombstones(ctx) })
	o.duties.Go(func() { n.endOrphans(ctx) })
	o.duties.Go(func() {
		pilot := n.newAutopilot(ctx)
		pilot.Start(ctx)
		n.pilot.Store(pilot)
		<-ctx.Done()
		n.pilot.Store(nil)
		<-pilot.Stop()
	})
	return o
}

// close ends the duties and waits for them; a nil office has none.
func (o *office) close() {
	if o != nil {
		o.cancel()
		o.duties.Wait()
	}
}

// proposeNoop puts the first command of the term into the log: only when an
// entry of its own term is applied does a leader know what older terms
// committed, and raft's own first entry never reaches the state machine.
func (n *Node) proposeNoop(ctx context.Context) {
	data, err := fsm.EncodeBatch(fsm.Batch{Commands: []registry.Command{registry.Noop{}}})
	if err != nil {
		n.fatal(err)
		return
	}
	for ctx.Err() == nil {
		attempt, cancel := context.WithTimeout(ctx, forwardWithin)
		_, err := n.applyBatch(attempt, data)
		cancel()
		if err == nil {
			return
		}
		n.log.Debug("first command of the term", "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(retryAfter):
		}
	}
}
