package report

import (
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestSpread(t *testing.T) {
	for _, test := range []struct {
		values []float64
		want   Spread
	}{
		{[]float64{3}, Spread{3, 3, 3}},
		{[]float64{9, 1, 5}, Spread{5, 1, 9}},
		{[]float64{4, 1, 2, 100}, Spread{3, 1, 100}},
	} {
		if got := spreadOf(test.values); got != test.want {
			t.Errorf("spread of %v: %v, want %v", test.values, got, test.want)
		}
	}
}

func TestRatio(t *testing.T) {
	for _, test := range []struct {
		name     string
		of, over []float64
		want     Spread
	}{
		// Both halve in the second round: the ratio of a round is steady.
		{"rounds go together", []float64{100, 50, 100}, []float64{50, 25, 50}, Spread{2, 2, 2}},
		{"the ratio of medians, not the median of ratios", []float64{10, 20, 60}, []float64{10, 5, 20}, Spread{2, 1, 4}},
		{"unlike numbers of rounds", []float64{10, 20, 30}, []float64{5, 10}, Spread{20 / 7.5, 1, 6}},
		{"nothing to divide by", []float64{1}, []float64{0}, Spread{}},
	} {
		if got := ratioOf(test.of, test.over); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

func TestJudge(t *testing.T) {
	of, over := Key{"w", "a", Rate}, Key{"w", "b", Rate}
	for _, test := range []struct {
		name     string
		goal     Goal
		of, over []float64
		measured bool
		verdict  string
	}{
		{"reached exactly", Goal{Of: of, Over: over, bound: atLeast, limit: 2}, []float64{2}, []float64{1}, true, "yes"},
		{"just missed", Goal{Of: of, Over: over, bound: atLeast, limit: 2}, []float64{1.99}, []float64{1}, true, "NO"},
		{"at most, reached", Goal{Of: of, Over: over, bound: atMost, limit: 2}, []float64{2}, []float64{1}, true, "yes"},
		{"at most, missed", Goal{Of: of, Over: over, bound: atMost, limit: 2}, []float64{2.01}, []float64{1}, true, "NO"},
		{"nothing of the one", Goal{Of: of, Over: over, bound: atMost, limit: 2}, nil, []float64{1}, false, "not measured"},
		{"nothing of the other", Goal{Of: of, Over: over, bound: atLeast, limit: 2}, []float64{9}, nil, false, "not measured"},
		{"nothing to divide by", Goal{Of: of, Over: over, bound: atMost, limit: 1}, []float64{9}, []float64{0}, false, "not measured"},
		{"a value, zero", Goal{Of: of, bound: atMost, limit: 0}, []float64{0, 0}, nil, true, "yes"},
		{"the median counts", Goal{Of: of, bound: atMost, limit: 5}, []float64{1, 2, 9}, nil, true, "yes"},
		{"each round counts", Goal{Of: of, bound: atMost, limit: 5, worst: true}, []float64{1, 2, 9}, nil, true, "NO"},
		{"reported", Goal{Of: of}, []float64{1}, nil, true, "-"},
	} {
		r := &Run{}
		for _, v := range test.of {
			r.Add(of, v)
		}
		for _, v := range test.over {
			r.Add(over, v)
		}
		o := judge(r, test.goal)
		if o.Measured != test.measured || o.verdict() != test.verdict {
			t.Errorf("%s: measured %v, %s; want %v, %s", test.name, o.Measured, o.verdict(), test.measured, test.verdict)
		}
	}
}

// A failed operation must not pass for a fast one.
func TestFailedOperationsSpoilAGoal(t *testing.T) {
	of := Key{"w", "a", Rate}
	r := &Run{}
	r.Add(of, 100)
	goal := Goal{Of: of, bound: atLeast, limit: 1}
	if o := judge(r, goal); o.verdict() != "yes" {
		t.Fatalf("without failures: %s", o.verdict())
	}
	r.Add(Key{"w", "a", Failed}, 3)
	if o := judge(r, goal); o.verdict() != "NO, some failed" {
		t.Errorf("with failures: %s", o.verdict())
	}
}

func TestGoalsAreEachOnce(t *testing.T) {
	seen := map[string]bool{}
	for _, g := range goals(Sizes{Small: 10, Medium: 1000, Large: 10_000, Channels: 5, Holders: 3, Few: 56, Many: 55_556}) {
		if seen[g.Name] || g.Of == g.Over {
			t.Errorf("goal %q: twice, or of itself", g.Name)
		}
		seen[g.Name] = true
	}
	if want := "lookup p50: 1,000,008 registrations / 1,008 registrations"; !seen[want] {
		t.Errorf("no goal %q in %v", want, seen)
	}
}

func TestFigure(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 0.8: "0.80", 2: "2", 2.341: "2.34", 23.46: "23.5", 234.6: "235", 23456.7: "23,457", 1e6: "1,000,000",
	} {
		if got := figure(v); got != want {
			t.Errorf("%v: %q, want %q", v, got, want)
		}
	}
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", -1234567: "-1,234,567"} {
		if got := number(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

func TestRunSurvivesItsFile(t *testing.T) {
	r := &Run{Date: "today", Versions: map[string]string{"etcd": "v3"}, Sizes: Sizes{Rounds: 5}, Notes: []string{"n"}}
	r.Add(Key{"w", "a", Rate}, 1)
	r.Add(Key{"w", "a", Rate}, 2)
	r.Add(Key{"w", "b", Rate}, 3)
	path := filepath.Join(t.TempDir(), "out.json")
	if err := r.Write(path); err != nil {
		t.Fatal(err)
	}
	got, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, r) {
		t.Errorf("%+v, want %+v", got, r)
	}
}

func TestBetween(t *testing.T) {
	page := "before\n" + beginMark + "\nold\n" + endMark + "\nafter\n"
	got, err := between(page, "new\n")
	if want := "before\n" + beginMark + "\nnew\n" + endMark + "\nafter\n"; err != nil || got != want {
		t.Errorf("%q %v, want %q", got, err, want)
	}
	for _, bad := range []string{"", beginMark, endMark + beginMark} {
		if _, err := between(bad, "new"); err == nil || !strings.Contains(err.Error(), "begin") {
			t.Errorf("%q: %v, want an error that names the lines", bad, err)
		}
	}
}

func TestComplete(t *testing.T) {
	r, other := &Run{}, &Run{Date: "then", Command: "bench -only b", Versions: map[string]string{"lookupd": "v2"}}
	a, b := Key{"a", "lookupd", Rate}, Key{"b", "lookupd", Rate}
	r.Add(a, 1)
	other.Add(a, 2)
	other.Add(b, 3)
	r.Complete(other)
	if got := r.Values(a); !reflect.DeepEqual(got, []float64{1}) {
		t.Errorf("what was measured became %v", got)
	}
	if got := r.Values(b); !reflect.DeepEqual(got, []float64{3}) {
		t.Errorf("what was missing is %v", got)
	}
	if want := []string{"From another run, then, `bench -only b`, lookupd v2: b."}; !reflect.DeepEqual(r.Notes, want) {
		t.Errorf("notes: %q", r.Notes)
	}
}
