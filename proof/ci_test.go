package main

import (
	"strings"
	"testing"
)

func TestSaidLast(t *testing.T) {
	long := "proof: first" + strings.Repeat("\nmore", 100)
	for _, test := range []struct{ name, out, want string }{
		{"reason of several lines", "seed 1\nproof: early\nround\nproof: mixed: 1 violations\n  seed 7: stale\n", "mixed: 1 violations\n  seed 7: stale"},
		{"of another part's output", "corruption: proof: corruption: 1 violations\nproof: missed: [S2]\n", "missed: [S2]"},
		{"a panic", "seed 1\npanic: no\n", "panic: no"},
		{"an end without a reason", "seed 1\nround\n", "seed 1\nround"},
		{"a long panic", "seed 1\npanic: no" + strings.Repeat("\nmore", 100), "panic: no" + strings.Repeat("\nmore", 19)},
		{"nothing", "", ""},
		{"far too much", long, "first" + strings.Repeat("\nmore", 19)},
	} {
		if got := saidLast(test.out); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}
