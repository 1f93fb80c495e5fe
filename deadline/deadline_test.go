package deadline_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lookupd/lookupd/deadline"
)

func TestShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, end := context.WithCancel(t.Context())
		defer end()
		s := deadline.Within(parent, time.Second)
		first := s.Next()
		time.Sleep(10 * time.Millisecond)
		if s.Next() != first {
			t.Error("who asks 10 ms later gets another context")
		}
		time.Sleep(10 * time.Millisecond)
		second := s.Next()
		if second == first {
			t.Error("who asks 20 ms later gets the same context")
		}
		time.Sleep(980*time.Millisecond - time.Nanosecond)
		synctest.Wait()
		if first.Err() != nil {
			t.Error("it ends early")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if first.Err() != context.DeadlineExceeded || second.Err() != nil {
			t.Errorf("after a second: %v and %v", first.Err(), second.Err())
		}
		end()
		if second.Err() != context.Canceled {
			t.Error("it outlives its parent")
		}
	})
}
