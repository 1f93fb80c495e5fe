package workload

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

func TestParseParts(t *testing.T) {
	if got, err := ParseParts(""); err != nil || !slices.Equal(got, Parts()) {
		t.Errorf("nothing: %v %v, want all parts", got, err)
	}
	if got, err := ParseParts("kill,lookup"); err != nil || !slices.Equal(got, []string{"kill", "lookup"}) {
		t.Errorf("%v %v", got, err)
	}
	for _, bad := range []string{"lookups", "lookup,", "lookup, kill"} {
		if got, err := ParseParts(bad); err == nil {
			t.Errorf("%q: %v, want an error", bad, got)
		}
	}
}

// The first success counts, whoever has it and however the others fare.
func TestFirstOf(t *testing.T) {
	var tries atomic.Int64
	before := time.Now()
	at := <-firstOf(context.Background(), 3, func(_ context.Context, j int) error {
		if j == 2 && tries.Add(1) == 3 {
			return nil
		}
		return errors.New("not yet")
	})
	if at.Before(before) || tries.Load() != 3 {
		t.Errorf("at %v after %d tries, want the third", at, tries.Load())
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if at := <-firstOf(ctx, 2, func(context.Context, int) error { return errors.New("never") }); !at.IsZero() {
		t.Errorf("nobody succeeded, and yet at %v", at)
	}
}
