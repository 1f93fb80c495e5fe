package logring_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/lookupd/lookupd/logring"
)

func write(t *testing.T, r *logring.Ring, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if n, err := r.Write([]byte(line)); n != len(line) || err != nil {
			t.Fatal(n, err)
		}
	}
}

func TestTheLatestLinesAreKept(t *testing.T) {
	r := logring.New(3, 1000)
	if lines, next := r.Last(10); len(lines) != 0 || next != 0 {
		t.Errorf("empty: %q, %d", lines, next)
	}
	write(t, r, "a\n", "b\n", "c\n", "d\n", "e\n")
	for _, test := range []struct {
		most int
		want []string
	}{{10, []string{"c\n", "d\n", "e\n"}}, {2, []string{"d\n", "e\n"}}, {0, nil}, {-1, nil}} {
		if lines, next := r.Last(test.most); !slices.Equal(lines, test.want) || next != 5 {
			t.Errorf("the last %d: %q, next %d", test.most, lines, next)
		}
	}
	for _, test := range []struct {
		from, first uint64
		want        []string
	}{{0, 2, []string{"c\n", "d\n", "e\n"}}, {4, 4, []string{"e\n"}}, {5, 5, nil}, {99, 5, nil}} {
		if lines, first, _ := r.From(test.from); !slices.Equal(lines, test.want) || first != test.first {
			t.Errorf("from %d: %q from %d on", test.from, lines, first)
		}
	}
}

func TestBytesAreBounded(t *testing.T) {
	r := logring.New(1000, 20<<10)
	for range 100 {
		write(t, r, strings.Repeat("x", 1<<10))
	}
	if lines, _ := r.Last(1000); len(lines) != 20 {
		t.Errorf("%d lines of 1 KiB in 20 KiB", len(lines))
	}
	write(t, r, strings.Repeat("y", 1<<20))
	if lines, _ := r.Last(1); len(lines[0]) > 9<<10 || !strings.HasSuffix(lines[0], "...\n") {
		t.Errorf("a line of %d bytes is kept", len(lines[0]))
	}
	small := logring.New(1000, 1)
	write(t, small, "longer than all that is kept\n")
	if lines, _ := small.Last(9); len(lines) != 1 {
		t.Errorf("not even the last line is kept: %q", lines)
	}
}

// TestReadersWait: each reader gets each line once, or learns that it missed some.
func TestReadersWait(t *testing.T) {
	const count = 2000
	r := logring.New(50, 1<<20)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for next := uint64(0); next < count; {
				lines, first, more := r.From(next)
				if len(lines) == 0 {
					<-more
					continue
				}
				for i, line := range lines {
					if want := fmt.Sprintln(first + uint64(i)); line != want {
						t.Errorf("line %d is %q", first+uint64(i), line)
						return
					}
				}
				next = first + uint64(len(lines))
			}
		})
	}
	for i := range count {
		write(t, r, fmt.Sprintln(i))
	}
	all.Wait()
}
