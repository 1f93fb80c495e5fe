// Package report keeps what a run measured, judges it by the goals, and writes
// it as JSON, as text and into docs/benchmarks.md.
package report
