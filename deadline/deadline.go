// Package deadline makes contexts for many short waits, which a timer and a
// context of its own each would make dear.
//
// It does not tell waits apart: nobody can end one wait alone.
package deadline

import (
	"context"
	"sync"
	"time"
)

// Shared gives contexts that end with its parent, or after a time that is the
// same for all; who asks at about the same time gets the same one. Its methods
// may be called from any goroutine.
type Shared struct {
	parent context.Context
	within time.Duration

	mu    sync.Mutex
	ctx   context.Context
	until time.Time // when the next one is made
}

// sharedFor is the part of a wait for which others may join it.
const sharedFor = 50

// Within returns a Shared whose contexts end within, or up to a fiftieth of that earlier.
func Within(parent context.Context, within time.Duration) *Shared {
	return &Shared{parent: parent, within: within}
}

// Next returns a context. It ends by itself.
func (s *Shared) Next() context.Context {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx == nil || !now.Before(s.until) {
		ctx, cancel := context.WithTimeout(s.parent, s.within)
		context.AfterFunc(ctx, cancel) // for nothing but its resources: it has ended
		s.ctx, s.until = ctx, now.Add(s.within/sharedFor)
	}
	return s.ctx
}
