package peer

import (
	"sync"

	"github.com/hashicorp/raft"
)

// AppendEntriesPipeline is the embedded transport's, whose pipelines cannot be
// left by raft while it sends.
func (t *transport) AppendEntriesPipeline(id raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error) {
	inner, err := t.NetworkTransport.AppendEntriesPipeline(id, target)
	if err != nil {
		return nil, err
	}
	p := &pipeline{
		AppendPipeline: inner, answers: make(chan raft.AppendFuture), closed: make(chan struct{}),
		transport: t, generation: t.generation.Load(), id: id, target: target,
	}
	go p.pass() // ends with Close, which raft calls
	return p, nil
}

// pipeline closes itself once an answer has made raft stop listening. Raft
// itself closes it only when its sender returns, and that may wait in
// AppendEntries, for ever, until somebody takes the answers: then the peer gets
// heartbeats and no entries any more, or the connection stays open beyond the
// leader's term (hashicorp/raft #612; may go when a release has its fix).
type pipeline struct {
	raft.AppendPipeline
	answers chan raft.AppendFuture
	closed  chan struct{}
	once    sync.Once

	transport  *transport
	generation uint64 // of the transport when it began
	id         raft.ServerID
	target     raft.ServerAddress
}

var _ raft.AppendPipeline = (*pipeline)(nil)

// Consumer gives raft the answers.
func (p *pipeline) Consumer() <-chan raft.AppendFuture { return p.answers }

// AppendEntries sends, unless connections were recycled since the pipeline began
// and it is its turn: raft then ends it, and begins another with a new connection.
func (p *pipeline) AppendEntries(args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	if p.transport.generation.Load() != p.generation && p.transport.mayEnd() {
		return nil, ErrRecycled
	}
	p.transport.teller.sent(p.id, p.target, args)
	return p.AppendPipeline.AppendEntries(args, resp)
}

// Close ends the pipeline and what waits in AppendEntries.
func (p *pipeline) Close() (err error) {
	p.once.Do(func() {
		close(p.closed)
		err = p.AppendPipeline.Close()
	})
	return err
}

// pass hands answers on, and closes the pipeline after the last that raft takes.
func (p *pipeline) pass() {
	for {
		select {
		case answer := <-p.AppendPipeline.Consumer():
			last := endsPipeline(answer)
			if !last {
				p.transport.teller.acknowledged(p.id, answer.Request())
			}
			select {
			case p.answers <- answer:
			case <-p.closed:
				return
			}
			if last {
				_ = p.Close() // raft has no use for it
				return
			}
		case <-p.closed:
			return
		}
	}
}

// endsPipeline reports whether raft stops listening after an answer.
func endsPipeline(answer raft.AppendFuture) bool {
	resp := answer.Response()
	return !resp.Success || resp.Term > answer.Request().Term
}
