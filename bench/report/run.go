package report

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
)

// Metrics of measurements, and thereby their units.
const (
	Rate    = "rate" // operations per second
	P50     = "p50"  // microseconds
	P99     = "p99"  // microseconds
	CPU     = "cpu"  // microseconds of processor time of the measured processes per operation
	Seconds = "seconds"
	// CPUSeconds is processor time of the measured processes.
	CPUSeconds = "processor, seconds"
	P50Sec     = "p50 s"   //
	P99Sec     = "p99 s"   //
	Percent    = "percent" // of one core
	MB         = "MB"      // 1,000,000 bytes
	Entries    = "entries" // of the raft log
	Failed     = "failed"  // operations
)

// Run is everything that one run found.
type Run struct {
	Date         string
	Command      string
	Machine      Machine
	Versions     map[string]string
	Sizes        Sizes
	Notes        []string // what a reader must know, such as parts that did not run
	Measurements []*Measurement
}

// Machine is where it ran.
type Machine struct {
	Processor string
	Cores     int
	MemoryGB  float64
	System    string
}

// Sizes are the data sets and fleets of a run.
type Sizes struct {
	Rounds               int
	Small, Medium, Large int // topics
	Channels, Holders    int // of each topic
	Few, Many            int // topics of the parts that compare small and huge registries
	HugeProducers        int // of the huge one
	Declared             int // channels that one nsqd declares
	StormProducers       int
	StormTopics          int // of each
	IdleSessions         int
	Kills                int
	IsolatedWrites       int
}

// Registrations returns how many registrations so many topics make: a producer
// offers a topic and each of its channels.
func (s Sizes) Registrations(topics int) int { return topics * s.Holders * (1 + s.Channels) }

// Measurement is what one metric of one system was in each round.
type Measurement struct {
	Workload string
	System   string
	Metric   string
	Values   []float64
}

// Key names a measurement.
type Key struct{ Workload, System, Metric string }

// Add notes the value of a round.
func (r *Run) Add(k Key, value float64) {
	m := r.find(k)
	if m == nil {
		m = &Measurement{Workload: k.Workload, System: k.System, Metric: k.Metric}
		r.Measurements = append(r.Measurements, m)
	}
	m.Values = append(m.Values, value)
}

// Values returns the values of all rounds, nil if nothing was measured.
func (r *Run) Values(k Key) []float64 {
	if m := r.find(k); m != nil {
		return m.Values
	}
	return nil
}

// failed reports whether operations behind a measurement failed.
func (r *Run) failed(k Key) bool { return r.find(Key{k.Workload, k.System, Failed}) != nil }

func (r *Run) find(k Key) *Measurement {
	for _, m := range r.Measurements {
		if m.Workload == k.Workload && m.System == k.System && m.Metric == k.Metric {
			return m
		}
	}
	return nil
}

// Complete adds the workloads of another run of which this one has nothing, and
// notes it: ratios are only ever of one run.
func (r *Run) Complete(other *Run) {
	had := map[string]bool{}
	for _, m := range r.Measurements {
		had[m.Workload] = true
	}
	var added []string
	for _, m := range other.Measurements {
		if had[m.Workload] {
			continue
		}
		r.Measurements = append(r.Measurements, m)
		if !slices.Contains(added, m.Workload) {
			added = append(added, m.Workload)
		}
	}
	r.Notes = append(r.Notes, fmt.Sprintf("From another run, %s, `%s`, lookupd %s: %s.",
		other.Date, other.Command, other.Versions["lookupd"], strings.Join(added, "; ")))
}

// Write stores the run as JSON.
func (r *Run) Write(path string) error {
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

// Read loads what Write stored.
func Read(path string) (*Run, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := &Run{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}
