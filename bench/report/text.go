package report

import (
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// figure writes a number with three significant digits, or whole if it is large.
func figure(v float64) string {
	switch a := math.Abs(v); {
	case a >= 1000:
		return number(int(math.Round(v)))
	case a >= 100 || v == math.Trunc(v):
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

// number writes n with commas.
func number(n int) string {
	digits := strconv.Itoa(n)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return number(n) + " " + noun + "s"
}

func (s Spread) ends() string {
	if s.Low == s.High {
		return ""
	}
	return figure(s.Low) + " - " + figure(s.High)
}

// goalRows returns the table of goals, its head first.
func goalRows(r *Run) [][]string {
	rows := [][]string{{"workload", "goal", "measured", "rounds from - to", "reached"}}
	for _, o := range Judge(r) {
		row := []string{o.Name, o.demand(), "", "", o.verdict()}
		if o.Measured {
			row[2], row[3] = figure(o.Median)+o.unit(), o.ends()
		}
		rows = append(rows, row)
	}
	return rows
}

// figureRows returns the table of what was measured, its head first.
func figureRows(r *Run) [][]string {
	rows := [][]string{{"workload", "system", "what", "median", "rounds from - to"}}
	for _, m := range r.Measurements {
		s := spreadOf(m.Values)
		rows = append(rows, []string{m.Workload, m.System, metricName(m.Metric), figure(s.Median), s.ends()})
	}
	return rows
}

func metricName(metric string) string {
	switch metric {
	case Rate:
		return "per second"
	case P50, P99:
		return metric + ", us"
	case CPU:
		return "processor, us each"
	}
	return metric
}

// WriteText writes the run as tables for a terminal.
func WriteText(out io.Writer, r *Run) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, rows := range [][][]string{figureRows(r), goalRows(r)} {
		for _, row := range rows {
			fmt.Fprintln(w, strings.Join(row, "\t"))
		}
		fmt.Fprintln(w)
	}
	for _, line := range facts(r) {
		fmt.Fprintln(w, line)
	}
	return w.Flush()
}

// facts returns what belongs beside the tables.
func facts(r *Run) []string {
	s := r.Sizes
	lines := []string{
		fmt.Sprintf("%s, `%s`", r.Date, r.Command),
		fmt.Sprintf("%s, %s, %.1f GB, %s", r.Machine.Processor, count(r.Machine.Cores, "core"), r.Machine.MemoryGB, r.Machine.System),
	}
	for _, name := range slices.Sorted(maps.Keys(r.Versions)) {
		lines = append(lines, name+" "+r.Versions[name])
	}
	lines = append(lines, fmt.Sprintf("Each topic has %s and %s.", count(s.Channels, "channel"), count(s.Holders, "producer")))
	return append(lines, r.Notes...)
}

// The lines of docs/benchmarks.md between which a run is written.
const (
	beginMark = "<!-- begin of what bench report writes -->"
	endMark   = "<!-- end of what bench report writes -->"
)

// WriteMarkdown replaces what stands between the marks of a document.
func WriteMarkdown(path string, r *Run) error {
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	text, err := between(string(old), markdown(r))
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

func between(text, section string) (string, error) {
	before, rest, ok := strings.Cut(text, beginMark)
	_, after, ok2 := strings.Cut(rest, endMark)
	if !ok || !ok2 {
		return "", fmt.Errorf("lacks the lines %q and %q", beginMark, endMark)
	}
	return before + beginMark + "\n" + section + endMark + after, nil
}

func markdown(r *Run) string {
	var b strings.Builder
	for _, line := range facts(r) {
		fmt.Fprintln(&b, "-", line)
	}
	fmt.Fprintln(&b)
	markdownTable(&b, goalRows(r))
	fmt.Fprint(&b, "\n<details><summary>All figures</summary>\n\n")
	markdownTable(&b, figureRows(r))
	fmt.Fprint(&b, "\n</details>\n")
	return b.String()
}

func markdownTable(b *strings.Builder, rows [][]string) {
	for i, row := range rows {
		fmt.Fprintf(b, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			fmt.Fprintln(b, strings.Repeat("|---", len(row))+"|")
		}
	}
}
