package report

import (
	"math"
	"slices"
)

// Spread is the middle and the ends of some values.
type Spread struct{ Median, Low, High float64 }

// spreadOf returns the median of values, of which there must be one, and the
// lowest and the highest.
func spreadOf(values []float64) Spread {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return Spread{Median: (sorted[(n-1)/2] + sorted[n/2]) / 2, Low: sorted[0], High: sorted[n-1]}
}

// ratioOf returns the ratio of the medians; its ends are those of the ratios
// within rounds, in which both were measured one soon after the other. With
// unlike numbers of rounds the ends are the worst that the values allow.
func ratioOf(of, over []float64) Spread {
	a, b := spreadOf(of), spreadOf(over)
	if len(of) != len(over) {
		return Spread{Median: divide(a.Median, b.Median), Low: divide(a.Low, b.High), High: divide(a.High, b.Low)}
	}
	ratios := make([]float64, len(of))
	for i := range of {
		ratios[i] = divide(of[i], over[i])
	}
	ends := spreadOf(ratios)
	return Spread{Median: divide(a.Median, b.Median), Low: ends.Low, High: ends.High}
}

// divide is a/b, and 0 rather than a number that JSON cannot hold.
func divide(a, b float64) float64 {
	if q := a / b; !math.IsInf(q, 0) && !math.IsNaN(q) {
		return q
	}
	return 0
}
